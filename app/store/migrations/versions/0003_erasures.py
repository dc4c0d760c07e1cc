"""Add erasures, the mark of memberships that are being erased, and indexes that find them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "erasures",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("address_digest", sa.String(length=64), nullable=False),
        sa.Column("key_id", sa.String(length=16), nullable=False),
        sa.Column("was_known", sa.Boolean(), nullable=False),
        sa.Column("erased_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_erasures")),
    )
    op.create_index("ix_erasures_address_digest", "erasures", ["address_digest"], unique=False)

    op.add_column("memberships", sa.Column("erasure", sa.String(length=64), nullable=True))
    op.create_index(
        "ix_memberships_erasure",
        "memberships",
        ["erasure"],
        unique=False,
        sqlite_where=sa.text("erasure is not null"),
        postgresql_where=sa.text("erasure is not null"),
    )
    op.create_index(
        "ix_identities_member_id",
        "identities",
        ["member_id"],
        unique=False,
        sqlite_where=sa.text("member_id is not null"),
        postgresql_where=sa.text("member_id is not null"),
    )
