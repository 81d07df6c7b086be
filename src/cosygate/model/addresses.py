"""Which addresses a gateway may send to on somebody's behalf: public ones, and those that the operator allows.

An address may stand for another one (IPv4 in IPv6, tunnels, translation): then every one that it stands for has to be
allowed. What is not known to be public is not.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")  # all that was ever given out (IANA IPv6 Global Unicast)
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")  # NAT64's well-known prefix (RFC 6052): IPv4 behind it
_ISATAP = frozenset({0x0000_5EFE, 0x0200_5EFE})  # second last 32 bits of an address that holds IPv4 (RFC 5214)
# Beside what Python calls private, multicast or reserved, which differs between its versions.
_NOT_PUBLIC = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carriers' own; one cloud has its metadata in it
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4's relays
        "198.18.0.0/15",
        "168.63.129.16/32",  # a cloud's host agent, at an address that looks public
        "2001::/23",
        "2001:db8::/32",
        "3fff::/20",
    )
)
# Spelt with digits alone (also 2130706433, 0x7f.1, 0177.0.0.1): C libraries take these for IPv4 addresses.
_NUMERIC = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?")


@dataclass(frozen=True, slots=True)
class Reach:
    """`allowed`: networks that may be sent to although they are not public."""

    allowed: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Reach:
        """Addresses and networks, separated by spaces or commas. Raises ValueError."""
        return cls(tuple(ipaddress.ip_network(part) for part in text.replace(",", " ").split()))

    def permits(self, address: Address) -> bool:
        return all(_in(one, self.allowed) or _public(one) for one in _stands_for(address))


def literal(host: str) -> Address | None:
    """The address that a URL's host spells, in any way that a C library understands; None for a name. Raises
    ValueError for digits that are no address."""
    if host.startswith("["):
        return ipaddress.IPv6Address(host.strip("[]"))
    if not _NUMERIC.fullmatch(host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host.removesuffix(".")))
    except OSError:
        raise ValueError("no address") from None


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address in network for network in networks if network.version == address.version)


def _public(address: Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _PUBLIC_V6:
        return False
    return address.is_global and not (address.is_multicast or address.is_reserved or _in(address, _NOT_PUBLIC))


def _stands_for(address: Address) -> list[Address]:
    """Whom one reaches with it: the address itself, unless it is only another's wrapping, and those inside it."""
    if isinstance(address, ipaddress.IPv4Address):
        return [address]
    low = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
    if address.ipv4_mapped is not None or address in _TRANSLATED:
        return [low]
    inside: list[Address] = []
    if address.sixtofour is not None:
        inside.append(address.sixtofour)
    if address.teredo is not None:
        inside += address.teredo
    if int(address) >> 32 & 0xFFFF_FFFF in _ISATAP:
        inside.append(low)
    return [address, *inside]
