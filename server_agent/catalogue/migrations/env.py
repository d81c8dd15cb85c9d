"""What Alembic runs: on the connection that the catalogue store hands over, and on no other."""

from typing import cast

from alembic import context
from sqlalchemy import Connection

from server_agent.catalogue.tables import metadata

context.configure(
    connection=cast("Connection", context.config.attributes["connection"]),
    target_metadata=metadata,
    # SQLite cannot alter a column: Alembic copies the table instead.
    render_as_batch=True,
    # One transaction around all: a start that is cut short leaves the tables as they were.
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
