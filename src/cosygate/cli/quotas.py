"""`cosygate quotas`: tenants' own quotas, in the data folder, whether a server runs there or not. A server takes notice
within seconds."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cosygate.cli.options import DataDir, fail, settings_from

if TYPE_CHECKING:
    from cosygate.model.usage import Quota
    from cosygate.ports.usage import QuotaRecords

T = TypeVar("T")
Tenant = Annotated[str, typer.Argument(help="As its tokens name it.", show_default=False)]
_ROW = "{:<24}  {:>12}  {:>12}  {:>6}"

app = typer.Typer(name="quotas", help="Tenants' own quotas, beside those of the settings.", no_args_is_help=True)


@app.command("set")
def set_quota(
    tenant: Tenant,
    day_s: Annotated[
        float | None,
        typer.Option(envvar="COSYGATE_DAY_S", min=0, help="Seconds of audio a day (UTC); 0: no quota."),
    ] = None,
    month_s: Annotated[
        float | None,
        typer.Option(envvar="COSYGATE_MONTH_S", min=0, help="Seconds of audio a month (UTC); 0: no quota."),
    ] = None,
    live: Annotated[
        int | None,
        typer.Option(envvar="COSYGATE_LIVE", min=0, help="Live sessions open at once; 0: no quota."),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Set what is given; the rest stays as it was: set before, or the settings' own."""
    from cosygate.model.principal import NAME
    from cosygate.model.usage import Quota

    given = [value for value in (day_s, month_s, live) if value is not None]
    if not given:
        fail("give at least one of --day-s, --month-s and --live", 2)
    if not all(math.isfinite(value) for value in given) or (live or 0) >= 2**31:
        fail("a quota is a number that can be used up", 2)
    if not NAME.fullmatch(tenant):
        fail("a tenant is 1-128 characters without / or control characters", 2)
    whole = _with_quotas(lambda quotas: quotas.set(tenant, Quota(day_s, month_s, live)), data_dir=data_dir)
    _show({tenant: whole})


@app.command("list")
def list_quotas(data_dir: DataDir = None) -> None:
    """Print the tenants that have quotas of their own."""
    found = _with_quotas(lambda quotas: quotas.all(), data_dir=data_dir)
    if found:
        _show(found)
    else:
        typer.echo("no tenant has a quota of its own", err=True)


@app.command("clear")
def clear_quota(tenant: Tenant, data_dir: DataDir = None) -> None:
    """Let the settings count for the tenant again."""
    if not _with_quotas(lambda quotas: quotas.clear(tenant), data_dir=data_dir):
        fail("this tenant has no quota of its own; see cosygate quotas list", 1)


def _show(quotas: dict[str, Quota]) -> None:
    typer.echo(_ROW.format("TENANT", "DAY_S", "MONTH_S", "LIVE"))
    for tenant, quota in sorted(quotas.items()):
        typer.echo(_ROW.format(tenant, *map(_cell, (quota.day_s, quota.month_s, quota.live))))


def _cell(value: float | None) -> str:
    if value is None:
        return "default"
    return f"{value:g}" if value else "none"


def _with_quotas(work: Callable[[QuotaRecords], Awaitable[T]], **options: object) -> T:
    import asyncio  # the others here are imported for `cosygate --help` as well

    from cosygate import errors
    from cosygate.wiring.stores import records

    settings = settings_from(**options)

    async def run() -> T:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = await records(settings)
        try:
            return await work(opened.quotas)
        finally:
            await opened.close()

    try:
        return asyncio.run(run())
    except ValueError as error:
        fail(str(error), 2)
    except errors.CosyGateError as error:
        fail(error.detail, 1)
    except OSError as error:
        fail(f"the data folder cannot be used: {error.strerror}", 1)
