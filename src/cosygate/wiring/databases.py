"""What `cosygate migrate` does, with the settings' databases."""

from __future__ import annotations

from pathlib import Path

from cosygate.adapters.records_sql import SchemaTooNew
from cosygate.adapters.records_sql.move import CannotMove, bring_up, move
from cosygate.settings import Settings
from cosygate.wiring.stores import database_url

__all__ = ["CannotMove", "bring_database_up", "move_database"]


async def bring_database_up(settings: Settings) -> tuple[str | None, str]:
    """The schema's revision before (None: the database was empty) and after. Raises CannotMove for a database that is
    too new, DatabaseBusy, StorageFull."""
    if not settings.database_url:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        return await bring_up(settings.database_url or database_url(settings.data_dir))
    except SchemaTooNew as error:
        raise CannotMove(str(error)) from None


async def move_database(source: Path, settings: Settings) -> dict[str, int]:
    """Rows per table that were copied into the settings' Postgres. Raises CannotMove, DatabaseBusy, StorageFull."""
    try:
        return await move(source, settings.database_url)
    except SchemaTooNew as error:
        raise CannotMove(str(error)) from None
