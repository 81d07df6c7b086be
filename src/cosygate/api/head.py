"""An HTTP/1.1 connection, bounded in bytes and in time where uvicorn with httptools waits and holds for as long as
somebody cares to send, or not to read; and that is before anybody has shown a token.

    connection ─► head ─► body: bounded by whoever reads it ─► trailers ─► answer ─► nothing, or the next head
                  └── bytes, time                              └── bytes    └── time └── time

"""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from cosygate.api.bare import MALFORMED

_TOO_LARGE = b"431 Request Header Fields Too Large"
_TOO_SLOW = b"408 Request Timeout"


class BoundedHead(HttpToolsProtocol):
    """Beyond a bound the connection is answered with a bare status, if it can be, and closed."""

    head_max_bytes = 128 * 1024  # request line and headers, or trailers, give or take one read of the socket
    head_max_s = 20.0  # from the connection, or the head's first bytes, to its end
    answer_max_s = 60.0  # in which a reader whose buffer is full takes what makes room in it (some 50 KiB)
    _in_head = True
    _came_of_nothing = 0  # bytes since the last that were a head's end or part of a body
    _hosts = 0
    _deaf = False  # closed as soon as what was asked before is answered
    _head_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn declares it
        super().connection_made(transport)
        self._time_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_over()
        super().connection_lost(exc)  # resumes writing

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._came_of_nothing += len(data)
        super().data_received(data)
        if self._deaf or self.transport.is_closing() or self.transport.get_protocol() is not self:
            return  # the last: it is a WebSocket by now
        if self._came_of_nothing > self.head_max_bytes:
            self._refuse_head(_TOO_LARGE)
        elif self._head_timer is None and (self._in_head or self.cycle is None or self.cycle.response_complete):
            # Anything that comes ends uvicorn's own clock for connections at rest; also an empty line, which begins no
            # head, and the rest of a body that nobody reads.
            self._time_head()

    def on_message_begin(self) -> None:
        self._in_head, self._hosts = True, 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer: not to be taken for a header (RFC 9110 §6.5.1), and nothing that we read
        self._hosts += name.lower() == b"host"
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._head_over()
        if self._hosts > 1 or (self._hosts == 0 and self.parser.get_http_version() == "1.1"):
            raise ValueError  # RFC 9112 §3.2: not ours to guess; the parser makes it a malformed request
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._came_of_nothing = 0
        super().on_body(body)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer_timer = self.loop.call_later(self.answer_max_s, self.transport.abort)

    def resume_writing(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What cannot be parsed is told no more than that: not which server says so, nor where it stumbled. The rest of
        the connection is not looked at: what follows a malformed request may be anybody's idea of another one."""
        self._refuse(MALFORMED)

    def _time_head(self) -> None:
        self._head_timer = self.loop.call_later(self.head_max_s, self._refuse_head, _TOO_SLOW)

    def _head_over(self) -> None:
        self._in_head, self._came_of_nothing = False, 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _refuse_head(self, status: bytes) -> None:
        self._refuse(b"HTTP/1.1 " + status + b"\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")

    def _refuse(self, answer: bytes) -> None:
        """While an earlier request on the connection is still to be answered, this would be taken for its answer: then
        that one is answered, and the connection closed behind it."""
        self._head_over()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and not cycle.more_body:
            cycle.keep_alive = False
            self._deaf = True
            return
        if cycle is None or cycle.response_complete or not cycle.response_started:
            self.transport.write(answer)
        self.transport.close()
