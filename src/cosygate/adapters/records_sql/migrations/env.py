"""What Alembic runs: the steps in versions/, on the connection that migrate.py hands over, all in one transaction: on
Postgres it is the caller's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from cosygate.adapters.records_sql import schema_guard  # noqa: F401 - its tables join the others
from cosygate.adapters.records_sql.schema import metadata

connection: sa.Connection = context.config.attributes["connection"]
_sqlite = connection.dialect.name == "sqlite"
if _sqlite:
    connection.exec_driver_sql("BEGIN IMMEDIATE")  # before Alembic looks: it then leaves the transaction to us
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,  # SQLite cannot alter most things: Alembic copies the table
    transactional_ddl=False,  # the transaction is the one above: neither database ends it at DDL
)
try:
    context.run_migrations()
    if _sqlite:
        connection.exec_driver_sql("COMMIT")
except BaseException:
    if _sqlite:
        connection.exec_driver_sql("ROLLBACK")
    raise
