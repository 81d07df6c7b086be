"""How callers of an engine are told that it is the one, and how it knows them, when it listens on a network."""

from __future__ import annotations

import grpc

from cosygate.kit.pem import Pem, PemFiles


def credentials(files: PemFiles) -> grpc.ServerCredentials:
    """Looks at the files with every connection: renewing a certificate takes no restart. With a `ca`, who shows no
    certificate that it vouches for is turned away (mTLS)."""
    known = files.current()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """In a thread of grpc's. None: as before."""
        nonlocal known
        pem = files.current()
        if pem is known:
            return None
        known = pem
        return _configuration(pem)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(known), renewed, require_client_authentication=known.ca is not None
    )


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], pem.ca)
