"""A real HTTP server with archives of models that does what servers do on the way to one: it cuts connections, does not
know Range, has another file by the next request, sends more than it said. And archives, good and hostile."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import random
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Behaviour:
    """Of one answer. `cut`: ends the connection after so many bytes of the body; None: never."""

    status: int = 0  # 0: 200, 206 or 416, as it is
    cut: int | None = None
    ranges: bool = True
    length: bool = True  # Content-Length; without, the body comes in chunks
    surplus: bytes = b""
    shift: int = 0  # a 206 begins so many bytes later than asked for
    location: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Asked:
    path: str
    range: str | None
    if_range: str | None


class ModelHost:
    def __init__(self) -> None:
        self.url = ""
        self.files: dict[str, bytes] = {}  # by path
        self.tags: dict[str, str] = {}  # ETag by path; else the digest of the content
        self.script: list[Behaviour] = []  # of the next answers; then all is well
        self.asked: list[Asked] = []
        self.hold = threading.Event()  # answers wait for it
        self.hold.set()
        self.lock = threading.Lock()

    def etag(self, path: str) -> str:
        return self.tags.get(path, f'"{hashlib.sha256(self.files[path]).hexdigest()[:16]}"')

    @contextmanager
    def serving(self) -> Iterator[ModelHost]:
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                host.hold.wait(30)
                with host.lock:
                    host.asked.append(Asked(self.path, self.headers["range"], self.headers["if-range"]))
                    does = host.script.pop(0) if host.script else Behaviour()
                host.answer(self, does)

            def log_message(self, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients leave in the middle
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def answer(self, handler: BaseHTTPRequestHandler, does: Behaviour) -> None:
        data, status, extra = self.files.get(handler.path), does.status, dict(does.headers)
        if data is None or status or does.location:
            handler.send_response_only(302 if does.location else status or 404)
            handler.send_header("Content-Length", "0")
            if does.location:
                handler.send_header("Location", does.location)
            handler.end_headers()
            return
        etag, asked, start = self.etag(handler.path), handler.headers["range"], 0
        if does.ranges and asked and handler.headers["if-range"] in (None, etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-")) + does.shift
            if start >= len(data):
                handler.send_response_only(416)
                handler.send_header("Content-Range", f"bytes */{len(data)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
            extra["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        body = data[start:] + does.surplus
        handler.send_response_only(206 if "Content-Range" in extra else 200)
        framing = {"Content-Length": str(len(data) - start)} if does.length else {"Transfer-Encoding": "chunked"}
        headers = {"Content-Type": "application/octet-stream", "ETag": etag} | framing | extra
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        sent = body if does.cut is None else body[: does.cut]
        if does.length:
            handler.wfile.write(sent)
        else:
            for i in range(0, len(sent), 5000):
                piece = sent[i : i + 5000]
                handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
            if does.cut is None:
                handler.wfile.write(b"0\r\n\r\n")
        handler.close_connection = does.cut is not None or bool(does.surplus)


def noise(size: int, seed: int = 0) -> bytes:
    """Bytes that no archive makes smaller."""
    return random.Random(seed).randbytes(size)


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def tarred(files: dict[str, bytes], *others: tarfile.TarInfo, suffix: str = ".tar.bz2") -> bytes:
    """An archive of `files`, with `others` (without content) before them."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for info in others:
            tar.addfile(info)
        for name, content in files.items():
            tar.addfile(member(name, size=len(content)), io.BytesIO(content))
    return packed(plain.getvalue(), suffix)


def packed(plain: bytes, suffix: str = ".tar.bz2") -> bytes:
    return bz2.compress(plain) if suffix.endswith("bz2") else gzip.compress(plain, 1)


def zipped(files: dict[str, bytes], modes: dict[str, int] | None = None) -> bytes:
    bundle = io.BytesIO()
    with zipfile.ZipFile(bundle, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (modes or {}).get(name, 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            out.writestr(info, content)
    return bundle.getvalue()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def catalogue(path: Path, entries: dict[str, dict[str, Any]]) -> Path:
    """A catalogue of one's own at `path`: entry → {url, bytes, sha256, file, capabilities, settings}, each a SenseVoice
    of two files."""
    lines = []
    for name, entry in entries.items():
        lines += [
            f"[{name}]",
            'title = "for a test"',
            'family = "sense_voice"',
            'languages = ["zh", "en"]',
            "capabilities = " + entry.get("capabilities", '["words"]'),
            'licence = "MIT"',
            'home = "https://models.example/"',
            f'files.model = {{ path = "model.onnx", sha256 = "{entry.get("file", "")}" }}',
            'files.tokens = { path = "tokens.txt" }',
            "settings = " + entry.get("settings", "{}"),
            f"[[{name}.sources]]",
            f'url = "{entry["url"]}"',
            f"bytes = {entry.get('bytes', 0)}",
            f'sha256 = "{entry.get("sha256", "")}"',
        ]
    path.write_text("\n".join(lines) + "\n")
    return path
