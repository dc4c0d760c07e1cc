"""Drop references to exports on PostgreSQL, since each new row locked the row of its export."""

from alembic import op

from app.store.database.dialect import stop_checking

revision = "0008"
down_revision = "0007"

# In the order in which concurrent claims lock them.
TABLES = ("memberships", "identities", "journal")


def upgrade() -> None:
    stop_checking(op.get_bind(), {table: f"fk_{table}_export_id" for table in TABLES})
