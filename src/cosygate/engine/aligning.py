"""When each word was said, for recognisers that do not tell: the text is aligned to the speech (English).

The work is done by child processes, since it holds Python's lock: at most as many as pieces are aligned at once,
started when they are first needed. They live and die with this process; one that dies or hangs is replaced, and its
piece has its words spread over it.
"""

from __future__ import annotations

import importlib.util
import math
import threading
import time
from dataclasses import dataclass

import numpy as np

from cosygate.engine.peers import Peer, Peers
from cosygate.engine.recognisers.base import RATE, CannotStart, RecognisedWord, Samples
from cosygate.engine.words.child import LIKENESS, PLACE, REQUEST
from cosygate.engine.words.fitting import Place, fitted
from cosygate.engine.words.spoken import shown
from cosygate.kit.logs import logger

_Found = tuple[list[Place | None], float | None]  # the place of each word; likeness
_LIMIT_PER_S = 0.2  # seconds of work for one of speech
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
        self._peers = Peers("cosygate.engine.words.child", (), count=workers, name="words")

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
        self._peers.close()

    def _find(self, words: list[str], samples: Samples, stop: threading.Event) -> _Found | None:
        """None when the child was lost."""
        pcm = (np.clip(samples, -1, 32767 / 32768) * 32768).astype("<i2").tobytes()
        limit_s = self._patience_s + _LIMIT_PER_S * len(samples) / RATE
        try:
            with self._peers.lend(stop) as peer:
                return _ask(peer, words, pcm, time.monotonic() + limit_s, stop)
        except OSError as error:
            logger().warning("words.aligner_lost", seconds=len(samples) / RATE, detail=str(error))
            return None


def _ask(peer: Peer, words: list[str], pcm: bytes, deadline: float, stop: threading.Event) -> _Found:
    """Raises OSError when the child died, or did not answer in time; Stopped."""
    text = "\n".join(words).encode(errors="replace")
    peer.send(REQUEST.pack(len(text), len(pcm)) + text + pcm, deadline, stop)
    answer = peer.receive(LIKENESS.size + PLACE.size * len(words), deadline, stop)
    [likeness] = LIKENESS.unpack_from(answer)
    places = PLACE.iter_unpack(answer[LIKENESS.size :])
    known = [place if all(map(math.isfinite, place)) else None for place in places]
    return known, None if math.isnan(likeness) else likeness
