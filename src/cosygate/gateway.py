"""A gateway process: the HTTP doors and the embedded runner, on a socket that `serve` opened.

Started as `python -m cosygate.gateway --fd N --index I --engine ADDRESS…`; its settings come from the environment. It
prints one line, `ready`, once it serves, and ends itself when its parent is gone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import uvloop

from cosygate import errors
from cosygate import settings as settings_module
from cosygate.api.app import build
from cosygate.api.head import BoundedHead
from cosygate.api.live import MESSAGE_BYTES
from cosygate.api.live_socket import LiveSocket
from cosygate.kit import logs, tracing, vitals
from cosygate.kit.lineage import die_with_parent
from cosygate.wiring import House, open_house
from cosygate.worker import Runner

_log = logs.logger()
CANNOT_START = 78  # EX_CONFIG (sysexits.h), as an engine says it
_DESCRIPTORS = 65_536
_SWITCH_S = 0.001  # how long a thread may keep the event loop waiting for the interpreter; Python's own is 5 ms
_TELL_S = 0.3  # between "not ready" and closing the door: event streams look for it four times a second


class _Server(uvicorn.Server):
    """uvicorn, but the signals stay ours: it would stop accepting before anybody could learn that we are draining."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.serves = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.serves.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    settings: settings_module.Settings,
    listener: socket.socket,
    index: int,
    engines: list[str],
    pulse: str,
    breakers: Path | None,
) -> None:
    """Serves until SIGTERM. `pulse`: path of the Unix socket on which this process shows that it is not stuck;
    `breakers`: the folder of the engines' breakers, shared with the other gateways."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    # Ctrl-C reaches the whole process group; the parent alone decides who stops when.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    async with open_house(settings, engines, index, breakers) as house:
        runner = Runner(house, index=index, jobs=settings.runner_jobs, runners=settings.workers)
        await runner.start(first=index == 0)
        server = _Server(_config(settings, house))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        await asyncio.wait({serving, asyncio.create_task(server.serves.wait())}, return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            serving.result()  # why it does not start: a certificate that cannot be used
        _calm_collector()
        house.doors.live.begin()
        house.readiness.started = True
        beating = await asyncio.start_unix_server(vitals.beat, pulse)  # kept: else it is collected
        print("ready", flush=True)  # noqa: T201 - the parent waits for this line
        await asyncio.wait({serving, asyncio.create_task(stopping.wait())}, return_when=asyncio.FIRST_COMPLETED)
        _log.info("gateway.draining")
        house.readiness.draining = True
        await asyncio.gather(house.doors.live.drain(settings.drain_s), asyncio.sleep(_TELL_S))
        server.should_exit = True
        await asyncio.gather(serving, runner.stop(settings.drain_s))
        beating.close()
    _log.info("gateway.stopped")


def _many_descriptors() -> None:
    """A connection that sends a large chunk needs two, and the usual soft limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _calm_collector() -> None:
    """The modules and routes that exist by now stay for good, and a request leaves no cycles behind: looking for them
    at the usual pace cost 8 % of a chunk's CPU."""
    sys.setswitchinterval(_SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _socket(slow_s: float) -> type[LiveSocket]:
    return type("Socket", (LiveSocket,), {"slow_s": slow_s})


def _config(settings: settings_module.Settings, house: House) -> uvicorn.Config:
    return uvicorn.Config(
        build(house.doors),
        http=BoundedHead,
        ws=_socket(settings.live_slow_s),
        ws_max_size=MESSAGE_BYTES,
        ws_per_message_deflate=False,  # speech does not compress, and a small message could unpack to a large one
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        backlog=1024,
        proxy_headers=False,  # it would believe X-Forwarded-For of anybody on this machine; api/addresses.py asks first
        timeout_keep_alive=75,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m cosygate.gateway", description=__doc__.splitlines()[0])
    parser.add_argument("--fd", type=int, required=True, help="listening socket, inherited")
    parser.add_argument("--index", type=int, default=0, help="which of the gateway processes this is")
    parser.add_argument("--engine", action="append", default=[], help="address of an engine")
    parser.add_argument("--pulse", required=True, help="Unix socket that answers while this process is not stuck")
    parser.add_argument("--breakers", type=Path, help="folder of the engines' breakers, shared by the gateways")
    parser.add_argument("--parent-pid", type=int, required=True, help="ends when this process is gone")
    args = parser.parse_args()
    if not die_with_parent(args.parent_pid):
        return 0
    settings = settings_module.load()
    logs.configure(settings.log_level)
    tracing.start(
        settings.otlp_endpoint, settings.trace_ratio, service="cosygate-gateway", instance=f"gateway-{args.index}"
    )
    _many_descriptors()
    listener = socket.socket(fileno=args.fd)
    listener.setblocking(False)
    try:
        uvloop.run(serve(settings, listener, args.index, args.engine, args.pulse, args.breakers))
    except (ValueError, OSError, errors.CosyGateError) as error:
        # What an operator can mend (a secret, a folder, a newer database): in words, not as a stack.
        _log.error("gateway.cannot_start", detail=str(error))
        return CANNOT_START
    finally:
        tracing.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
