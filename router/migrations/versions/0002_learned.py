"""What offers teach: decayed counts, recent latencies, the last bill against its estimate, an adaptive ceiling."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply."""
    for name in ("weight", "failures", "billed_failures"):
        op.add_column("offers", sa.Column(name, sa.Float(), server_default=sa.text("0"), nullable=False))
    op.add_column("offers", sa.Column("latencies", sa.Text(), nullable=True))
    op.add_column("offers", sa.Column("price_factor", sa.String(length=40), nullable=True))
    op.add_column("offers", sa.Column("ceiling", sa.Float(), nullable=True))
