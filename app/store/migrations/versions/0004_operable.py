"""Add latencies, the columns of the list monitor, and the index of the oldest pending change."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("exports", sa.Column("list_change", sa.String(length=16), nullable=True))
    op.add_column("exports", sa.Column("list_others", sa.BigInteger(), nullable=True))
    op.add_column("exports", sa.Column("doubting_from", sa.BigInteger(), nullable=True))
    op.add_column("exports", sa.Column("merged_into", sa.BigInteger(), nullable=True))
    op.create_index(
        "ix_memberships_oldest_pending",
        "memberships",
        ["export_id", "accepted_at"],
        unique=False,
        sqlite_where=sa.text("revision > told_revision"),
        postgresql_where=sa.text("revision > told_revision"),
    )
    op.create_table(
        "minute_latencies",
        sa.Column("export_id", KEY, autoincrement=False, nullable=False),
        sa.Column("minute", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("bucket", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("told", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_minute_latencies_export_id")),
        sa.PrimaryKeyConstraint("export_id", "minute", "bucket", name=op.f("pk_minute_latencies")),
    )
    op.create_index("ix_minute_latencies_minute", "minute_latencies", ["minute"], unique=False)
