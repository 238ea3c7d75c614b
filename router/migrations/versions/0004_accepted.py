"""The newest attempts by the time of their acceptance: what our own device did last, without reading all it ever did."""

from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Apply."""
    op.create_index("attempts_by_accepted", "attempts", ["model", "accepted_at"], unique=False)
