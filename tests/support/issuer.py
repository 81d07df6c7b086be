"""An identity provider: keys, tokens signed with them, and a key set on a local port that rotates, hangs and fails."""

from __future__ import annotations

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ALGORITHMS: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


class Key:
    """A private key with a kid; `bits` are of RSA."""

    def __init__(self, algorithm: str, kid: str | None = None, *, bits: int = 2048) -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private: Any
        if algorithm == "RS256":
            self.private = rsa.generate_private_key(65537, bits)
        elif algorithm == "ES256":
            self.private = ec.generate_private_key(ec.SECP256R1())
        else:
            self.private = ed25519.Ed25519PrivateKey.generate()

    def jwk(self, **members: Any) -> dict[str, Any]:
        """The public key; `members` are added, or (None) left out."""
        told: dict[str, Any] = _ALGORITHMS[self.algorithm].to_jwk(self.private.public_key(), as_dict=True)
        told.pop("key_ops", None)
        told |= {"alg": self.algorithm, "use": "sig"} | ({} if self.kid is None else {"kid": self.kid}) | members
        return {name: value for name, value in told.items() if value is not None}

    def pem(self) -> bytes:
        """The public key as everybody can have it."""
        shown: bytes = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return shown

    def token(self, sub: str = "alice", *, header: dict[str, Any] | None = None, **claims: Any) -> str:
        """`claims` are added, or (None) left out."""
        now = int(time.time())
        told = {"sub": sub, "iat": now, "exp": now + 3600} | claims
        told = {name: value for name, value in told.items() if value is not None}
        head = ({} if self.kid is None else {"kid": self.kid}) | (header or {})
        return jwt.encode(told, self.private, self.algorithm, headers=head)


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Listens while it is a context. Its key set is `keys`, or, as they stand, the bytes of `document`."""

    def __init__(self, *keys: Key) -> None:
        self.keys: list[Key] = list(keys)
        self.document: bytes | None = None
        self.status = 200
        self.headers: dict[str, str] = {}
        self.slow_s = 0.0  # between the bytes of an answer
        self.asked = 0  # how often the key set was asked for
        self.other_paths: list[str] = []  # what else was asked for
        self.hang = threading.Event()
        self._let_go = threading.Event()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path != "/jwks":
                    issuer.other_paths.append(self.path)
                issuer.asked += 1
                if issuer.hang.is_set():
                    issuer._let_go.wait(60)
                    self.close_connection = True
                    return
                issuer._answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/jwks"

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        body = self.document
        if body is None:
            body = json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()
        try:
            handler.send_response(self.status)
            for name, value in self.headers.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(body)))
            handler.end_headers()
            if not self.slow_s:
                handler.wfile.write(body)
            for n in range(len(body) if self.slow_s else 0):
                handler.wfile.write(body[n : n + 1])
                if self._let_go.wait(self.slow_s):
                    return
        except OSError:
            pass  # the reader has had enough

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: TracebackType | object) -> None:
        self._let_go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
