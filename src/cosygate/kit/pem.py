"""Certificates and keys in files that somebody else renews while we run."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cosygate.kit.logs import logger

_log = logger()
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Pem:
    """What the files held; None of a file that there is none of."""

    ca: bytes | None
    cert: bytes | None
    key: bytes | None


class PemFiles:
    """May be used by several threads."""

    def __init__(
        self,
        *,
        ca: Path | None,
        cert: Path | None = None,
        key: Path | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises ValueError, in words for the operator, when a file cannot be read or the key is not the
        certificate's."""
        self._ca, self._cert, self._key = ca, cert, key
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._looked_at = monotonic()
        self._marks = self._look()
        self._pem = self._read()

    def current(self) -> Pem:
        """As the files were a second ago at the latest: the same object until they change. What cannot be used (half
        written, or a key that is not the certificate's) is as it was, and said in the log."""
        with self._lock:
            now = self._monotonic()
            if now - self._looked_at < _LOOK_EVERY_S:
                return self._pem
            self._looked_at = now
            marks = self._look()
            if marks == self._marks:
                return self._pem
            try:
                self._pem, self._marks = self._read(), marks
                _log.info("tls.renewed", cert=str(self._cert or self._ca))
            except ValueError as error:
                _log.error("tls.unusable", detail=str(error))
                self._marks = marks  # until they change again
            return self._pem

    def _look(self) -> tuple[object, ...]:
        marks: list[object] = []
        for path in (self._ca, self._cert, self._key):
            try:
                status = path.stat() if path else None
                marks.append(status and (status.st_mtime_ns, status.st_size, status.st_ino))
            except OSError:
                marks.append("gone")
        return tuple(marks)

    def _read(self) -> Pem:
        """Raises ValueError."""
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if self._cert is not None:
                context.load_cert_chain(self._cert, self._key, password="")
            if self._ca is not None:
                context.load_verify_locations(self._ca)
            ca, cert, key = (path.read_bytes() if path else None for path in (self._ca, self._cert, self._key))
            return Pem(ca, cert, key)
        except ssl.SSLError as error:
            what = f"{self._cert} with {self._key}" if error.reason == "KEY_VALUES_MISMATCH" else "a certificate or key"
            raise ValueError(f"{what} cannot be used: {error.reason or error}") from None
        except OSError as error:
            raise ValueError(f"a certificate or key cannot be read: {error}") from None
