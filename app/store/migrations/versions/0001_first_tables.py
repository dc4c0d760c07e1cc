"""Create the first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite assigns ids only if the key is declared INTEGER.
KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "exports",
        sa.Column("id", KEY, nullable=False),
        sa.Column("audience_id", sa.String(length=128), nullable=False),
        sa.Column("audience_slug", sa.String(length=256), nullable=False),
        sa.Column("audience_name", sa.Text(), nullable=True),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("email_field", sa.String(length=256), nullable=False),
        sa.Column("fields", sa.JSON(), nullable=False),
        sa.Column("list_name", sa.String(length=128), nullable=True),
        sa.Column("list_id", sa.String(length=64), nullable=True),
        sa.Column("list_ready_at", sa.BigInteger(), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("waking_from", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("state <> 'running' or list_name is not null", name=op.f("ck_exports_running_has_list")),
        sa.CheckConstraint(
            "state in ('needs_name', 'name_taken', 'running', 'paused', 'stopped', 'list_changed')",
            name=op.f("ck_exports_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_exports")),
        sa.UniqueConstraint("audience_id", "account", name=op.f("uq_exports_audience_id_account")),
    )
    op.create_index("uq_exports_account_list_name", "exports", ["account", "list_name"], unique=True)

    op.create_table(
        "members",
        sa.Column("id", KEY, nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("address", sa.String(length=320), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=True),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("lease is null or due_at is not null", name=op.f("ck_members_leased_is_due")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_members")),
        sa.UniqueConstraint("address", "account", name=op.f("uq_members_address_account")),
    )
    op.create_index(
        "ix_members_due",
        "members",
        ["account", "priority", "due_at"],
        unique=False,
        sqlite_where=sa.text("due_at is not null"),
        postgresql_where=sa.text("due_at is not null"),
    )

    op.create_table(
        "unexported",
        sa.Column("audience_id", sa.String(length=128), nullable=False),
        sa.Column("audience_slug", sa.String(length=256), nullable=False),
        sa.Column("events", sa.BigInteger(), nullable=False),
        sa.Column("last_event_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("audience_id", name=op.f("pk_unexported")),
    )
    op.create_table(
        "identities",
        sa.Column("export_id", KEY, autoincrement=False, nullable=False),
        sa.Column("lytics_id", sa.String(length=256), nullable=False),
        sa.Column("moved_at_ns", sa.BigInteger(), nullable=True),
        sa.Column("moved_message_at_ns", sa.BigInteger(), nullable=True),
        sa.Column("is_enter", sa.Boolean(), nullable=True),
        sa.Column("member_id", KEY, nullable=True),
        sa.CheckConstraint("member_id is null or is_enter", name=op.f("ck_identities_holds_while_in")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_identities_export_id")),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_identities_member_id")),
        sa.PrimaryKeyConstraint("export_id", "lytics_id", name=op.f("pk_identities")),
    )
    op.create_table(
        "journal",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("member_id", KEY, nullable=False),
        sa.Column("export_id", KEY, nullable=True),
        sa.Column("what", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_journal_export_id")),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_journal_member_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_journal")),
    )
    op.create_index("ix_journal_member_id", "journal", ["member_id", "id"], unique=False)

    op.create_table(
        "memberships",
        sa.Column("member_id", KEY, autoincrement=False, nullable=False),
        sa.Column("export_id", KEY, autoincrement=False, nullable=False),
        sa.Column("wanted", sa.Boolean(), nullable=False),
        sa.Column("told", sa.String(length=8), nullable=False),
        sa.Column("moved_at_ns", sa.BigInteger(), nullable=True),
        sa.Column("moved_message_at_ns", sa.BigInteger(), nullable=True),
        sa.Column("fields_at_ns", sa.BigInteger(), nullable=True),
        sa.Column("lytics_id", sa.String(length=256), nullable=True),
        sa.Column("vars", sa.JSON(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("told_revision", sa.BigInteger(), nullable=False),
        sa.Column("told_vars", sa.String(length=32), nullable=True),
        sa.Column("told_at", sa.BigInteger(), nullable=True),
        sa.Column("dead_code", sa.String(length=64), nullable=True),
        sa.Column("first_failed_at", sa.BigInteger(), nullable=True),
        sa.Column("accepted_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("told in ('never', 'in', 'out', 'unknown')", name=op.f("ck_memberships_told")),
        sa.CheckConstraint(
            "(moved_at_ns is null) = (moved_message_at_ns is null)", name=op.f("ck_memberships_move_is_whole")
        ),
        sa.CheckConstraint(
            "dead_code is null or told_revision = revision", name=op.f("ck_memberships_dead_is_not_pending")
        ),
        sa.CheckConstraint("told_revision <= revision", name=op.f("ck_memberships_told_revision")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_memberships_export_id")),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name=op.f("fk_memberships_member_id")),
        sa.PrimaryKeyConstraint("member_id", "export_id", name=op.f("pk_memberships")),
    )
    op.create_index(
        "ix_memberships_pending",
        "memberships",
        ["export_id", "member_id"],
        unique=False,
        sqlite_where=sa.text("revision > told_revision"),
        postgresql_where=sa.text("revision > told_revision"),
    )

    op.create_table(
        "totals",
        sa.Column("export_id", KEY, autoincrement=False, nullable=False),
        sa.Column("accepted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("delivered", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("superseded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("pending", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dead", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("erased", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cancelled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("stale", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("members", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_event_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "accepted = delivered + superseded + pending + dead + erased + cancelled", name=op.f("ck_totals_add_up")
        ),
        sa.CheckConstraint("pending >= 0 and dead >= 0 and members >= 0", name=op.f("ck_totals_not_negative")),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_totals_export_id")),
        sa.PrimaryKeyConstraint("export_id", name=op.f("pk_totals")),
    )
