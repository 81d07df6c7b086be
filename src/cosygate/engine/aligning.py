"""When each word was said, for recognisers that do not tell: the text is aligned to the speech (English).

The work is done by child processes, since it holds Python's lock: at most as many as pieces are aligned at once,
started when they are first needed. They live and die with this process; one that dies or hangs is replaced, and its
piece has its words spread over it.
"""

from __future__ import annotations

import importlib.util
import math
import os
import queue
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from cosygate.engine.recognisers.base import RATE, CannotStart, RecognisedWord, Samples, Stopped
from cosygate.engine.words.child import LIKENESS, PLACE, REQUEST
from cosygate.engine.words.fitting import Place, fitted
from cosygate.engine.words.spoken import shown
from cosygate.kit.logs import logger

_Found = tuple[list[Place | None], float | None]  # the place of each word; likeness
_LOOK_EVERY_S = 0.1  # for a caller that left
_LIMIT_PER_S = 0.2  # seconds of work for one of speech
_END_WAIT_S = 2.0  # for a child that may end by itself
_CHARACTERS_PER_S = 100  # four times what the fastest speaker says: no time is spent on such a text


@dataclass(frozen=True, slots=True)
class Aligned:
    words: tuple[RecognisedWord, ...]
    # How well the speech fits the text, said in English: each frame's log likelihood against that of the likeliest
    # English sound that was looked at, in nats, averaged over the words. At most 0; minus infinity when there is no way
    # to say the text like that. None: not known.
    likeness: float | None


class Aligner:
    """For several threads at once; `close` once they are done."""

    def __init__(self, workers: int, *, patience_s: float = 5.0) -> None:
        """`workers`: pieces that are aligned at once, each in a process (44 MB). A child that has not answered after
        `patience_s` and a fifth of the piece's length hangs: it takes a hundredth, and 0.2 s to start. Raises
        CannotStart."""
        if importlib.util.find_spec("pocketsphinx") is None:
            raise CannotStart("pocketsphinx is not installed, which finds when words were said")
        self._patience_s = patience_s
        # The last one used comes first, so that no more are started than are needed. None: not started yet.
        self._free: queue.LifoQueue[_Child | None] = queue.LifoQueue()
        for _ in range(workers):
            self._free.put(None)
        self._starter = ThreadPoolExecutor(1, "words")  # children die with the thread that started them

    def aligned(self, samples: Samples, text: str, stop: threading.Event) -> Aligned:
        """The words of `text` (what whitespace parts; what cannot be said joins its neighbour) with their times in
        `samples`, in order, not overlapping and without confidence: the decoder has no measure of that. And how well
        text and speech fit.

        `samples`: a piece, mono at RATE. Never fails for what they say: a text that does not fit is spread over the
        piece. Raises Stopped, soon after `stop` is set."""
        words, seconds = shown(text), len(samples) / RATE
        found = None
        if words and len(text) <= seconds * _CHARACTERS_PER_S:
            found = self._find(words, samples, stop)
        places, likeness = found or ([None] * len(words), None)
        return Aligned(fitted(words, places, seconds), likeness)

    def close(self) -> None:
        """Ends the children. No call is running."""
        with suppress(queue.Empty):
            while True:
                if (child := self._free.get_nowait()) is not None:
                    child.end()
        self._starter.shutdown()

    def _find(self, words: list[str], samples: Samples, stop: threading.Event) -> _Found | None:
        """None when the child was lost."""
        pcm = (np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2").tobytes()
        child = self._borrow(stop)
        sound = False
        try:
            if child is None:
                child = self._starter.submit(_Child).result()
            found = child.find(words, pcm, self._patience_s + _LIMIT_PER_S * len(samples) / RATE, stop)
            sound = True
            return found
        except OSError as error:
            logger().warning("words.aligner_lost", seconds=len(samples) / RATE, detail=str(error))
            return None
        finally:
            if child is not None and not sound:  # also when it is at work on what nobody wants any more
                child.kill()
                child = None
            self._free.put(child)

    def _borrow(self, stop: threading.Event) -> _Child | None:
        while not stop.is_set():
            with suppress(queue.Empty):
                return self._free.get(timeout=_LOOK_EVERY_S)
        raise Stopped


class _Child:
    """The other end of words/child.py. Used by one thread at a time."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._link, theirs = socket.socketpair()
        self._link.settimeout(_LOOK_EVERY_S)
        null = subprocess.DEVNULL  # a library's words might quote the text
        argv = [sys.executable, "-m", "cosygate.engine.words.child", str(os.getpid())]
        with theirs:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                    argv, stdin=theirs.fileno(), stdout=null, stderr=null
                )
            except OSError:
                self._link.close()
                raise

    def find(self, words: list[str], pcm: bytes, limit_s: float, stop: threading.Event) -> _Found:
        """Raises OSError when the child died, or did not answer within `limit_s`; Stopped."""
        deadline = time.monotonic() + limit_s
        text = "\n".join(words).encode(errors="replace")
        unsent = memoryview(REQUEST.pack(len(text), len(pcm)) + text + pcm)
        while unsent:
            _check(deadline, stop)
            with suppress(TimeoutError):
                unsent = unsent[self._link.send(unsent) :]
        answer = bytearray()
        while (missing := LIKENESS.size + PLACE.size * len(words) - len(answer)) > 0:
            _check(deadline, stop)
            with suppress(TimeoutError):
                part = self._link.recv(missing)
                if not part:
                    raise OSError("the child ended")
                answer += part
        [likeness] = LIKENESS.unpack_from(answer)
        places = PLACE.iter_unpack(answer[LIKENESS.size :])
        known = [place if all(map(math.isfinite, place)) else None for place in places]
        return known, None if math.isnan(likeness) else likeness

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
