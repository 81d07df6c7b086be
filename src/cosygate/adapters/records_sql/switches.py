"""The operator's switches, as transactions."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import bindparam

from cosygate.adapters.records_sql.database import Database
from cosygate.adapters.records_sql.schema_guard import switches

_TURN = sa.update(switches).where(switches.c.name == bindparam("which"))
_TURN = _TURN.values(value=bindparam("to", type_=sa.Text), since=bindparam("now", type_=sa.Double))
_FIRST = sa.insert(switches)
_READ = sa.select(switches.c.name, switches.c.value, switches.c.since)


class SqlSwitches:
    """ports/switches.py, Switches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set(self, name: str, value: str, now: float) -> None:
        def run(connection: sa.Connection) -> None:
            if connection.execute(_TURN, {"which": name, "to": value, "now": now}).rowcount == 0:
                connection.execute(_FIRST, {"name": name, "value": value, "since": now})

        await self._database.write(run)

    async def read(self) -> dict[str, tuple[str, float]]:
        return await self._database.read(
            lambda connection: {name: (value, since) for name, value, since in connection.execute(_READ)}
        )
