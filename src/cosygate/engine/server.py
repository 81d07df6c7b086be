"""The gRPC server around a recogniser: health, reflection, options, start and orderly end."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from cosygate.engine.extras import Extras
from cosygate.engine.recognisers.base import CannotStart, Recogniser
from cosygate.engine.service import Age, EngineService
from cosygate.engine.tls import credentials
from cosygate.kit import logs
from cosygate.kit.clock import Clock
from cosygate.kit.pem import PemFiles
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc

SERVICE = pb.DESCRIPTOR.services_by_name["SpeechEngine"].full_name
_UNIX_PATH_MAX = 107  # bytes, sockaddr_un
_OPTIONS = (
    ("grpc.so_reuseport", 0),  # or a second engine on the same port would silently get half of the calls
    ("grpc.max_receive_message_length", 1 << 20),  # beyond AUDIO_MAX, so that too long a message gets a clear answer
    ("grpc.max_send_message_length", 4 << 20),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 100),  # per connection; engine_grpc/channels.py opens another one before that
    ("grpc.http2.bdp_probe", 0),  # keeps the window at 64 KiB: two seconds of audio, not megabytes, wait in here
    ("grpc.keepalive_time_ms", 10_000),  # notices within 18 s a caller whose machine went away
    ("grpc.keepalive_timeout_ms", 8_000),  # of data that no acknowledgement came for (TCP_USER_TIMEOUT)
    ("grpc.http2.ping_timeout_ms", 8_000),  # of pings: 60 s, if it is not said
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),  # callers ask every 10 s
    ("grpc.keepalive_permit_without_calls", 1),
)
_log = logs.logger()


@dataclass(frozen=True, slots=True)
class ServerOptions:
    listen: str  # unix:/path or host:port; port 0 takes a free one
    slots: int = 1
    line: int = 64  # calls that may wait for a slot
    live: int = 64  # live calls at once, beside those
    grace_s: float = 10.0  # for running calls, on SIGTERM
    age_s: float = 0.0  # of a connection, after which new calls take another, and of a live call; 0: any
    age_grace_s: float = 30.0  # how long a live call may then look for a good place to end
    tls: PemFiles | None = None  # callers must speak TLS, and with `ca` show a certificate that it vouches for


def _bind(server: grpc.aio.Server, listen: str, tls: PemFiles | None) -> str:
    """Returns the address as clients write it. Raises CannotStart."""
    path = listen.removeprefix("unix:")
    if path != listen and len(path.encode()) > _UNIX_PATH_MAX:
        raise CannotStart(f"the socket's path is longer than {_UNIX_PATH_MAX} bytes")
    try:
        port = server.add_secure_port(listen, credentials(tls)) if tls else server.add_insecure_port(listen)
    except RuntimeError as error:
        raise CannotStart(f"cannot listen on {listen}: {error}") from None
    return listen if path != listen else f"{listen.rpartition(':')[0]}:{port}"


async def serve(
    recogniser: Recogniser, extras: Extras, options: ServerOptions, clock: Clock, *, leave_sigint: bool
) -> bool:
    """Until SIGTERM (or SIGINT, but not with `leave_sigint`: then Ctrl-C is the parent's to handle). Prints one line
    `ready ADDRESS` on stdout. Returns False when a thread would not end. Raises CannotStart."""
    service = EngineService(
        recogniser,
        slots=options.slots,
        line=options.line,
        live=options.live,
        clock=clock,
        extras=extras,
        age=Age(options.age_s, options.age_grace_s) if options.age_s else None,
    )
    # Old connections end by themselves: grpc has no limit for their last calls, since it would end them like a crash.
    age = (("grpc.max_connection_age_ms", round(options.age_s * 1000)),) if options.age_s else ()
    server = grpc.aio.server(options=(*_OPTIONS, *age))
    pb_grpc.add_SpeechEngineServicer_to_server(service, server)
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    address = _bind(server, options.listen, options.tls)
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    loop.add_signal_handler(signal.SIGINT, (lambda: None) if leave_sigint else ending.set)
    await server.start()
    for name in ("", SERVICE):
        await status.set(name, health_pb2.HealthCheckResponse.SERVING)
    sys.stdout.write(f"ready {address}\n")
    sys.stdout.flush()
    _log.info(
        "engine.ready", listen=address, recogniser=recogniser.name, slots=options.slots, tls=options.tls is not None
    )
    await ending.wait()
    _log.info("engine.draining", grace_s=options.grace_s)
    await status.enter_graceful_shutdown()
    idle = await service.drain(options.grace_s)
    await server.stop(1.0)
    return idle
