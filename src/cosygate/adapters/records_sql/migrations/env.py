"""What Alembic runs: the steps in versions/, on the connection that migrate.py hands over, all in one transaction."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from cosygate.adapters.records_sql import schema_guard  # noqa: F401 - its tables join the others
from cosygate.adapters.records_sql.schema import metadata

connection: sa.Connection = context.config.attributes["connection"]
connection.exec_driver_sql("BEGIN IMMEDIATE")  # before Alembic looks: it then leaves the transaction to us
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most things: Alembic copies the table
    transactional_ddl=False,  # the transaction is the one above, which SQLite's driver does not end at DDL
)
try:
    context.run_migrations()
    connection.exec_driver_sql("COMMIT")
except BaseException:
    connection.exec_driver_sql("ROLLBACK")
    raise
