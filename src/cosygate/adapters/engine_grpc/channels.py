"""The connections to one engine. A connection holds a hundred calls, and one more would wait without a word: so there
is a pool of them, which grows before that, and shrinks when calls have ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import grpc

from cosygate import errors
from cosygate.adapters.engine_grpc.tls import Tls

STREAMS_PER_CHANNEL = 90  # one more than the engine's max_concurrent_streams (100) would wait without a word
CHANNELS_MAX = 16
IDLE_S = 60.0  # how long a connection without calls is kept beside others
_OPTIONS = (
    ("grpc.enable_retries", 0),  # a recording is tried again by its job alone
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # or channels to one address would share a connection
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 4 << 20),
    ("grpc.http2.bdp_probe", 0),
    # A host that vanished says nothing: what does not answer a ping is gone.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


class _Channel:
    def __init__(self, channel: grpc.aio.Channel, version: int) -> None:
        self.channel = channel
        self.version = version  # of the certificates that it was made with
        self.streams = 0
        self.closing: asyncio.TimerHandle | None = None


class Channels:
    """For one event loop: connections are made when they are first needed, in it."""

    def __init__(self, address: str, tls: Tls | None, *, keepalive_s: float, idle_s: float = IDLE_S) -> None:
        """`keepalive_s`: after so long without a word the other side is asked, and has nearly as long to answer."""
        self._address = address
        self._tls = None if address.startswith("unix:") else tls
        self._idle_s = idle_s
        asks, answers = round(1000 * keepalive_s), round(800 * keepalive_s)
        self._options = (
            *_OPTIONS,
            ("grpc.keepalive_time_ms", asks),
            ("grpc.keepalive_timeout_ms", answers),  # of data that no acknowledgement came for (TCP_USER_TIMEOUT)
            ("grpc.http2.ping_timeout_ms", answers),  # of pings: 60 s, if it is not said
        )
        self._channels: list[_Channel] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def encrypted(self) -> bool:
        return self._tls is not None

    def __len__(self) -> int:
        return len(self._channels)

    @contextlib.contextmanager
    def stream(self) -> Iterator[grpc.aio.Channel]:
        """The connection with room for one more call, which counts until the end. Raises EngineBusy."""
        if self._closed:
            raise errors.EngineUnavailable()
        one = self._roomy()
        if one.closing is not None:
            one.closing.cancel()
            one.closing = None
        one.streams += 1
        try:
            yield one.channel
        finally:
            one.streams -= 1
            if not one.streams and not self._closed:
                one.closing = asyncio.get_running_loop().call_later(self._idle_s, self._shrink, one)

    async def close(self) -> None:
        """Ends all calls and connections."""
        self._closed = True
        for one in list(self._channels):
            self._end(one)
        await asyncio.gather(*self._ending)

    def _roomy(self) -> _Channel:
        credentials, version = self._tls.current() if self._tls else (None, 0)
        for one in [c for c in self._channels if c.version != version and not c.streams]:
            self._end(one)  # of certificates that were renewed since: those with calls end with them
        for one in self._channels:
            if one.version == version and one.streams < STREAMS_PER_CHANNEL:
                return one
        if len(self._channels) >= CHANNELS_MAX:
            raise errors.EngineBusy()
        if credentials is None:
            made = grpc.aio.insecure_channel(self._address, options=self._options)
        else:
            named = self._tls.server_name if self._tls else ""
            names = (("grpc.ssl_target_name_override", named), ("grpc.default_authority", named)) if named else ()
            made = grpc.aio.secure_channel(self._address, credentials, options=(*self._options, *names))
        one = _Channel(made, version)
        self._channels.append(one)
        return one

    def _shrink(self, one: _Channel) -> None:
        one.closing = None
        if len(self._channels) > 1:  # the last one is kept: the next call need not wait for a connection
            self._end(one)

    def _end(self, one: _Channel) -> None:
        self._channels.remove(one)
        if one.closing is not None:
            one.closing.cancel()
        task: asyncio.Task[Any] = asyncio.create_task(one.channel.close())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
