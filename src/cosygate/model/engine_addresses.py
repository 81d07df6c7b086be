"""Where engines are that somebody else starts: `host:port, host:port`, or `dns:name:port` for every address of a
name."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

ENGINES_MAX = 1024  # of one gateway
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")


@dataclass(frozen=True, slots=True)
class EngineAddress:
    host: str  # a name or an IP address
    port: int
    each: bool = False  # an engine at each of the name's addresses, looked up again and again

    def __str__(self) -> str:
        return join(self.host, self.port)


def join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parse_addresses(text: str) -> tuple[EngineAddress, ...]:
    """Each once, in their order. Raises ValueError."""
    found = tuple(dict.fromkeys(_parse(part) for part in text.replace(",", " ").split()))
    if len(found) > ENGINES_MAX:
        raise ValueError(f"they are at most {ENGINES_MAX}")
    return found


def _parse(part: str) -> EngineAddress:
    each = part.startswith("dns:")
    host, _, port = part.removeprefix("dns:").rpartition(":")
    if not (port.isascii() and port.isdecimal() and len(port) <= 5 and 0 < int(port) <= 65535):
        raise ValueError(f"{part[:64]!r} has no port: it is host:port, [IPv6]:port or dns:name:port")
    if host.startswith("[") and host.endswith("]") and not each:
        try:
            return EngineAddress(str(ipaddress.IPv6Address(host[1:-1])), int(port))
        except ValueError:
            raise ValueError(f"{part[:64]!r} has no IPv6 address between its brackets") from None
    if not _HOST.fullmatch(host):
        raise ValueError(f"{part[:64]!r} has no host: it is host:port, [IPv6]:port or dns:name:port")
    return EngineAddress(host, int(port), each)
