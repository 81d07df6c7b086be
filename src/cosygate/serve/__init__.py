"""`cosygate serve`: all of it on one machine. This process opens the sockets, starts engines and gateways, restarts
those that die, and stops them in order. It imports little of what they need, so it is small and hard to break.

    serve ─┬─ engine 0 … N-1     on Unix sockets, inherit nothing
           └─ gateway 0 … N-1    one listening socket each (SO_REUSEPORT), kept open here while one restarts
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import os
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

from cosygate import settings as settings_module
from cosygate.kit import logs, slots
from cosygate.kit.backoff import Backoff
from cosygate.kit.children import Child, ChildFailed, ChildSpec, remove_stale_socket
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.settings import Settings
from cosygate.settings.engines import engine_arguments, engine_start_s

_log = logs.logger()
_ENGINE_HEAD_START_S = 4.0  # how long "ready" waits for engines; uploads are taken and kept without one, too
_SOCKET_PATH_MAX = 100  # bytes; sun_path holds 108 (unix(7))
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - the folder is made exclusively, for its owner alone
_LINK_TTL_S = 12 * 3600.0  # how long the terminal's sign-in link is good
CANNOT_START = 1
_SECRET = ("COSYGATE_", "AWS_", "AZURE_", "GOOGLE_", "PG")  # variables with passwords and keys begin so


class CannotStart(Exception):
    """The reason, for the operator."""


def main(settings: Settings) -> int:
    """Runs until SIGTERM or SIGINT. Returns the exit status."""
    logs.configure(settings.log_level)
    os.umask(0o077)
    if unknown := settings_module.unknown_variables():
        _log.warning("settings.unknown", variables=unknown)
    if settings.lease_expire_s < 2 * settings.lease_renew_s:
        _log.warning("settings.lease_short")  # one late renewal, and a job that runs well is taken away
    try:
        return asyncio.run(_Serve(settings).run())
    except CannotStart as error:
        print(f"cosygate serve: {error}", file=sys.stderr)  # noqa: T201 - for the operator, before there are logs
        return CANNOT_START


class _Serve:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._clock = SystemClock()
        self._randomness = SystemRandomness()
        self._stopping = asyncio.Event()
        self._engines_due = self._clock.monotonic() + _ENGINE_HEAD_START_S

    async def run(self) -> int:
        settings = self._settings
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopping.set)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, _lock(settings.data_dir))
            sockets = _listen(settings)
            for sock in sockets:
                stack.callback(sock.close)
            run_dir = _run_dir(settings.data_dir)
            stack.callback(shutil.rmtree, run_dir, ignore_errors=True)
            metrics_dir = make_metrics_dir(settings.data_dir)
            stack.callback(shutil.rmtree, metrics_dir, ignore_errors=True)
            environment = settings_module.to_environment(settings) | {slots.FOLDER: str(metrics_dir)}
            # Engines elsewhere are found by the gateways themselves.
            here = 0 if settings.engine_addresses else settings.engines
            addresses = [f"unix:{run_dir / f'engine-{i}.sock'}" for i in range(here)]
            engines = [self._engine(i, address, environment) for i, address in enumerate(addresses)]
            gateways = [self._gateway(i, sock, addresses, environment, run_dir) for i, sock in enumerate(sockets)]
            return await self._supervise(engines, gateways, sockets)

    async def _supervise(self, engines: list[Child], gateways: list[Child], sockets: list[socket.socket]) -> int:
        for child in (*engines, *gateways):
            await child.start()
        stopped = asyncio.create_task(self._stopping.wait())
        ready = asyncio.create_task(self._ready(engines, gateways))
        try:
            await asyncio.wait({stopped, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                self._tell(sockets[0])
                await stopped
            return 0
        except ChildFailed as error:
            raise CannotStart(str(error)) from None
        finally:
            ready.cancel()
            stopped.cancel()
            _log.info("serve.stopping")
            # Once the gateways have closed theirs, connections are refused and go elsewhere, rather than wait for us.
            for sock in sockets:
                sock.close()
            # Gateways first: they hand back or finish what the engines still work on.
            await asyncio.gather(*(child.stop() for child in gateways))
            await asyncio.gather(*(child.stop() for child in engines))

    async def _ready(self, engines: list[Child], gateways: list[Child]) -> None:
        """Raises ChildFailed when a gateway cannot start. An engine that cannot is the supervisor's to try again:
        recordings are taken and kept until it is there."""
        waiting = [asyncio.create_task(child.wait_ready()) for child in engines]
        try:
            await asyncio.gather(*(child.wait_ready() for child in gateways))
            if not waiting:
                return
            left = max(0.0, self._engines_due - self._clock.monotonic())
            done, _ = await asyncio.wait(waiting, timeout=left)
            if len(done) < len(waiting) or any(task.exception() for task in done):
                _log.error("serve.engine_not_ready")
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    def _tell(self, listener: socket.socket) -> None:
        """The one line on stdout; on a terminal also a link that signs the page in. The token stands in the fragment,
        which no browser sends to any server."""
        settings = self._settings
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        url = f"{'https' if settings.tls_cert else 'http'}://{shown}:{port}"
        print(f"ready {url}", flush=True)  # noqa: T201 - the line that scripts wait for
        if sys.stdout.isatty() and ipaddress.ip_address(host).is_loopback:
            # Imported here: it loads what this process otherwise does without.
            from cosygate.wiring import issue_token

            token = issue_token(settings, "local", ttl_s=_LINK_TTL_S)
            print(f"open  {url}/#token={token}", flush=True)  # noqa: T201 - for whoever sits at the terminal

    def _engine(self, index: int, address: str, environment: dict[str, str]) -> Child:
        settings = self._settings
        argv = [sys.executable, "-m", "cosygate.engine", "--listen", address, *engine_arguments(settings)]
        argv += ["--slots", str(settings.engine_slots), "--live", str(settings.engine_live)]
        argv += ["--log-level", settings.log_level]
        if settings.otlp_endpoint:
            argv += ["--otlp-endpoint", settings.otlp_endpoint]
        # Its own grace ends before the supervisor's patience: calls then end as "try elsewhere", not as a crash.
        argv += ["--grace", "3"]
        # It is told all it needs by its arguments. It never sees a token, and so gets no secret either: nor does the
        # program that it may start.
        spec = ChildSpec(
            name=f"engine {index}",
            argv=[*argv, "--parent-pid", str(os.getpid())],
            env={k: v for k, v in environment.items() if not k.startswith(_SECRET)} | {slots.SLOT: f"e{index}"},
            before_start=lambda: remove_stale_socket(Path(address.removeprefix("unix:"))),
            ready_timeout_s=engine_start_s(settings),
            grace_s=6.0,  # a call's last moments, and a receiver of spans that hangs
            backoff=Backoff(longest_s=settings.restart_longest_s),
            probe=lambda: engine_serves(address),
            probe_every_s=settings.watch_every_s,
        )
        return Child(spec, self._clock, self._randomness)

    def _gateway(
        self, index: int, sock: socket.socket, engines: list[str], environment: dict[str, str], run_dir: Path
    ) -> Child:
        argv = [sys.executable, "-m", "cosygate.gateway", "--fd", str(sock.fileno()), "--index", str(index)]
        argv += [part for address in engines for part in ("--engine", address)]
        pulse = run_dir / f"gateway-{index}.sock"
        argv += ["--pulse", str(pulse), "--breakers", str(Path(environment[slots.FOLDER]) / "breakers")]
        spec = ChildSpec(
            name=f"gateway {index}",
            argv=[*argv, "--parent-pid", str(os.getpid())],
            env=environment | {slots.SLOT: f"g{index}"},
            pass_fds=(sock.fileno(),),
            ready_timeout_s=90.0 if self._settings.shared else 30.0,  # its services are elsewhere, and may be slow
            grace_s=self._settings.drain_s + 5,
            backoff=Backoff(longest_s=self._settings.restart_longest_s),
            before_start=lambda: remove_stale_socket(pulse),
            after_end=lambda: slots.forget(Path(environment[slots.FOLDER]), f"g{index}"),
            probe=lambda: has_pulse(pulse),
            probe_every_s=self._settings.watch_every_s,
        )
        return Child(spec, self._clock, self._randomness)


async def engine_serves(address: str) -> bool:
    """One grpc.health.v1 question: a stopped or stuck engine does not answer, and is replaced."""
    import grpc.aio
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async with grpc.aio.insecure_channel(address) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=4.0)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


async def has_pulse(path: Path) -> bool:
    """Whether the event loop of the gateway behind this socket goes round: one that is stuck accepts nobody."""
    return bool(await pulse_of(path))


async def pulse_of(path: Path) -> bytes:
    """What a process says there (kit/vitals.py, `beat`); nothing when it is not there."""
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        word = await reader.read(1)
        writer.close()
    except OSError:
        return b""
    return word


def _lock(data_dir: Path) -> int:
    """One server per data folder. The descriptor holds the lock. Raises CannotStart."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(data_dir / "serve.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise CannotStart(f"another server uses the data folder {data_dir}") from None
    except OSError as error:
        raise CannotStart(f"the data folder {data_dir} cannot be used: {error.strerror}") from None
    return fd


def _listen(settings: Settings) -> list[socket.socket]:
    """One socket per gateway on the same port: the kernel spreads connections over them. A gateway listens when it can
    serve: until then connections are refused, and whoever stands in front of several hosts goes elsewhere. From then on
    they stay open here, so that connections wait while a gateway restarts. Raises CannotStart."""
    sockets: list[socket.socket] = []
    port = settings.port
    try:
        for _ in range(settings.workers):
            family, kind, proto, _, where = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)[0]
            sock = socket.socket(family, kind, proto)
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if len(sockets) == 1:
                _refuse_taken(family, where)
            if settings.workers > 1:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind(where)
            port = sock.getsockname()[1]
    except OSError as error:
        for sock in sockets:
            sock.close()
        raise CannotStart(f"cannot listen on {settings.host} port {port}: {error.strerror}") from None
    return sockets


def _refuse_taken(family: int, where: Any) -> None:
    """Raises OSError when somebody listens there, which SO_REUSEPORT would hide: connections would be split with
    another server of the same user."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)


def _run_dir(data_dir: Path) -> Path:
    """Where the engines' sockets lie: in the data folder, or, where that makes too long a path, in a private one."""
    run_dir = data_dir.absolute() / "run"
    if len(bytes(run_dir)) + len("/engine-00.sock") > _SOCKET_PATH_MAX:
        return Path(tempfile.mkdtemp(prefix="cosygate-"))
    shutil.rmtree(run_dir, ignore_errors=True)  # stale sockets of a server that was killed
    run_dir.mkdir(mode=0o700)
    return run_dir


def make_metrics_dir(data_dir: Path) -> Path:
    """An empty folder in which the metrics of processes add up (prometheus-client's multiprocess mode). In memory,
    because the files are mapped: a page for which a full disk has no room would end the process that touches it
    (SIGBUS)."""
    place = data_dir.stat()
    folder = _IN_MEMORY / f"cosygate-{os.getuid()}-{place.st_dev:x}-{place.st_ino:x}"
    shutil.rmtree(folder, ignore_errors=True)  # left by a server that was killed
    try:
        folder.mkdir(mode=0o700)
    except OSError:  # there is no such place here, or the name is somebody else's
        return Path(tempfile.mkdtemp(prefix="cosygate-"))
    return folder
