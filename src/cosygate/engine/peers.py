"""Child processes that answer questions, for work that holds Python's lock or may end the process that does it.

At most so many at once, started when they are first needed; they live and die with this process, and one that dies,
was asked in vain, or said more than it was asked, is replaced. What they are asked, over a socket that is their
descriptor 0, is between them and their caller.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from cosygate.engine.recognisers.base import Stopped

_LOOK_EVERY_S = 0.1  # for a caller that left
_END_WAIT_S = 2.0  # for a child that may end by itself


class Peers:
    """For several threads at once; `close` once they are done."""

    def __init__(self, module: str, arguments: Sequence[str], *, count: int, name: str) -> None:
        """`python -m MODULE ARGUMENTS… PID` dies with PID, this process. `name`: of the thread that starts them."""
        self._argv = [sys.executable, "-m", module, *arguments, str(os.getpid())]
        # The last one used comes first, so that no more are started than are needed. None: not started yet.
        self._free: queue.LifoQueue[Peer | None] = queue.LifoQueue()
        for _ in range(count):
            self._free.put(None)
        self._starter = ThreadPoolExecutor(1, name)  # children die with the thread that started them

    @contextlib.contextmanager
    def lend(self, stop: threading.Event) -> Iterator[Peer]:
        """One that nobody else has; it is killed when the block ends by an exception. Raises OSError, and Stopped soon
        after `stop` is set."""
        peer = self._borrow(stop)
        sound = False
        try:
            if peer is not None and not peer.quiet():  # whoever came next would take that for an answer
                peer.kill()
                peer = None
            if peer is None:
                peer = self._starter.submit(Peer, self._argv).result()
            yield peer
            sound = True
        finally:
            if peer is not None and not sound:  # also when it is at work on what nobody wants any more
                peer.kill()
                peer = None
            self._free.put(peer)

    def close(self) -> None:
        """Ends the children. None is lent."""
        with suppress(queue.Empty):
            while True:
                if (peer := self._free.get_nowait()) is not None:
                    peer.end()
        self._starter.shutdown()

    def _borrow(self, stop: threading.Event) -> Peer | None:
        while not stop.is_set():
            with suppress(queue.Empty):
                return self._free.get(timeout=_LOOK_EVERY_S)
        raise Stopped


class Peer:
    """One child. Used by one thread at a time."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Raises OSError."""
        self._link, theirs = socket.socketpair()
        self._link.settimeout(_LOOK_EVERY_S)
        null = subprocess.DEVNULL  # a library's words might quote the text
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    argv, stdin=theirs.fileno(), stdout=null, stderr=null
                )
            except OSError:
                self._link.close()
                raise

    def quiet(self) -> bool:
        """Nothing that it said is unread."""
        unread = select.poll()
        unread.register(self._link, select.POLLIN)
        # When it ended, nothing can be read either: that is noticed when it is asked.
        return not unread.poll(0) or not self._link.recv(1, socket.MSG_PEEK)

    def send(self, request: bytes, deadline: float, stop: threading.Event) -> None:
        """`deadline`: of time.monotonic(). Raises OSError when the child died, or did not take it in time; Stopped."""
        unsent = memoryview(request)
        while unsent:
            _check(deadline, stop)
            with suppress(TimeoutError):
                unsent = unsent[self._link.send(unsent) :]

    def receive(self, size: int, deadline: float, stop: threading.Event) -> bytes:
        """So many bytes. Raises as `send` does."""
        answer = bytearray()
        while (missing := size - len(answer)) > 0:
            _check(deadline, stop)
            with suppress(TimeoutError):
                part = self._link.recv(min(missing, 1 << 16))
                if not part:
                    raise OSError("the child ended")
                answer += part
        return bytes(answer)

    def end(self) -> None:
        self._link.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_WAIT_S)
        self.kill()

    def kill(self) -> None:
        self._link.close()
        self._process.kill()
        self._process.wait()


def _check(deadline: float, stop: threading.Event) -> None:
    if stop.is_set():
        raise Stopped
    if time.monotonic() >= deadline:
        raise OSError("the child took too long")
