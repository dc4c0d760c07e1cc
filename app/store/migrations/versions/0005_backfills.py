"""Add backfills, the members that dry runs have counted, and the types of fields."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("exports", sa.Column("field_types", sa.JSON(), server_default="{}", nullable=False))
    op.create_table(
        "backfills",
        sa.Column("id", KEY, nullable=False),
        sa.Column("export_id", KEY, nullable=False),
        sa.Column("is_dry_run", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=24), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("pages", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("scanned", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("queued", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("skipped", sa.JSON(), server_default="{}", nullable=False),
        sa.Column("total", sa.BigInteger(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=True),
        sa.Column("restarts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("checkpoint", sa.Text(), nullable=True),
        sa.Column("checkpoint_page", sa.BigInteger(), server_default="1", nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("waiting_for", sa.Text(), nullable=True),
        sa.Column("paged_at", sa.BigInteger(), nullable=True),
        sa.Column("rate_then", sa.Float(), nullable=True),
        sa.Column("lease", sa.BigInteger(), nullable=True),
        sa.Column("leased_until", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.CheckConstraint(
            "state in ('queued', 'running', 'waiting', 'needs_confirmation', 'completed', 'failed', 'cancelled')",
            name=op.f("ck_backfills_state"),
        ),
        sa.ForeignKeyConstraint(["export_id"], ["exports.id"], name=op.f("fk_backfills_export_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_backfills")),
    )
    op.create_index(
        "uq_backfills_export_id",
        "backfills",
        ["export_id"],
        unique=True,
        sqlite_where=sa.text("ended_at is null"),
        postgresql_where=sa.text("ended_at is null"),
    )
    op.create_table(
        "dry_run_people",
        sa.Column("backfill_id", KEY, autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=32), nullable=False),
        sa.Column("effect", sa.String(length=8), nullable=False),
        sa.ForeignKeyConstraint(["backfill_id"], ["backfills.id"], name=op.f("fk_dry_run_people_backfill_id")),
        sa.PrimaryKeyConstraint("backfill_id", "digest", name=op.f("pk_dry_run_people")),
    )
