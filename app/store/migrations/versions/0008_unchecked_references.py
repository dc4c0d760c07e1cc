"""
Unchecked references: PostgreSQL locked the row of an export for each new row that names it.
"""

from alembic import op

from app.store.differences import stop_checking

revision = "0008"
down_revision = "0007"

# The first before the others: claims, which go on meanwhile, lock memberships before exports too.
TABLES = ("memberships", "identities", "journal")


def upgrade() -> None:
    """
    Let PostgreSQL not look for the export that a row refers to.
    """
    for table in TABLES:
        stop_checking(op.get_bind(), table, reference=f"fk_{table}_export_id")
