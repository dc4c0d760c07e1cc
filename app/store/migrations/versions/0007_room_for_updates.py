"""Room for updates: each membership is written anew before and after a call."""

from alembic import op

from app.store.database.dialect import leave_room

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Fill pages of memberships only so far that most updates find room on the same page."""
    leave_room(op.get_bind(), "memberships", filled_percent=70)
