"""Which entry of the custody log is of which receipt."""

import json
from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "receipt_entries"
down_revision: Final = "attestations"
branch_labels: Final = None
depends_on: Final = None

_TOGETHER: Final = 4_096


def upgrade() -> None:
    """Bring the tables from the version before to this one; there is no way back."""
    op.add_column("custody_entries", sa.Column("receipt_id", sa.String(36), nullable=True))
    _name_receipts()
    op.create_index("ix_custody_entries_receipt", "custody_entries", ["receipt_id"])


def _name_receipts() -> None:
    entries = sa.table(
        "custody_entries",
        sa.column("entry_index", sa.Integer),
        sa.column("entry", sa.LargeBinary),
        sa.column("receipt_id", sa.String),
    )
    connection, last = op.get_bind(), -1
    one_more = (
        sa.select(entries.c.entry_index, entries.c.entry)
        .where(entries.c.entry_index > sa.bindparam("last"))
        .order_by(entries.c.entry_index)
        .limit(_TOGETHER)
    )
    name = (
        sa.update(entries)
        .where(entries.c.entry_index == sa.bindparam("number"))
        .values(receipt_id=sa.bindparam("named"))
    )
    while rows := connection.execute(one_more, {"last": last}).all():
        last = rows[-1].entry_index
        named = [
            {"number": row.entry_index, "named": json.loads(row.entry)["receipt_id"]}
            for row in rows
            if b'"receipt-issued"' in row.entry
        ]
        if named:
            connection.execute(name, named)
