"""What the commands share: the option for the data folder, the settings, and how a command fails."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from cosygate.settings import Settings

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder for database, recordings, secrets. [env var: COSYGATE_DATA_DIR]", show_default=False),
]


def fail(message: str, status: int) -> NoReturn:
    for line in message.splitlines():
        typer.echo(f"cosygate: {line}", err=True)
    raise typer.Exit(status)


def settings_from(**options: object) -> Settings:
    """Environment and options together; a wrong setting ends the command with a line for each."""
    from cosygate.settings import load

    try:
        return load(**options)
    except ValueError as error:
        fail(str(error), 2)
