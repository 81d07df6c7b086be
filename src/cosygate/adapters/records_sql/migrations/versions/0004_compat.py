"""Which older code still works with the schema.

Revision ID: 0004
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")  # compared by its bytes, as on SQLite


def upgrade() -> None:
    compat = op.create_table("schema_compat", sa.Column("oldest", TEXT, primary_key=True))
    assert compat is not None  # noqa: S101 - for the type checker: only offline mode gives None
    # A table more: statements of revision 0003 do not notice. (Its code does, on SQLite: it does not know this table,
    # and refuses what is newer than itself. So nobody goes back to it but with a backup.)
    op.bulk_insert(compat, [{"oldest": "0003"}])
