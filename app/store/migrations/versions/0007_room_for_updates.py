"""Leave room in pages of memberships, since each call updates its rows twice."""

from alembic import op

from app.store.database.dialect import leave_room

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    leave_room(op.get_bind(), "memberships", filled_percent=70)
