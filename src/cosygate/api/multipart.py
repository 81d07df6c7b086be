"""multipart/form-data (RFC 7578) as a stream: fields in any order, the one file passed on as it arrives.

Starlette's own form parser spools every file to disk before a handler sees it; here the chunk goes straight to its
store. The parser underneath is python-multipart's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from cosygate import errors
from cosygate.ports.blobs import Received

_MAX_FIELDS = 32
_MAX_FIELD_BYTES = 4096
_MAX_HEADER_BYTES = 4096  # of one part's headers

# What a piece of the body turned out to be.
_FILE_BEGINS, _FILE_DATA, _FILE_ENDS = "file", "data", "end"


class _Reader:
    """Turns pieces of the body into text fields and file events, in order."""

    def __init__(self, boundary: bytes, file_field: str) -> None:
        self.fields: dict[str, str] = {}
        self.events: list[tuple[str, bytes]] = []
        self.over = False
        self._file_field = file_field
        self._header_name = b""
        self._header_value = b""
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._is_file = False
        self._value = b""
        self._files = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_data,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._ends,
            },
        )

    def feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except MultipartParseError:
            raise errors.BodyMalformed("the multipart body is malformed") from None

    def _part_begins(self) -> None:
        self._headers = {}
        self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]
        self._bounded_header()

    def _header_data(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]
        self._bounded_header()

    def _bounded_header(self) -> None:
        if len(self._header_name) + len(self._header_value) > _MAX_HEADER_BYTES:
            raise errors.BodyMalformed("a part's headers are too long")

    def _header_ends(self) -> None:
        if len(self._headers) >= 8:
            raise errors.BodyMalformed("a part has too many headers")
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name = self._header_value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition", b""))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = self._name == self._file_field
        if self._is_file:
            self._files += 1
            if self._files > 1:
                raise errors.BodyMalformed("there is more than one chunk")
            self.events.append((_FILE_BEGINS, b""))
        elif not self._name or b"filename" in options:
            raise errors.BodyMalformed(f"the only file is {self._file_field!r}")
        elif self._name in self.fields or len(self.fields) >= _MAX_FIELDS:
            raise errors.BodyMalformed("a field is repeated, or there are too many")

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self.events.append((_FILE_DATA, data[start:end]))
            return
        self._value += data[start:end]
        if len(self._value) > _MAX_FIELD_BYTES:
            raise errors.BodyMalformed("a field is too long")

    def _part_ends(self) -> None:
        if self._is_file:
            self.events.append((_FILE_ENDS, b""))
            return
        try:
            self.fields[self._name] = self._value.decode()
        except UnicodeDecodeError:
            raise errors.BodyMalformed("a field is not UTF-8") from None

    def _ends(self) -> None:
        self.over = True


def boundary_of(content_type: str) -> bytes:
    """Raises BodyMalformed when it is not multipart/form-data with a boundary."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if kind != b"multipart/form-data" or not 1 <= len(boundary) <= 70:
        raise errors.BodyMalformed("the body is multipart/form-data with a boundary")
    return boundary


class _Form:
    """Pulls the body through the reader, for whoever asks next."""

    def __init__(self, body: AsyncIterator[bytes], reader: _Reader) -> None:
        self._body = body
        self._reader = reader

    async def more(self) -> None:
        piece = await anext(self._body, None)
        if piece is None:
            raise errors.BodyMalformed("the multipart body ends too early")
        self._reader.feed(piece)

    async def next_file(self) -> bool:
        """Reads on until a file begins (True) or the form is over (False)."""
        while not self._reader.events:
            if self._reader.over:
                return False
            await self.more()
        self._reader.events.pop(0)
        return True

    async def file_data(self) -> AsyncIterator[bytes]:
        while True:
            while self._reader.events:
                kind, data = self._reader.events.pop(0)
                if kind == _FILE_ENDS:
                    return
                yield data
            await self.more()

    async def epilogue(self) -> None:
        """RFC 2046 §5.1.1 allows text after the closing boundary; it is read so that the connection stays usable."""
        read = 0
        async for piece in self._body:
            read += len(piece)
            if read > _MAX_FIELD_BYTES:
                raise errors.BodyMalformed("the multipart body goes on after its end")


async def read_form(
    body: AsyncIterator[bytes],
    boundary: bytes,
    file_field: str,
    store: Callable[[AsyncIterator[bytes]], Awaitable[Received]],
) -> tuple[dict[str, str], Received]:
    """Reads the form to its end; `store` takes the file as it arrives. Returns the text fields and what was stored; on
    any error what was stored is closed. Raises BodyMalformed, and what `store` and `body` raise."""
    reader = _Reader(boundary, file_field)
    form = _Form(body, reader)
    received: Received | None = None
    try:
        while await form.next_file():
            received = await store(form.file_data())
        if received is None:
            raise errors.BodyMalformed(f"there is no file field {file_field!r}")
        await form.epilogue()
        return reader.fields, received
    except BaseException:
        if received is not None:
            await received.close()
        raise
