"""`cosygate models`: which models there are, and the folder in which they lie."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cosygate.cli.options import DataDir, fail, settings_from

if TYPE_CHECKING:
    from cosygate.catalogue.entries import Entry
    from cosygate.catalogue.shelf import Shelf

Names = Annotated[list[str], typer.Argument(metavar="NAME…", help="From `cosygate models list`.", show_default=False)]
ModelsDir = Annotated[
    Path | None,
    typer.Option(envvar="COSYGATE_MODELS_DIR", help="Where models lie; else `models` in the data folder."),
]
Catalogue = Annotated[
    Path | None,
    typer.Option(envvar="COSYGATE_MODELS_CATALOGUE", help="A catalogue of one's own (TOML) instead of CosyGate's."),
]

app = typer.Typer(name="models", help="Models: list, fetch, check and remove them.", no_args_is_help=True)


@app.command("list")
def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON array instead of a table.")] = False,
    models_dir: ModelsDir = None,
    catalogue: Catalogue = None,
    data_dir: DataDir = None,
) -> None:
    """Print the catalogue, and what of it is here. Status 0, whatever that is."""
    with _faults_told():
        entries, shelf = _catalogue(catalogue), _shelf(models_dir, data_dir)
        states = {name: _state(shelf, name) for name in [*entries, *(n for n in shelf.names() if n not in entries)]}
    if as_json:
        known = {name: entry.model_dump(mode="json") for name, entry in entries.items()}
        told = [{"name": name, "state": state} | known.get(name, {}) for name, state in states.items()]
        typer.echo(json.dumps(told, indent=2, ensure_ascii=False))
        return
    rows = [("NAME", "STATE", "FETCHES", "LANGUAGES", "LICENCE", "BEYOND TEXT")]
    rows += [(name, state, *_described(entries.get(name))) for name, state in states.items()]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@app.command()
def pull(
    names: Names,
    mirror: Annotated[
        str,
        typer.Option(envvar="COSYGATE_MODELS_MIRROR", help="Address that stands for the hosts in the catalogue."),
    ] = "",
    copy: Annotated[
        Path | None,
        typer.Option("--from", envvar="COSYGATE_MODELS_FROM", help="A copy, file or folder, instead of the network."),
    ] = None,
    models_dir: ModelsDir = None,
    catalogue: Catalogue = None,
    data_dir: DataDir = None,
) -> None:
    """Fetch models, check and unpack them, and print their folders. Run it again after an interruption: it goes on."""
    from cosygate.catalogue.entries import checked_url
    from cosygate.catalogue.pulling import Pull
    from cosygate.cli.pull_bars import PullBars

    if copy is not None and not copy.exists():
        fail(f"there is no {copy}", 2)
    with _faults_told():
        entries, shelf = _catalogue(catalogue), _shelf(models_dir, data_dir)
        if unknown := [name for name in names if name not in entries]:
            fail(f"the catalogue has no {', '.join(unknown)}; see cosygate models list", 2)
        try:
            if mirror:
                checked_url(mirror)
        except ValueError as error:
            fail(f"COSYGATE_MODELS_MIRROR: {error}", 2)
        with PullBars() as teller:
            folders = [Pull(shelf, teller, mirror, copy)(entries[name]) for name in names]
    for folder in folders:
        typer.echo(folder)


@app.command()
def verify(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME…]", help="Default: all that are here.", show_default=False)
    ] = None,
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
) -> None:
    """Read every byte of models that are here. What is damaged or missing is told on stderr, with status 1."""
    whole = True
    with _faults_told():
        shelf = _shelf(models_dir, data_dir)
        for name in names or shelf.names():
            if faults := shelf.faults(name):
                whole = False
                typer.echo(_told(name, faults), err=True)
            else:
                typer.echo(f"{name}: whole")
    raise typer.Exit(0 if whole else 1)


@app.command()
def remove(names: Names, models_dir: ModelsDir = None, data_dir: DataDir = None) -> None:
    """Erase models, and what was fetched of them so far."""
    with _faults_told():
        shelf = _shelf(models_dir, data_dir)
        missing = [name for name in names if not shelf.remove(name, lambda: typer.echo("waiting for a pull", err=True))]
    if missing:
        fail(f"not here: {', '.join(missing)}", 1)


@app.command()
def path(
    name: Annotated[str, typer.Argument(help="From `cosygate models list`.", show_default=False)],
    models_dir: ModelsDir = None,
    data_dir: DataDir = None,
) -> None:
    """Print a model's folder, and nothing else. Status 1 when it is not here, or lacks something."""
    with _faults_told():
        shelf = _shelf(models_dir, data_dir)
        if faults := shelf.faults(name, thorough=False):
            fail(_told(name, faults), 1)
    typer.echo(shelf.place(name))


def _told(name: str, faults: list[str]) -> str:
    return "\n".join(fault if fault.startswith(name) else f"{name}: {fault}" for fault in faults)


def _shelf(models_dir: Path | None, data_dir: Path | None) -> Shelf:
    from cosygate.catalogue.shelf import Shelf

    return Shelf((models_dir or settings_from(data_dir=data_dir).data_dir / "models").absolute())


def _catalogue(path: Path | None) -> dict[str, Entry]:
    from cosygate.catalogue.entries import load

    try:
        return load(path)
    except ValueError as error:
        fail(str(error), 2)
    except OSError as error:
        fail(f"{path}: {error.strerror}", 2)


@contextmanager
def _faults_told() -> Iterator[None]:
    from cosygate.catalogue import ModelError

    try:
        yield
    except ModelError as error:
        fail(str(error), 1)
    except OSError as error:
        fail(f"{error.filename or 'the disk'}: {error.strerror}", 1)
    except KeyboardInterrupt:
        fail("interrupted; the same command continues where this one stopped", 130)


def _state(shelf: Shelf, name: str) -> str:
    if not shelf.place(name).exists():
        return "-"
    return "damaged" if shelf.faults(name, thorough=False) else "here"


def _described(entry: Entry | None) -> tuple[str, str, str, str]:
    from rich.filesize import decimal

    if entry is None:
        return "", "", "", "(not in the catalogue)"
    size = sum(source.bytes for source in entry.sources) if all(source.bytes for source in entry.sources) else 0
    return decimal(size) if size else "?", " ".join(entry.languages), entry.licence, " ".join(entry.capabilities)
