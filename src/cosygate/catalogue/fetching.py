"""One file over HTTP, in as many connections as it takes: what is there already is asked for no more (Range, If-Range;
RFC 9110 §13.1.5, §14), unless the server has another file by now or cannot continue; then it begins anew."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2

from cosygate.catalogue import ModelError
from cosygate.catalogue.entries import Source, loopback
from cosygate.kit.backoff import Backoff
from cosygate.kit.clock import Randomness, SystemRandomness

LARGEST = 8 * 1024**3  # bytes; of what the catalogue does not know the size of
_RANGE = re.compile(r"bytes (?:(\d{1,18})-\d{1,18}|\*)/(\d{1,18})")
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})

Told = Callable[[int, int], None]  # bytes so far, bytes in all (0: not known)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server that gives nothing is asked again: with the defaults, about half a minute of pauses."""

    tries: int = 7  # in a row without a new byte
    connections: int = 1000  # in all
    idle_s: float = 30.0  # without a byte, of one connection
    backoff: Backoff = field(default_factory=lambda: Backoff(first_s=0.5, longest_s=20.0))
    randomness: Randomness = field(default_factory=SystemRandomness)
    wait: Callable[[float], object] = field(default_factory=lambda: threading.Event().wait)


class _Broken(Exception):
    """This connection gave no more; another may."""


def mirrored(url: str, mirror: str) -> str:
    """`url` at the mirror: its scheme and host replaced by the mirror's address, its path behind it."""
    return mirror.rstrip("/") + urlsplit(url).path if mirror else url


def fetch(source: Source, url: str, into: Path, told: Told, patience: Patience) -> None:
    """Fetches what `source` describes from `url` into the file `into`, beginning with what lies there. Beside it,
    `into`.tag says what that is the beginning of. Raises ModelError; OSError (disk)."""
    barren = 0
    with _client(url, patience) as http:
        for _ in range(patience.connections):
            before = _size(into)
            try:
                _connection(http, source, url, into, told)
                return
            except (_Broken, httpx2.TransportError) as cut:
                reason = str(cut) or type(cut).__name__
                if _hopeless(cut):
                    break
            barren = 0 if _size(into) > before else barren + 1
            if barren >= patience.tries:
                break
            patience.wait(patience.backoff.delay(barren, patience.randomness))
    kept = f"; {_size(into):,} bytes are kept, and the same command goes on from there" if _size(into) else ""
    ways = "a mirror (COSYGATE_MODELS_MIRROR) or a copy (--from) can stand for it"
    raise ModelError(f"{url} could not be fetched: {reason}{kept}; {ways}")


def _client(url: str, patience: Patience) -> httpx2.Client:
    first = urlsplit(url)

    def check(request: httpx2.Request) -> None:
        """A redirect must not lead out of TLS."""
        if request.url.scheme != "https" and not (first.scheme == "http" and loopback(request.url.host)):
            raise ModelError(f"{url} leads to {request.url.scheme}://{request.url.host}, which is not https")

    return httpx2.Client(
        headers={"User-Agent": "cosygate-models", "Accept-Encoding": "identity"},
        timeout=patience.idle_s,
        follow_redirects=True,
        max_redirects=10,
        event_hooks={"request": [check]},
        trust_env=not loopback(first.hostname),  # a proxy from the environment cannot reach this machine's own server
    )


def _hopeless(cut: BaseException | None) -> bool:
    while cut is not None:
        if isinstance(cut, ssl.SSLCertVerificationError | httpx2.UnsupportedProtocol | httpx2.LocalProtocolError):
            return True
        cut = cut.__cause__ or cut.__context__
    return False


def _connection(http: httpx2.Client, source: Source, url: str, into: Path, told: Told) -> None:
    """Returns when the file is whole. Raises _Broken, TransportError; ModelError when no other try can help."""
    tag = _tag(into, url)
    have = 0 if tag is None else _size(into)
    if source.bytes and have == source.bytes:
        return
    headers = {"Range": f"bytes={have}-", "If-Range": tag} if have and tag else {}
    try:
        with http.stream("GET", url, headers=headers) as answer:
            unit = _RANGE.fullmatch(answer.headers.get("content-range", ""))
            if headers and answer.status_code == 416 and unit and int(unit[2]) == have:
                return  # it was whole already
            if answer.status_code == 206 and headers and unit and _continues(answer, unit, have, tag):
                total = _total(answer, source, int(unit[2]))
            elif answer.status_code == 200:
                total = _total(answer, source, int(answer.headers.get("content-length", "0")))
                have = 0
                _forget(into)
                _remember(into, url, answer)
            else:
                raise _refusal(answer, url, into)
            _store(answer, have, total, into, told)
    except (httpx2.TooManyRedirects, httpx2.InvalidURL) as error:
        raise ModelError(f"{url}: {error}") from None


def _refusal(answer: httpx2.Response, url: str, into: Path) -> Exception:
    if answer.status_code in (206, 416):
        _forget(into)
        return _Broken("the server cannot continue where the last connection ended")
    kind = _Broken if answer.status_code in _AGAIN else ModelError
    return kind(f"{url}: the server answered {answer.status_code}")


def _total(answer: httpx2.Response, source: Source, length: int) -> int:
    """Bytes that the whole file has, 0: not known; `length` is what the server says. Raises ModelError."""
    if answer.headers.get("content-encoding", "identity") != "identity":
        raise ModelError(f"{answer.url} comes encoded, which was not asked for")
    if source.bytes and length not in (0, source.bytes):
        raise ModelError(f"{answer.url} has {length:,} bytes, and the catalogue says {source.bytes:,}")
    if length > LARGEST:
        raise ModelError(f"{answer.url} has {length:,} bytes; more than {LARGEST:,} are not fetched")
    return source.bytes or length


def _store(answer: httpx2.Response, have: int, total: int, into: Path, told: Told) -> None:
    most = total or LARGEST
    with into.open("ab") as out:
        for block in answer.iter_raw():
            have += len(block)
            if have > most:
                break
            out.write(block)
            told(have, total)
    if have > most:
        _forget(into)
        raise ModelError(f"{answer.url} has more than {most:,} bytes")
    if have < total:
        raise _Broken("the connection ended early")


def _continues(answer: httpx2.Response, unit: re.Match[str], have: int, tag: str | None) -> bool:
    """Whether a 206 has what comes next of what lies here. Some servers know Range and not If-Range."""
    etag = answer.headers.get("etag")
    return int(unit[1] or -1) == have and (etag is None or etag == tag or not (tag or "").startswith('"'))


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _tag_file(into: Path) -> Path:
    return into.with_name(into.name + ".tag")


def _tag(into: Path, url: str) -> str | None:
    """What If-Range takes for the bytes at `into`: "" when nothing does. None: they are not known to be of `url`."""
    try:
        whose, tag = json.loads(_tag_file(into).read_bytes())
    except (OSError, ValueError, TypeError):
        return None
    return tag if whose == url and isinstance(tag, str) else None


def _remember(into: Path, url: str, answer: httpx2.Response) -> None:
    """The strong ETag, or the date of the last change."""
    etag = answer.headers.get("etag", "")
    tag = etag if etag.startswith('"') else answer.headers.get("last-modified", "")
    _tag_file(into).write_text(json.dumps([url, tag]))


def _forget(into: Path) -> None:
    into.unlink(missing_ok=True)
    _tag_file(into).unlink(missing_ok=True)
