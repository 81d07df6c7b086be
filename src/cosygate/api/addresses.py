"""Who sent a request, as far as an address can tell: the socket's peer, or whom a trusted proxy names."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from starlette.types import Scope

from cosygate.kit.networks import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
UNKNOWN = "unknown"
_FORWARDED = b"x-forwarded-for"
_PROTO = b"x-forwarded-proto"
_SUBSCRIBER = 64  # bits of an IPv6 address that its holder did not choose (RFC 6177): the rest is one caller's


@dataclass(frozen=True, slots=True)
class Proxies:
    """Those whose X-Forwarded-For is believed. Each proxy adds on the right whom it heard, so the right-most entry that
    is no proxy of ours is the caller; what stands further left is the caller's own invention."""

    trusted: tuple[Network, ...] = ()

    def key(self, scope: Scope) -> str:
        """What to count requests of this sender under: an IPv4 address, or the network of an IPv6 one."""
        found = self.sender(scope)
        if found is None:
            return UNKNOWN
        if isinstance(found, ipaddress.IPv6Address):
            return str(ipaddress.ip_network((found, _SUBSCRIBER), strict=False))
        return str(found)

    def sender(self, scope: Scope) -> Address | None:
        peer = scope.get("client")
        found = _address(peer[0]) if peer else None
        if found is None or not self.trusts(found):
            return found
        for entry in reversed(_forwarded(scope)):
            named = _address(entry)
            if named is None:
                return found  # nonsense: the last one that made sense answers for it
            found = named
            if not self.trusts(found):
                return found
        return found

    def scheme(self, scope: Scope) -> str:
        """https where the caller speaks TLS to us, or to a proxy of ours that says so (X-Forwarded-Proto)."""
        peer = scope.get("client")
        found = _address(peer[0]) if self.trusted and peer else None
        if found is None or not self.trusts(found):
            return str(scope["scheme"])
        told = [value for name, value in scope["headers"] if name == _PROTO]
        nearest = told[-1].rpartition(b",")[2].strip().lower() if told else b""
        return nearest.decode() if nearest in (b"http", b"https") else str(scope["scheme"])

    def trusts(self, address: Address) -> bool:
        return any(address in network for network in self.trusted)


def forwarded(scope: Scope) -> bool:
    """Whether a proxy, or somebody who plays one, says it speaks for another."""
    return any(name == _FORWARDED for name, _ in scope["headers"])


def _forwarded(scope: Scope) -> list[str]:
    lines = [value.decode("latin-1") for name, value in scope["headers"] if name == _FORWARDED]
    return ",".join(lines).split(",") if lines else []


def _address(text: str) -> Address | None:
    """Some proxies add the port."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    # On a socket for both families, callers by IPv4 show up as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
    return getattr(found, "ipv4_mapped", None) or found
