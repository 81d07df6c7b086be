"""Lists of addresses and networks, as settings have them, and who they let in."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


def parse_networks(text: str) -> tuple[Network, ...]:
    """Separated by commas or spaces. Raises ValueError, which does not repeat them."""
    try:
        return tuple(ipaddress.ip_network(item) for item in text.replace(",", " ").split())
    except ValueError:
        raise ValueError("addresses or networks are expected, such as 10.0.0.1 or 10.0.0.0/8") from None


@dataclass(frozen=True, slots=True)
class MetricsDoor:
    """Who may read /metrics without a token: loopback always, and these networks."""

    allow: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> MetricsDoor:
        """Addresses and networks separated by commas or spaces. Raises ValueError."""
        return cls(parse_networks(text))

    def open_to(self, host: str | None) -> bool:
        try:
            address = ipaddress.ip_address(host or "")
        except ValueError:
            return False
        # On a socket for both families, callers by IPv4 show up as ::ffff:a.b.c.d (RFC 4291 §2.5.5.2).
        address = getattr(address, "ipv4_mapped", None) or address
        return any(address in network for network in (*_LOOPBACK, *self.allow))
