"""Tables, constraints and indexes, the same on every database but for some references, see `is_checked`.

The database holds the invariants: who may be claimed, which numbers add up, that no list is kept by two exports. The
numbered steps in `migrations/` lead here; a test compares the two.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.types import TypeDecorator

# Which waiting members are called for first.
LIVE, BACKFILL = 0, 1

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware UTC time, kept as whole microseconds since 1970, so that both databases order and index it alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - its interface
        """Microseconds since 1970."""
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - its interface
        """The time, aware and in UTC."""
        return None if value is None else EPOCH + value * MICROSECOND


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# Of references to an export, in tables that get a row with each webhook: see `is_checked`. That the export stays its
# totals see to, which refer to it too.
UNCHECKED_ON_POSTGRESQL = {"is_unchecked_on_postgresql": True}

# SQLite numbers rows by itself only where the key is declared INTEGER.
Key = BigInteger().with_variant(Integer, "sqlite")

exports = Table(
    "exports",
    metadata,
    Column("id", Key, primary_key=True),
    Column("audience_id", String(128), nullable=False),
    Column("audience_slug", String(256), nullable=False),
    Column("audience_name", Text),
    Column("account", String(64), nullable=False),
    Column("email_field", String(256), nullable=False),
    Column("fields", JSON, nullable=False),
    Column("field_types", JSON, nullable=False, server_default="{}"),
    Column("list_name", String(128)),
    Column("list_id", String(64)),
    Column("list_ready_at", Moment),
    # Who makes the list, and until when nobody else may.
    Column("list_lease", BigInteger),
    Column("list_leased_until", Moment),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    # Members up to this id have been made due since the export began to run; null once all have been.
    Column("waking_from", BigInteger),
    # What somebody did to the list, while the state says so; and who else was on it at the last look.
    Column("list_change", String(16)),
    Column("list_others", BigInteger),
    Column("list_others_in_doubt", BigInteger, nullable=False, server_default="0"),
    # The list is another one: members up to this id are not taken for being on it any more; null once all are not.
    Column("doubting_from", BigInteger),
    # It was stopped in favour of this export, which takes over all that was kept for it and not told.
    Column("merged_into", BigInteger),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("audience_id", "account"),
    CheckConstraint(
        "state in ('needs_name', 'name_taken', 'running', 'paused', 'stopped', 'list_changed')", name="state"
    ),
    CheckConstraint("state <> 'running' or list_name is not null", name="running_has_list"),
)
# Two audiences must never share a list: each would take off the other's people.
Index("uq_exports_account_list_name", exports.c.account, exports.c.list_name, unique=True)

totals = Table(
    "totals",
    metadata,
    Column("export_id", ForeignKey("exports.id"), primary_key=True, autoincrement=False),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in (
            "accepted",
            "delivered",
            "superseded",
            "pending",
            "dead",
            "erased",
            "cancelled",
            "stale",
            "members",
        )
    ),
    Column("last_event_at", Moment),
    CheckConstraint("accepted = delivered + superseded + pending + dead + erased + cancelled", name="add_up"),
    CheckConstraint("pending >= 0 and dead >= 0 and members >= 0", name="not_negative"),
)

members = Table(
    "members",
    metadata,
    Column("id", Key, primary_key=True),
    Column("account", String(64), nullable=False),
    Column("address", String(320), nullable=False),
    # Set while something may wait to be told for a running export: when to call. While leased: when the lease ends.
    Column("due_at", Moment),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("lease", BigInteger),
    # The address first, so that a person is found in all accounts at once.
    UniqueConstraint("address", "account"),
    CheckConstraint("lease is null or due_at is not null", name="leased_is_due"),
)
# What a claim reads. It holds only who is due, so that its cost does not grow with who is settled.
Index(
    "ix_members_due",
    members.c.account,
    members.c.priority,
    members.c.due_at,
    sqlite_where=text("due_at is not null"),
    postgresql_where=text("due_at is not null"),
)

memberships = Table(
    "memberships",
    metadata,
    Column("member_id", ForeignKey("members.id"), primary_key=True, autoincrement=False),
    Column(
        "export_id",
        ForeignKey("exports.id", info=UNCHECKED_ON_POSTGRESQL),
        primary_key=True,
        autoincrement=False,
    ),
    Column("wanted", Boolean, key="desired", nullable=False),
    Column("told", String(8), key="confirmed", nullable=False),
    Column("moved_at_ns", BigInteger),
    Column("moved_message_at_ns", BigInteger),
    Column("fields_at_ns", BigInteger),
    Column("lytics_id", String(256)),
    Column("vars", JSON, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("told_revision", BigInteger, key="confirmed_revision", nullable=False),
    Column("told_vars", String(32), key="confirmed_vars"),
    Column("told_at", Moment, key="confirmed_at"),
    Column("dead_code", String(64)),
    Column("dead_at", Moment),
    # By the account's running clock, which stands still while the account is paused; see `accounts`.
    Column("first_failed_at", Moment),
    Column("accepted_at", Moment),
    # The digest of the address that was erased: all that is left is its last call. It is counted nowhere any more.
    Column("erasure", String(64)),
    CheckConstraint("told in ('never', 'in', 'out', 'unknown')", name="told"),
    CheckConstraint("told_revision <= revision", name="told_revision"),
    CheckConstraint("dead_code is null or told_revision = revision", name="dead_is_not_pending"),
    CheckConstraint("(moved_at_ns is null) = (moved_message_at_ns is null)", name="move_is_whole"),
)
# Who waits, by export: read when a paused or nameless export begins to run.
Index(
    "ix_memberships_pending",
    memberships.c.export_id,
    memberships.c.member_id,
    sqlite_where=text("revision > told_revision"),
    postgresql_where=text("revision > told_revision"),
)
# The one who waits for longest, for the metrics.
Index(
    "ix_memberships_oldest_pending",
    memberships.c.export_id,
    memberships.c.accepted_at,
    sqlite_where=text("revision > told_revision"),
    postgresql_where=text("revision > told_revision"),
)

# The dead letters, which people page through and redrive.
Index(
    "ix_memberships_dead",
    memberships.c.export_id,
    memberships.c.member_id,
    sqlite_where=text("dead_code is not null"),
    postgresql_where=text("dead_code is not null"),
)

# Who was erased and waits for the end of a call, or for a list to be left.
Index(
    "ix_memberships_erasure",
    memberships.c.erasure,
    sqlite_where=text("erasure is not null"),
    postgresql_where=text("erasure is not null"),
)

identities = Table(
    "identities",
    metadata,
    Column(
        "export_id",
        ForeignKey("exports.id", info=UNCHECKED_ON_POSTGRESQL),
        primary_key=True,
        autoincrement=False,
    ),
    Column("lytics_id", String(256), primary_key=True),
    # The newest move of this Lytics user, and the member it holds while in. Null only until an older version decides.
    Column("moved_at_ns", BigInteger),
    Column("moved_message_at_ns", BigInteger),
    Column("is_enter", Boolean),
    Column("member_id", ForeignKey("members.id")),
    CheckConstraint("member_id is null or is_enter", name="holds_while_in"),
)
# Whom a member belongs to: read when somebody is erased, and by the database itself when a member goes.
Index(
    "ix_identities_member_id",
    identities.c.member_id,
    sqlite_where=text("member_id is not null"),
    postgresql_where=text("member_id is not null"),
)

journal = Table(
    "journal",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("member_id", ForeignKey("members.id"), nullable=False),
    Column("export_id", ForeignKey("exports.id", info=UNCHECKED_ON_POSTGRESQL)),
    Column("what", String(16), nullable=False),
    Column("detail", JSON, nullable=False),
)
Index("ix_journal_member_id", journal.c.member_id, journal.c.id)

unexported = Table(
    "unexported",
    metadata,
    Column("audience_id", String(128), primary_key=True),
    Column("audience_slug", String(256), nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("last_event_at", Moment, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("account", String(64), primary_key=True),
    # Why no call leaves but probes: credentials refused, or nobody gets an answer; null while it runs.
    Column("pause", String(16)),
    Column("code", String(64)),
    Column("reason", Text),
    Column("paused_at", Moment),
    # Failed so far in this pause, and when the next one is due.
    Column("probes", Integer, nullable=False, server_default="0"),
    Column("probe_at", Moment),
    # How long all earlier pauses were, in microseconds: what the running clock lags behind.
    Column("paused_for_us", BigInteger, nullable=False, server_default="0"),
    CheckConstraint("pause is null or pause in ('refused', 'outage')", name="pause"),
    CheckConstraint("(pause is null) = (paused_at is null)", name="pause_is_whole"),
)

rejected_events = Table(
    "rejected_events",
    metadata,
    Column("id", Key, primary_key=True),
    Column("at", Moment, nullable=False),
    Column("reason", String(64), nullable=False),
    Column("happened", Text, nullable=False),
    # Of the whole request as far as it was read.
    Column("body_bytes", BigInteger, nullable=False),
    # A sketch, without any value of a profile.
    Column("body", Text, nullable=False),
)

# Who is kept out, by digests that only the holder of ERASURE_KEY can make: of the address, and of each Lytics user.
erasures = Table(
    "erasures",
    metadata,
    Column("digest", String(64), primary_key=True),
    # The address that was erased, and for which all its digests are lifted.
    Column("address_digest", String(64), nullable=False),
    # Tells with which key it was made.
    Column("key_id", String(16), nullable=False),
    Column("was_known", Boolean, nullable=False),
    Column("erased_at", Moment, nullable=False),
)
Index("ix_erasures_address_digest", erasures.c.address_digest)

# One row for each export and minute in which something happened.
minute_counts = Table(
    "minute_counts",
    metadata,
    Column("export_id", ForeignKey("exports.id"), primary_key=True, autoincrement=False),
    Column("minute", Moment, primary_key=True, autoincrement=False),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in ("accepted", "delivered", "superseded", "dead", "stale")
    ),
)
Index("ix_minute_counts_minute", minute_counts.c.minute)

# How many changes were told in a minute, by how long that took: see `app.domain.freshness`.
minute_latencies = Table(
    "minute_latencies",
    metadata,
    Column("export_id", ForeignKey("exports.id"), primary_key=True, autoincrement=False),
    Column("minute", Moment, primary_key=True, autoincrement=False),
    Column("bucket", Integer, primary_key=True, autoincrement=False),
    Column("told", BigInteger, key="confirmed", nullable=False),
)
Index("ix_minute_latencies_minute", minute_latencies.c.minute)

backfills = Table(
    "backfills",
    metadata,
    Column("id", Key, primary_key=True),
    Column("export_id", ForeignKey("exports.id"), nullable=False),
    Column("is_dry_run", Boolean, nullable=False),
    Column("state", String(24), nullable=False),
    Column("cursor", Text),
    Column("pages", BigInteger, nullable=False, server_default="0"),
    Column("scanned", BigInteger, nullable=False, server_default="0"),
    Column("queued", BigInteger, nullable=False, server_default="0"),
    Column("skipped", JSON, nullable=False, server_default="{}"),
    Column("total", BigInteger),
    Column("seen_at", Moment),
    Column("restarts", Integer, nullable=False, server_default="0"),
    Column("checkpoint", Text),
    Column("checkpoint_page", BigInteger, nullable=False, server_default="1"),
    Column("reason", Text),
    Column("waiting_for", Text),
    Column("paged_at", Moment),
    Column("rate_then", Float),
    # Who runs it, and until when nobody else may.
    Column("lease", BigInteger),
    Column("leased_until", Moment),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
    CheckConstraint(
        "state in ('queued', 'running', 'waiting', 'needs_confirmation', 'completed', 'failed', 'cancelled')",
        name="state",
    ),
)
# One at a time for an export.
Index(
    "uq_backfills_export_id",
    backfills.c.export_id,
    unique=True,
    sqlite_where=text("ended_at is null"),
    postgresql_where=text("ended_at is null"),
)

# What a run would have done for an address by now: what a dry run remembers of its former pages.
dry_run_people = Table(
    "dry_run_people",
    metadata,
    Column("backfill_id", ForeignKey("backfills.id"), primary_key=True, autoincrement=False),
    Column("digest", String(32), primary_key=True),
    Column("effect", String(8), nullable=False),
)

# How many calls of an account's endpoint the replicas have taken in the window of Sailthru that ends then (a minute, in
# seconds since 1970 by Sailthru's clock), and in the one before.
budgets = Table(
    "budgets",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("endpoint", String(64), primary_key=True),
    *(
        Column(name, BigInteger, nullable=False, server_default="0")
        for name in ("window_ends", "taken", "backfills", "taken_before", "backfills_before")
    ),
)

# What one replica does for all, and when it is due again.
chores = Table(
    "chores",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("next_at", Moment, nullable=False),
)

# `exports` goes up with every change of an export, so that a replica knows whether it remembers the newest. `schema` is
# the oldest step whose program still works with these tables: older replicas go on beside newer ones.
versions = Table(
    "versions",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
