"""`cosygate webhooks`: secrets, dead letters, receivers that said 410. It works on the database, whether a server
runs or not."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cosygate.cli.options import DataDir, fail, settings_from

if TYPE_CHECKING:
    from pathlib import Path

    from cosygate.flows.webhook_desk import Webhooks

T = TypeVar("T")
Tenant = Annotated[str, typer.Option(envvar="COSYGATE_TENANT", help="Whose webhooks.")]
AnyTenant = Annotated[
    str | None, typer.Option(envvar="COSYGATE_TENANT", help="Whose webhooks; without it, everybody's.")
]

app = typer.Typer(name="webhooks", help="Look after webhooks.", no_args_is_help=True)
secret = typer.Typer(name="secret", help="The secret that a tenant's receivers check signatures with.",
                     no_args_is_help=True)  # fmt: skip
app.add_typer(secret)


@secret.command()
def create(tenant: Tenant = "default", data_dir: DataDir = None) -> None:
    """Make a tenant's first secret and print it, and nothing else. It is not shown again."""
    made = _at_desk(data_dir, lambda desk: desk.create_secret(tenant))
    typer.echo(made or fail("this tenant has a secret already: rotate it", 1))


@secret.command()
def rotate(tenant: Tenant = "default", data_dir: DataDir = None) -> None:
    """Make a new secret and print it, and nothing else. The one before goes on signing beside it for 24 hours."""
    made = _at_desk(data_dir, lambda desk: desk.rotate_secret(tenant))
    typer.echo(made or fail("this tenant has no secret yet: create one", 1))


@app.command()
def dead(tenant: AnyTenant = None, data_dir: DataDir = None) -> None:
    """List dead letters, the newest first (at most a thousand), as JSON lines."""
    for letter in _at_desk(data_dir, lambda desk: desk.dead(tenant)):
        typer.echo(json.dumps(asdict(letter)))


@app.command()
def replay(
    delivery: Annotated[str, typer.Argument(help="Its id: msg_….", show_default=False)], data_dir: DataDir = None
) -> None:
    """Have a delivery tried again, with the same id. It enables its receiver, too."""
    _at_desk(data_dir, lambda desk: desk.replay(None, delivery))


@app.command()
def gone(tenant: AnyTenant = None, data_dir: DataDir = None) -> None:
    """List receivers that said 410, to which nothing more is sent, as JSON lines."""
    for one in _at_desk(data_dir, lambda desk: desk.gone(tenant)):
        typer.echo(json.dumps(asdict(one)))


@app.command()
def enable(
    url: Annotated[str, typer.Argument(help="As `gone` lists it.", show_default=False)],
    tenant: Tenant = "default",
    data_dir: DataDir = None,
) -> None:
    """Send to such a receiver again. What it has missed is replayed one by one."""
    if not _at_desk(data_dir, lambda desk: desk.enable(tenant, url)):
        fail("this receiver is not disabled", 1)


def _at_desk(data_dir: Path | None, work: Callable[[Webhooks], Awaitable[T]]) -> T:
    import asyncio

    from cosygate import errors
    from cosygate.wiring.webhooks import webhook_desk

    settings = settings_from(data_dir=data_dir)

    async def run() -> T:
        async with webhook_desk(settings) as desk:
            return await work(desk)

    try:
        return asyncio.run(run())
    except ValueError as error:
        fail(str(error), 2)
    except errors.CosyGateError as error:
        fail(error.detail, 1)
    except OSError as error:
        fail(f"the data folder cannot be used: {error.strerror}", 1)
