"""The custody log: its entries, and the checkpoint that was signed last."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "custody_log"
down_revision: Final = "0001"
branch_labels: Final = None
depends_on: Final = None


def upgrade() -> None:
    """Bring the tables from the version before to this one; there is no way back."""
    op.create_table(
        "custody_entries",
        sa.Column("entry_index", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=True),
        sa.Column("personal", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("entry_index", name="pk_custody_entries"),
    )
    op.create_table(
        "custody_checkpoint",
        sa.Column("checkpoint_id", sa.Integer(), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("checkpoint_id", name="pk_custody_checkpoint"),
    )
