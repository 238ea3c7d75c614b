"""API keys with budgets; whose key a job and its money belong to; the ledger's head, so that a cut tail shows."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply."""
    op.create_table(
        "api_keys",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("prefix", sa.String(length=16), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("project", sa.String(length=128), nullable=True),
        sa.Column("day", sa.BigInteger(), nullable=True),
        sa.Column("month", sa.BigInteger(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("name"),
        sa.UniqueConstraint("hash"),
    )
    op.add_column("jobs", sa.Column("api_key", sa.String(length=64), nullable=True))
    op.add_column("ledger", sa.Column("api_key", sa.String(length=64), nullable=True))
    op.create_index("ledger_by_key", "ledger", ["api_key", "day"], unique=False)
    conn = op.get_bind()
    rows = conn.exec_driver_sql("SELECT count(*) FROM ledger").scalar_one()
    last = conn.exec_driver_sql("SELECT hash FROM ledger ORDER BY seq DESC LIMIT 1").scalar_one_or_none()
    meta = sa.table("meta", sa.column("key", sa.String), sa.column("value", sa.Text))
    conn.execute(sa.insert(meta).values(key="ledger_head", value=f"{rows}:{last or '0' * 64}"))
