"""Tables, constraints and indexes. They are the same on both databases, except for the references in `is_checked`.

The database enforces invariants: counts add up, a lease has an end, and no two exports share a list. The migrations in
`migrations/` lead to this schema; a test compares the two.
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

# Priorities of due members: live changes go before backfills.
LIVE, BACKFILL = 0, 1

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Moment(TypeDecorator[datetime]):
    """An aware UTC time, stored as microseconds since 1970, so that both databases order and index it alike."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - SQLAlchemy's interface
        return None if value is None else (value - EPOCH) // MICROSECOND

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's interface
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

# Marks references to an export in tables that get rows with each webhook, see `is_checked`. Exports can't be deleted
# anyway, since their rows in `totals` refer to them too.
UNCHECKED_ON_POSTGRESQL = {"is_unchecked_on_postgresql": True}

# SQLite assigns ids only if the key is declared INTEGER.
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
    # The lease of the worker that creates the list, and when it ends.
    Column("list_lease", BigInteger),
    Column("list_leased_until", Moment),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    # The export began to run: pending members after this id still have to be made due. Null when all are due.
    Column("waking_from", BigInteger),
    # The change of the list while the state is `list_changed`; the number of other addresses at the last check.
    Column("list_change", String(16)),
    Column("list_others", BigInteger),
    Column("list_others_in_doubt", BigInteger, nullable=False, server_default="0"),
    # The list was replaced: members after this id still have to be marked as unconfirmed. Null when all are marked.
    Column("doubting_from", BigInteger),
    # The export that takes over the pending changes of this stopped one.
    Column("merged_into", BigInteger),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("audience_id", "account"),
    CheckConstraint(
        "state in ('needs_name', 'name_taken', 'running', 'paused', 'stopped', 'list_changed')", name="state"
    ),
    CheckConstraint("state <> 'running' or list_name is not null", name="running_has_list"),
)
# Two audiences must never share a list: each would remove the members of the other.
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
    # When to call the member; null if nothing is pending in a running export. While leased, the end of the lease.
    Column("due_at", Moment),
    Column("priority", Integer, nullable=False, server_default="0"),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("lease", BigInteger),
    # The address comes first, so that one search finds it in all accounts.
    UniqueConstraint("address", "account"),
    CheckConstraint("lease is null or due_at is not null", name="leased_is_due"),
)
# A claim reads this index. It holds only due members, so the cost of a claim does not grow with settled members.
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
    # By the account's retry clock, which stands still while the circuit breaker is open.
    Column("first_failed_at", Moment),
    Column("accepted_at", Moment),
    # The digest of the erased address. The row only waits for its last call, and is not counted.
    Column("erasure", String(64)),
    CheckConstraint("told in ('never', 'in', 'out', 'unknown')", name="told"),
    CheckConstraint("told_revision <= revision", name="told_revision"),
    CheckConstraint("dead_code is null or told_revision = revision", name="dead_is_not_pending"),
    CheckConstraint("(moved_at_ns is null) = (moved_message_at_ns is null)", name="move_is_whole"),
)
# Pending members of an export, read when a paused or nameless export begins to run.
Index(
    "ix_memberships_pending",
    memberships.c.export_id,
    memberships.c.member_id,
    sqlite_where=text("revision > told_revision"),
    postgresql_where=text("revision > told_revision"),
)
# The oldest pending change of an export, for the metrics.
Index(
    "ix_memberships_oldest_pending",
    memberships.c.export_id,
    memberships.c.accepted_at,
    sqlite_where=text("revision > told_revision"),
    postgresql_where=text("revision > told_revision"),
)

# Dead letters, for pages and redrives.
Index(
    "ix_memberships_dead",
    memberships.c.export_id,
    memberships.c.member_id,
    sqlite_where=text("dead_code is not null"),
    postgresql_where=text("dead_code is not null"),
)

# Erased memberships that wait for the end of a call or for their removal from the list.
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
    # The newest move of this Lytics user, and the user's member while in. Null only in rows of an older version.
    Column("moved_at_ns", BigInteger),
    Column("moved_message_at_ns", BigInteger),
    Column("is_enter", Boolean),
    Column("member_id", ForeignKey("members.id")),
    CheckConstraint("member_id is null or is_enter", name="holds_while_in"),
)
# The Lytics users of a member, read by an erasure, and by the database when a member is deleted.
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
    # Why the circuit breaker is open; null while it is closed.
    Column("pause", String(16), key="open_reason"),
    Column("code", String(64)),
    Column("reason", Text, key="message"),
    Column("paused_at", Moment, key="opened_at"),
    # Failed probes since it opened, and when the next probe is due.
    Column("probes", Integer, key="failed_probes", nullable=False, server_default="0"),
    Column("probe_at", Moment),
    # The sum of all earlier open periods. The retry clock is behind by this time.
    Column("paused_for_us", BigInteger, key="was_open_for_us", nullable=False, server_default="0"),
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
    # Number of bytes of the request that were read.
    Column("body_bytes", BigInteger, nullable=False),
    # An outline without any value of a profile.
    Column("body", Text, nullable=False),
)

# Erased members, as digests that only the holder of ERASURE_KEY can make: of the address and of each Lytics user.
erasures = Table(
    "erasures",
    metadata,
    Column("digest", String(64), primary_key=True),
    # The digest of the erased address. Lifting an erasure deletes all rows with this digest.
    Column("address_digest", String(64), nullable=False),
    # Identifies the key.
    Column("key_id", String(16), nullable=False),
    Column("was_known", Boolean, nullable=False),
    Column("erased_at", Moment, nullable=False),
)
Index("ix_erasures_address_digest", erasures.c.address_digest)

# One row for each export and minute with any count.
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

# Number of changes confirmed in a minute, by bucket of their duration: see `app.domain.freshness`.
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
    # The lease of the worker that runs it, and when it ends.
    Column("lease", BigInteger),
    Column("leased_until", Moment),
    Column("created_at", Moment, nullable=False),
    Column("ended_at", Moment),
    CheckConstraint(
        "state in ('queued', 'running', 'waiting', 'needs_confirmation', 'completed', 'failed', 'cancelled')",
        name="state",
    ),
)
# At most one open backfill for each export.
Index(
    "uq_backfills_export_id",
    backfills.c.export_id,
    unique=True,
    sqlite_where=text("ended_at is null"),
    postgresql_where=text("ended_at is null"),
)

# The effect of a dry run on each address, so that an address on two pages counts once.
dry_run_people = Table(
    "dry_run_people",
    metadata,
    Column("backfill_id", ForeignKey("backfills.id"), primary_key=True, autoincrement=False),
    Column("digest", String(32), primary_key=True),
    Column("effect", String(8), nullable=False),
)

# Number of calls to an endpoint of an account that the replicas have taken, in Sailthru's current minute and in the
# previous one. `window_ends` is in seconds since 1970 by Sailthru's clock.
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

# Chores that one replica does for all replicas, and when they are due again.
chores = Table(
    "chores",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("next_at", Moment, nullable=False),
)

# `exports` increases with every change of an export, so that a replica detects an outdated cache. `schema` is the
# oldest migration whose program works with these tables, so that older replicas can run beside newer ones.
versions = Table(
    "versions",
    metadata,
    Column("name", String(16), primary_key=True),
    Column("version", BigInteger, nullable=False),
)
