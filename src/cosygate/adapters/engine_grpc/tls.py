"""How calls to engines are encrypted, and by what the two sides know each other."""

from __future__ import annotations

from pathlib import Path

import grpc

from cosygate.kit.pem import Pem, PemFiles


class Certificates:
    """Of all engines of one gateway: files, read again when they change."""

    def __init__(self, ca: Path, cert: Path | None = None, key: Path | None = None) -> None:
        """`ca` vouches for engines; `cert` and `key` show them who we are. Raises ValueError, in words for the
        operator, when they cannot be used."""
        self._files = PemFiles(ca=ca, cert=cert, key=key)
        self._pem: Pem | None = None
        self._version = 0
        self._credentials: grpc.ChannelCredentials | None = None

    def current(self) -> tuple[grpc.ChannelCredentials, int]:
        """For new connections; the number is another once the files have changed."""
        pem = self._files.current()
        if self._credentials is None or pem is not self._pem:
            self._pem = pem
            self._version += 1
            self._credentials = grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)
        return self._credentials, self._version


class Tls:
    """Of the connections to one engine."""

    def __init__(self, certificates: Certificates, server_name: str = "") -> None:
        """`server_name`: what the engine's certificate has to be for, where its address is not that."""
        self._certificates = certificates
        self.server_name = server_name

    def current(self) -> tuple[grpc.ChannelCredentials, int]:
        return self._certificates.current()
