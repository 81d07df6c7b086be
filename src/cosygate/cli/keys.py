"""`cosygate keys` and `cosygate revoke`: on the data folder, whether a server runs there or not. A server takes notice
within seconds."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cosygate.cli.options import DataDir, fail, settings_from

if TYPE_CHECKING:
    from cosygate.flows.keyring import Keyring
    from cosygate.model.api_key import ApiKey

T = TypeVar("T")
Tenant = Annotated[
    str | None, typer.Option(envvar="COSYGATE_TENANT", help="Whose customer they are.", show_default=False)
]

app = typer.Typer(name="keys", help="API keys, for clients that cannot make tokens.", no_args_is_help=True)


@app.command()
def create(
    sub: Annotated[str, typer.Option(envvar="COSYGATE_SUB", help="Whom the key is for.", show_default=False)],
    scope: Annotated[
        list[str] | None,
        typer.Option(envvar="COSYGATE_SCOPE", help="audio:write, task:read, live, admin; default: the first three."),
    ] = None,
    tenant: Tenant = None,
    name: Annotated[str, typer.Option(envvar="COSYGATE_NAME", help="For people: where it is used.")] = "",
    ttl: Annotated[
        str | None, typer.Option(envvar="COSYGATE_TTL", help="How long it holds: 30d; else until it is revoked.")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Print a new API key, and nothing else. It is shown this once."""
    from cosygate.cli.tokens import scopes_from, seconds
    from cosygate.model.principal import DEFAULT_TENANT

    async def run(ring: Keyring) -> str:
        return await ring.create(
            sub,
            tenant=DEFAULT_TENANT if tenant is None else tenant,
            scopes=scopes_from(scope),
            name=name,
            ttl_s=None if ttl is None else seconds(ttl),
        )

    typer.echo(_with_keyring(run, data_dir=data_dir))


@app.command("list")
def list_keys(tenant: Tenant = None, data_dir: DataDir = None) -> None:
    """Print what is known of each key: id, state, owner, scopes, last use, name."""

    async def run(ring: Keyring) -> None:
        count = 0
        now = datetime.now(UTC)
        async for key in ring.all(tenant):
            if not count:
                typer.echo(_ROW.format("ID", "STATE", "TENANT/SUB", "CREATED", "LAST USED", "SCOPES", "NAME").rstrip())
            typer.echo(_row(key, now.timestamp()))
            count += 1
        if not count:
            typer.echo("no keys", err=True)

    _with_keyring(run, data_dir=data_dir)


@app.command("revoke")
def revoke_key(
    id: Annotated[str, typer.Argument(metavar="ID", help="From `cosygate keys list`.", show_default=False)],  # noqa: A002 - what it is called
    data_dir: DataDir = None,
) -> None:
    """Revoke a key. What was begun with it ends within seconds."""

    async def run(ring: Keyring) -> bool:
        # Whoever has only the key itself may give that.
        return await ring.revoke_key(id.removeprefix("csg_").partition("_")[0])

    if not _with_keyring(run, data_dir=data_dir):
        fail("there is no key with this id; see cosygate keys list", 1)


def revoke(
    sub: Annotated[
        str | None,
        typer.Option(envvar="COSYGATE_SUB", help="Everything issued to them until now.", show_default=False),
    ] = None,
    tenant: Tenant = None,
    jti: Annotated[
        str | None,
        typer.Option(envvar="COSYGATE_JTI", help="One token: its jti, or the token itself.", show_default=False),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Revoke one token, or all tokens and keys of somebody. What was begun with them ends within seconds."""
    from cosygate.cli.tokens import jti_and_expiry
    from cosygate.model.principal import DEFAULT_TENANT

    if (sub is None) == (jti is None):
        fail("give either --sub or --jti", 2)

    async def run(ring: Keyring) -> None:
        if sub is not None:
            whose = DEFAULT_TENANT if tenant is None else tenant
            count = await ring.revoke_owner(sub, whose)
            typer.echo(f"revoked: all tokens of {whose}/{sub} until now, and {count} API keys", err=True)
        elif jti is not None:
            await ring.revoke_token(*jti_and_expiry(jti))
            typer.echo("revoked: one token", err=True)

    _with_keyring(run, data_dir=data_dir)


def _with_keyring(work: Callable[[Keyring], Awaitable[T]], **options: object) -> T:
    settings = settings_from(**options)
    import asyncio

    from cosygate import errors
    from cosygate.wiring.callers import open_keyring

    async def run() -> T:
        async with open_keyring(settings) as ring:
            return await work(ring)

    try:
        return asyncio.run(run())
    except ValueError as error:
        fail(str(error), 2)
    except errors.CosyGateError as error:
        fail(error.detail, 1)
    except OSError as error:
        fail(f"the data folder cannot be used: {error.strerror}", 1)


_ROW = "{:<16}  {:<7}  {:<24}  {:<16}  {:<16}  {:<27}  {}"


def _row(key: ApiKey, now: float) -> str:
    state = "active"
    if key.revoked_at is not None:
        state = "revoked"
    elif key.expires_at is not None and key.expires_at <= now:
        state = "expired"
    times = (_when(key.created_at), _when(key.used_at))
    owner, scopes = f"{key.tenant}/{key.subject}", ",".join(sorted(key.scopes))
    return _ROW.format(key.id, state, owner, *times, scopes, key.name).rstrip()


def _when(seconds: float | None) -> str:
    return "never" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
