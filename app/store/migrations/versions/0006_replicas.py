"""Add the shares, chores and versions that replicas agree on, and the leases of lists."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("exports", sa.Column("list_lease", sa.BigInteger(), nullable=True))
    op.add_column("exports", sa.Column("list_leased_until", sa.BigInteger(), nullable=True))
    op.add_column("exports", sa.Column("list_others_in_doubt", sa.BigInteger(), server_default="0", nullable=False))
    op.create_table(
        "budgets",
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("endpoint", sa.String(length=64), nullable=False),
        sa.Column("window_ends", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("taken", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("backfills", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("taken_before", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("backfills_before", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("account", "endpoint", name=op.f("pk_budgets")),
    )
    op.create_table(
        "chores",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_chores")),
    )
    versions = op.create_table(
        "versions",
        sa.Column("name", sa.String(length=16), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_versions")),
    )
    op.bulk_insert(versions, [{"name": "exports", "version": 0}, {"name": "schema", "version": 6}])
