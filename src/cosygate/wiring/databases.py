"""What `cosygate migrate` does, with the settings' databases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cosygate.adapters.records_sql import SchemaTooNew
from cosygate.adapters.records_sql.move import CannotMove, bring_up, move
from cosygate.kit.clock import SystemClock
from cosygate.settings import Settings
from cosygate.wiring.stores import database_url, store

if TYPE_CHECKING:
    from cosygate.adapters.blobs_object import Copied

__all__ = ["CannotMove", "bring_database_up", "copy_blobs_of", "move_database"]


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


async def copy_blobs_of(source: Path, settings: Settings, *, missing_only: bool = False) -> Copied:
    """Copies the recordings and results that lie beside the database `source` into the settings' store; what is there
    already is compared. `missing_only`: recordings that are not there any more. Raises Conflict, StorageFull,
    StorageUnavailable, OSError, ValueError."""
    from cosygate.adapters.blobs_object import ObjectStore, copy_blobs

    async with store(settings, SystemClock()) as opened:
        if not isinstance(opened, ObjectStore):
            raise ValueError("COSYGATE_STORE_URL has to say where to copy to")
        return await copy_blobs(source.parent / "blobs", opened, missing_only=missing_only)
