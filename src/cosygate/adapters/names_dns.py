"""Names as this machine resolves them: /etc/hosts, DNS, whatever else its resolver is told to ask (getaddrinfo).

Each look-up runs in a daemon thread of its own. A resolver that hangs does so for as long as it likes, and cannot be
stopped: it must hold up neither the event loop, nor other work that waits for a thread, nor the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from cosygate.ports.names import LookupFailed

_NOTHING = (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME))  # the name is known to have none

Look = Callable[[str], Sequence[Any]]


def _look(name: str) -> Sequence[Any]:
    return socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)


class DnsNames:
    """Implements ports.names.Names. For one event loop."""

    def __init__(self, timeout_s: float = 3.0, look: Look = _look) -> None:
        """`look`: what getaddrinfo answers for a name; raises OSError."""
        self._timeout_s = timeout_s
        self._look = look
        self._looking: dict[str, asyncio.Future[tuple[str, ...]]] = {}

    async def addresses(self, name: str) -> tuple[str, ...]:
        found = self._looking.get(name)
        if found is None:  # one look-up at a time: one that hangs is waited for, again and again
            found = self._looking[name] = asyncio.get_running_loop().create_future()
            contextvars.Context().run(threading.Thread(target=self._ask, args=(name, found), daemon=True).start)
        done, _ = await asyncio.wait({found}, timeout=self._timeout_s)
        if not done:
            raise LookupFailed(f"no answer within {self._timeout_s:g} s")
        try:
            return found.result()
        except OSError as error:
            raise LookupFailed(error.strerror or type(error).__name__) from None

    def _ask(self, name: str, found: asyncio.Future[tuple[str, ...]]) -> None:
        answer: tuple[str, ...] | OSError
        try:
            answer = tuple(dict.fromkeys(str(entry[4][0]) for entry in self._look(name)))
        except socket.gaierror as error:
            answer = () if error.errno in _NOTHING else error
        except (OSError, UnicodeError) as error:
            answer = error if isinstance(error, OSError) else OSError(0, "it is no name of a host")
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            found.get_loop().call_soon_threadsafe(self._tell, name, found, answer)

    def _tell(self, name: str, found: asyncio.Future[tuple[str, ...]], answer: tuple[str, ...] | OSError) -> None:
        del self._looking[name]
        if found.cancelled():
            return
        if isinstance(answer, OSError):
            found.set_exception(answer)
            found.exception()  # looked at: those who waited may be gone
        else:
            found.set_result(answer)
