"""uvicorn's WebSocket, with bounds that it lacks: a reader that takes nothing for too long is told so (4008) and
cut off, and so is one that never answers a close. Both would otherwise hold a socket, and what waits in it, for ever.
"""

from __future__ import annotations

import asyncio
from asyncio.transports import BaseTransport
from typing import Any

from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from cosygate import errors

_WRITE_BUFFER = 64 * 1024  # bytes that wait in the process for one reader
_NOT_UNDERSTOOD = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_MESSAGES_AHEAD = 4  # read, and not taken by the application yet
_CUT_AFTER_S = 5.0  # between a close that cannot be delivered and the end of the connection


class LiveSocket(WebSocketsSansIOProtocol):
    """It also reads on while a few messages wait: uvicorn pauses the socket at each one, and each pause and its end are
    a call into the kernel."""

    slow_s = 10.0  # how long a reader may take nothing

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=_WRITE_BUFFER)

    async def send(self, message: Any) -> None:
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

    def send_receive_event_to_app(self) -> None:
        waiting = self.queue.qsize()
        paused, self.read_paused = self.read_paused, True  # so that it does not pause by itself
        super().send_receive_event_to_app()
        self.read_paused = paused
        if not paused and waiting + 1 >= _MESSAGES_AHEAD and not self.close_sent:
            self.read_paused = True
            self.transport.pause_reading()

    def handle_parser_exception(self) -> None:
        """Also for a handshake that the WebSocket library does not understand (a header line beyond its 8 KiB), which
        uvicorn would leave without any answer."""
        if self.handshake_initiated:
            super().handle_parser_exception()
            return
        self.handshake_complete = self.close_sent = True
        self.transport.write(_NOT_UNDERSTOOD)
        self.transport.close()

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.loop.call_later(_CUT_AFTER_S, self.transport.abort)
