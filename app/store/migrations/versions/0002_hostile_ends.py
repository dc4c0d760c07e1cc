"""Add the circuit breaker's state, rejected events, counts by the minute, and dead letters."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("memberships", sa.Column("dead_at", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_memberships_dead",
        "memberships",
        ["export_id", "member_id"],
        unique=False,
        sqlite_where=sa.text("dead_code is not null"),
        postgresql_where=sa.text("dead_code is not null"),
    )

    op.create_table(
        "accounts",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("pause", sa.String(length=16), nullable=True),
        sa.Column("code", sa.String(length=64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("paused_at", sa.BigInteger(), nullable=True),
        sa.Column("probes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("probe_at", sa.BigInteger(), nullable=True),
        sa.Column("paused_for_us", sa.BigInteger(), server_default="0", nullable=False),
        sa.CheckConstraint("pause is null or pause in ('refused', 'outage')", name=op.f("ck_accounts_pause")),
        sa.CheckConstraint("(pause is null) = (paused_at is null)", name=op.f("ck_accounts_pause_is_whole")),
        sa.PrimaryKeyConstraint("account", name=op.f("pk_accounts")),
    )

    op.create_table(
        "rejected_events",
        sa.Column("id", KEY, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("happened", sa.Text(), nullable=False),
        sa.Column("body_bytes", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rejected_events")),
    )

    op.create_table(
        "minute_counts",
        sa.Column("export_id", KEY, autoincrement=False, nullable=False),
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("accepted", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("delivered", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("superseded", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("dead", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("stale", sa.BigInteger(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_minute_counts_export_id")),
        sa.PrimaryKeyConstraint("export_id", "minute", name=op.f("pk_minute_counts")),
    )
    op.create_index("ix_minute_counts_minute", "minute_counts", ["minute"], unique=False)
