"""Attestations of the no-internet rule, and when what an alert was about had passed."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "attestations"
down_revision: Final = "custody_log"
branch_labels: Final = None
depends_on: Final = None


def upgrade() -> None:
    """Bring the tables from the version before to this one; there is no way back."""
    op.create_table(
        "attestations",
        sa.Column("dock", sa.String(32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("payload_sha256", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("occasion", sa.String(16), nullable=False),
        sa.Column("isolation", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("dock", "sequence", name="pk_attestations"),
    )
    op.add_column("alerts", sa.Column("over_at", sa.DateTime(timezone=True), nullable=True))
