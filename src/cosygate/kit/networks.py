"""Lists of addresses and networks, as settings have them."""

from __future__ import annotations

import ipaddress

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def parse_networks(text: str) -> tuple[Network, ...]:
    """Separated by commas or spaces. Raises ValueError, which does not repeat them."""
    try:
        return tuple(ipaddress.ip_network(item) for item in text.replace(",", " ").split())
    except ValueError:
        raise ValueError("addresses or networks are expected, such as 10.0.0.1 or 10.0.0.0/8") from None
