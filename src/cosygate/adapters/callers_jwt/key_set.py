"""An issuer's key set (JWKS, RFC 7517): which of its keys are used, and for which algorithm.

    RS256   RSA of 2048 to 8192 bits         (RFC 7518 §3.3)
    ES256   EC on P-256                      (§3.4)
    EdDSA   OKP, Ed25519                     (RFC 8037)

Every other key is left alone, and so is one whose own `alg`, `use` or `key_ops` says that it is for something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jwt.algorithms
import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.exceptions import PyJWTError

MAX_BYTES = 256 * 1024
MAX_KEYS = 100
MAX_SAME = 4  # keys of one kid and algorithm: each costs a verification
MAX_KID_CHARS = 512
RSA_BITS = range(2048, 8192 + 1)
_RSA_EXPONENT_CHARS = 6  # base64url: 4 bytes; a larger one makes verifying slow
# (kty, crv) → algorithm; what the key's own `alg` may then say; the members that make the public key
_KINDS: dict[tuple[str, str | None], tuple[str, frozenset[str], tuple[str, ...]]] = {
    ("RSA", None): ("RS256", frozenset({"RS256"}), ("n", "e")),
    ("EC", "P-256"): ("ES256", frozenset({"ES256"}), ("crv", "x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", frozenset({"EdDSA", "Ed25519"}), ("crv", "x")),
}
ALGORITHMS = frozenset(algorithm for algorithm, _, _ in _KINDS.values())
_MAKERS: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


@dataclass(frozen=True, slots=True)
class KeySet:
    """Public keys by kid and algorithm. Two sets with the same keys are equal, in whatever order they came."""

    keys: Mapping[tuple[str | None, str], tuple[Any, ...]]
    thumbprints: frozenset[str]  # of every key in it, with its kid
    ignored: int = 0  # keys of the document that are not used

    def find(self, kid: str | None, algorithm: str) -> tuple[Any, ...]:
        """The keys that a token may be signed with. One that names no key: the only one for its algorithm."""
        if kid is not None:
            return self.keys.get((kid, algorithm), ())
        fitting = [keys for (_, for_what), keys in self.keys.items() if for_what == algorithm]
        return fitting[0] if len(fitting) == 1 and len(fitting[0]) == 1 else ()


def parse(document: bytes) -> KeySet:
    """Raises ValueError when it is no key set. A key that cannot be used is left out."""
    told = orjson.loads(document)
    listed = told.get("keys") if isinstance(told, dict) else None
    if not isinstance(listed, list):
        raise ValueError("there is no list of keys")
    found: dict[tuple[str | None, str], tuple[Any, ...]] = {}
    thumbprints: set[str] = set()
    ignored = max(0, len(listed) - MAX_KEYS)
    for jwk in listed[:MAX_KEYS]:
        made = _public_key(jwk)
        if made is None:
            ignored += 1
            continue
        kid, algorithm, key, thumbprint = made
        same = found.get((kid, algorithm), ())
        if thumbprint in thumbprints or len(same) >= MAX_SAME:
            ignored += 1
            continue
        found[kid, algorithm] = (*same, key)
        thumbprints.add(thumbprint)
    return KeySet(found, frozenset(thumbprints), ignored)


def _public_key(jwk: Any) -> tuple[str | None, str, Any, str] | None:
    """kid, algorithm, key, and what tells it from others; None when it is not for us."""
    if not isinstance(jwk, dict):
        return None
    try:
        algorithm, says, members = _KINDS[jwk.get("kty"), jwk.get("crv")]  # type: ignore[index]  # whatever it is
    except (KeyError, TypeError):
        return None
    if jwk.get("alg", algorithm) not in says or jwk.get("use", "sig") != "sig" or not _verifies(jwk):
        return None
    kid = jwk.get("kid")
    if not (kid is None or (isinstance(kid, str) and 0 < len(kid) <= MAX_KID_CHARS)):
        return None
    # A private part is nobody's to publish: a key that came with one is everybody's.
    if "d" in jwk or not all(isinstance(jwk.get(name), str) for name in members):
        return None
    public = {"kty": jwk["kty"]} | {name: jwk[name] for name in members}
    if algorithm == "RS256" and len(public["e"]) > _RSA_EXPONENT_CHARS:
        return None
    try:
        key = _MAKERS[algorithm].from_jwk(public)
    except (PyJWTError, UnsupportedAlgorithm, ValueError, TypeError, OverflowError):
        return None
    if isinstance(key, RSAPublicKey) and key.key_size not in RSA_BITS:
        return None
    return kid, algorithm, key, orjson.dumps([kid, public], option=orjson.OPT_SORT_KEYS).decode()


def _verifies(jwk: dict[str, Any]) -> bool:
    allowed = jwk.get("key_ops")
    return allowed is None or (isinstance(allowed, list) and "verify" in allowed)
