"""uvicorn's WebSocket, with what a live connection needs beside.

Bounds that uvicorn lacks: a reader that takes nothing for too long is told so (4008) and cut off, and so is one that
never answers a close. Both would otherwise hold a socket, and what waits in it, for ever.

And a direct way: once a connection has `divert`ed its messages, each is handed to a function the moment it is parsed,
and `say` writes at once. The queue, the task and the dictionaries of ASGI in between cost as much as all that is done
with a frame of sound (docs/performance.md).
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidHandshake, InvalidState

from cosygate import errors
from cosygate.api.bare import MALFORMED

EXTENSION = "cosygate.direct"  # under which the scope has the socket
_WRITE_BUFFER = 64 * 1024  # bytes that wait in the process for one reader
_NOT_UNDERSTOOD = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_CUT_AFTER_S = 5.0  # between a close that cannot be delivered and the end of the connection


class LiveSocket(WebSocketsSansIOProtocol):
    slow_s = 10.0  # how long a reader may take nothing
    _take: Callable[[str | bytes], None] | None = None
    _cut: asyncio.TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=_WRITE_BUFFER)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.handshake_initiated and not self.close_sent:
            self.handle_parser_exception()

    def handle_connect(self, event: Any) -> None:
        """A handshake that is none is told no more than that: the library would say which header it misses, in words
        of its own."""
        try:
            self.conn.process_request(event)
        except InvalidHandshake:
            self._refuse(MALFORMED)
            return
        super().handle_connect(event)
        if not self.close_sent:
            extensions: Any = self.scope["extensions"]  # ASGI knows dictionaries there alone
            extensions[EXTENSION] = self

    # --- the direct way ----------------------------------------------------------------------------------------------

    def divert(self, take: Callable[[str | bytes], None], crowded: Callable[[], bool]) -> None:
        """From now on `take` gets each message as it comes, those that wait first; `receive` gets the disconnect.
        Nothing more is read when it is `crowded` then."""
        while not self.queue.empty():
            message: Any = self.queue.get_nowait()
            if message["type"] == "websocket.disconnect":
                self.queue.put_nowait(message)
                return
            take(message["text"] if message.get("text") is not None else message["bytes"])
        self._take = take
        self.hold(crowded())

    def hold(self, on: bool) -> None:
        """Whether nothing more is read, so that TCP slows the sender. What was read already still comes."""
        if on != self.read_paused and not self.transport.is_closing():
            self.read_paused = on
            (self.transport.pause_reading if on else self.transport.resume_reading)()

    def say(self, texts: Iterable[bytes]) -> bool:
        """Writes these messages at once; False when that cannot be: the reader is slow, or gone, which `send` tells."""
        if not self.writable.is_set() or self.disconnected or self.close_sent:
            return False
        try:
            for text in texts:
                self.conn.send_text(text)
        except InvalidState:
            return False
        self.transport.write(b"".join(self.conn.data_to_send()))
        return True

    def send_receive_event_to_app(self) -> None:
        if self._take is None or self.close_sent:
            super().send_receive_event_to_app()
            return
        data: bytes = self.frames[0] if len(self.frames) == 1 else b"".join(self.frames)
        self.frames = []
        if self.curr_msg_data_type == "bytes":
            self._take(data)
            return
        try:
            text = data.decode()
        except UnicodeDecodeError:
            self.conn.send_close(1007)
            self.handle_parser_exception()
            return
        self._take(text)

    # --- bounds ------------------------------------------------------------------------------------------------------

    def handle_ping(self) -> None:
        """A reader that takes no answers gets none: they would pile up, and that before anybody has shown a token."""
        if self.writable.is_set() and not self.close_sent:
            super().handle_ping()
        else:
            self.conn.data_to_send()  # the answer, unsent

    def connection_lost(self, exc: Exception | None) -> None:
        if self._cut is not None:
            self._cut.cancel()
        super().connection_lost(exc)

    def _ends(self) -> None:
        """The connection is being closed. It is cut when what waits for its reader cannot be delivered."""
        if self._cut is None:
            self._cut = self.loop.call_later(self.close_timeout + _CUT_AFTER_S, self.transport.abort)

    def handle_close(self, event: Any) -> None:
        self._ends()
        super().handle_close(event)

    async def send(self, message: Any) -> None:
        if message["type"] == "websocket.close":
            self._ends()
        if not self.writable.is_set():
            try:
                async with asyncio.timeout(self.slow_s):
                    await self.writable.wait()
            except TimeoutError:
                self._cut_off()
                raise ClientDisconnected from None
        await super().send(message)

    def _cut_off(self) -> None:
        if not self.close_sent and not self.transport.is_closing():
            self.stop_keepalive()
            self.conn.send_close(errors.ReaderTooSlow.close_code, errors.ReaderTooSlow.code)
            self.transport.write(b"".join(self.conn.data_to_send()))
            self.close_sent = True
        self.close_timer = self.loop.call_later(_CUT_AFTER_S, self.transport.abort)

    def handle_parser_exception(self) -> None:
        """Also for a handshake that the WebSocket library does not understand (a header line beyond its 8 KiB), which
        uvicorn would leave without any answer."""
        self._ends()
        if self.handshake_initiated:
            super().handle_parser_exception()
            return
        self._refuse(_NOT_UNDERSTOOD)

    def _refuse(self, answer: bytes) -> None:
        """Instead of a handshake."""
        self.handshake_complete = self.close_sent = True
        self.transport.write(answer)
        self.transport.close()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(_CUT_AFTER_S, self.transport.abort)
