"""`cosygate migrate`: brings the database to this version's schema, or moves an embedded installation into Postgres."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cosygate.cli.options import DataDir, fail, settings_from

if TYPE_CHECKING:
    from pathlib import Path

    from cosygate.settings import Settings


def migrate(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            envvar="COSYGATE_MIGRATE_FROM",
            metavar="sqlite:///PATH",
            help="Move this embedded installation's rows into COSYGATE_DATABASE_URL, which must be empty.",
        ),
    ] = None,
    blobs: Annotated[
        bool,
        typer.Option(
            "--blobs",
            envvar="COSYGATE_MIGRATE_BLOBS",
            help="With --from: copy recordings and results beside it into COSYGATE_STORE_URL, too.",
        ),
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Bring the database to this version's schema: COSYGATE_DATABASE_URL, or the one in the data folder."""
    import asyncio  # the others here are imported for `cosygate --help` as well

    from cosygate import errors
    from cosygate.wiring.databases import CannotMove

    settings = settings_from(data_dir=data_dir)
    path = _path(source) if source else None
    if path is not None and not settings.database_url:
        fail("--from takes COSYGATE_DATABASE_URL: where to move", 2)
    if blobs and (path is None or not settings.store_url):
        fail("--blobs takes --from, and COSYGATE_STORE_URL: where to copy to", 2)
    try:
        asyncio.run(_move(path, settings, blobs=blobs) if path is not None else _bring_up(settings))
    except CannotMove as error:
        fail(str(error), 1)
    except errors.CosyGateError as error:
        why = str(error.__cause__ or "").partition("\n")[0]
        fail(f"{error.detail}: {why}" if why else error.detail, 1)
    except ValueError as error:  # the store cannot be used as it is set
        fail(str(error), 1)
    except ImportError:
        fail("several machines take more packages: install the packages of the extra `cluster` (docs/deploy.md)", 1)
    except OSError as error:
        fail(f"the data folder cannot be used: {error.strerror}", 1)


async def _bring_up(settings: Settings) -> None:
    from cosygate.wiring.databases import bring_database_up

    before, after = await bring_database_up(settings)
    if before is None:
        typer.echo(f"the database was empty: it has schema {after} now")
    elif before == after:
        typer.echo(f"nothing to do: the database has schema {after}")
    else:
        typer.echo(f"the database had schema {before}: it has {after} now")


async def _move(source: Path, settings: Settings, *, blobs: bool) -> None:
    from cosygate.wiring.databases import copy_blobs_of, move_database

    if blobs:  # before the rows: whoever finds a row finds its recording. Run again, it goes on.
        moved = await copy_blobs_of(source, settings)
        typer.echo(f"copied {moved.parts} parts of {moved.uploads} recordings and {moved.results} results")
    copied = await move_database(source, settings)
    if blobs:  # a gateway that runs there already may have swept what had no rows yet
        swept = await copy_blobs_of(source, settings, missing_only=True)
        if swept.uploads:
            typer.echo(f"copied {swept.uploads} recordings again: a gateway there took them for nobody's")
    for table, rows in copied.items():
        typer.echo(f"{table:<16} {rows:>10}")
    typer.echo(f"moved {sum(copied.values())} rows; {source} is as it was")


def _path(source: str) -> Path:
    from pathlib import Path

    scheme, _, path = source.partition(":///")
    if scheme != "sqlite" or not path:
        fail("--from is sqlite:///PATH", 2)
    return Path(path)
