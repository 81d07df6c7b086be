"""What one live call has to tell, in the order of its samples: utterances are recognised in turn, and while open too.

One final at a time, since its place among the finals is part of what a recogniser is told. Partials never queue: at
most one is asked for, of the newest audio there is when its turn comes, and none while something older is untold. In a
pause that is as long as an utterance's padding the partial already is what the final would be: it is recognised at
once, and it is the final, if nobody speaks on. Where speakers are told apart, a final has its voice listened to in the
thread that recognises it; which speaker that is, is said when it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from cosygate.engine.live_cutter import Began, Found, LiveCutter, Nothing, Open, Utterance
from cosygate.engine.messages import segment_event
from cosygate.engine.pipeline import Heard, HeardWord, recognise
from cosygate.engine.recognisers.base import RATE, Hints, Recognised, RecogniserError
from cosygate.engine.shared import Shared
from cosygate.engine.speakers.live import Voice
from cosygate.engine.turns import Rank, Turn
from cosygate.proto import speech_engine_pb2 as pb

FIRST_AFTER = RATE * 6 // 10  # the first partial comes when so much is open (padding included)


@dataclass(frozen=True, slots=True)
class Caught:
    recognised: Recognised
    voice: Voice | None = None  # None: nobody has listened to it


@dataclass(frozen=True, slots=True)
class Shown:
    """An utterance as it was heard while it was open, as the `index`th final to be."""

    start: int
    end: int
    index: int
    length: int  # at RATE
    caught: Caught


class Story:
    """For one call, in one event loop; only `_look` and `_hear` run in other threads."""

    def __init__(
        self,
        shared: Shared,
        cutter: LiveCutter,
        hints: Hints,
        config: pb.RecognizeConfig,
        say: Callable[[pb.RecognizeEvent], None],
        fail: Callable[[BaseException], None],
    ) -> None:
        """`say` is called with each event in its order, `fail` when a recognition failed between two `goes_on`."""
        self._shared = shared
        self._cutter = cutter
        self._hints = replace(hints, index=config.finals)
        self._rate = config.sample_rate
        self._interim = config.interim
        self._speakers = shared.live_speakers(hints, config)
        self._inline = shared.recogniser.instant and self._speakers is None  # voices take time, whoever recognises
        self._say = say
        self._fail = fail
        self._stop = threading.Event()
        self._untold: deque[Found] = deque()
        self._open: Open | None = None
        self._end_told = False  # of the utterance at the head
        self._final: Turn[Caught] | None = None
        self._partial: Turn[Shown | None] | None = None
        self._asked: Open | None = None  # when a partial was last asked for
        self._looks_at: tuple[int, int, int] | None = None  # start, end, index of the partial in work
        self._shown: Shown | None = None
        self._speaks = False
        self.moved = asyncio.Event()  # set when something was told
        self.seconds = 0.0  # spent in the recogniser

    @property
    def waiting(self) -> int:
        """Closed utterances that are not told."""
        return sum(isinstance(found, Utterance) for found in self._untold)

    @property
    def finished(self) -> bool:
        return not self._untold

    @property
    def alive(self) -> bool:
        """False while a recognition of this call shows no sign that it will ever end."""
        limit_s = self._shared.recogniser.limit_s
        waits_for = (turn for turn in (self._final, self._partial) if turn is not None)
        return all(self._shared.turns.alive(turn, limit_s) for turn in waits_for)

    @property
    def speakers_s(self) -> float:
        """Seconds spent on who speaks."""
        return self._speakers.seconds if self._speakers is not None else 0.0

    def goes_on(self, found: list[Found]) -> None:
        """After the cutter took in more audio. Raises what the recogniser raises."""
        self._open = self._cutter.open
        self._untold.extend(found)
        self._advance()

    def leave(self) -> None:
        self._stop.set()
        self._set_speaking(False)
        for turn in (self._final, self._partial):
            if turn is not None:
                self._shared.turns.withdraw(turn)

    def _advance(self) -> None:
        while self._untold:
            head = self._untold[0]
            if isinstance(head, Began):
                self._say(pb.RecognizeEvent(speech_started=pb.SpeechStarted(sample=head.sample)))
            elif isinstance(head, Nothing):
                self._say(pb.RecognizeEvent(decided=pb.Decided(sample=head.sample)))
            elif not self._tell(head):
                return
            self._untold.popleft()
        self._show()
        self.moved.set()

    # --- finals ---

    def _tell(self, utterance: Utterance) -> bool:
        """False while it is not recognised."""
        if not self._end_told:
            self._say(pb.RecognizeEvent(speech_ended=pb.SpeechEnded(sample=utterance.end)))
            self._end_told = True
        caught = self._caught(utterance)
        if caught is None:
            return False
        recognised = caught.recognised
        if recognised.text:
            if self._speakers is not None:
                recognised = replace(recognised, speaker=self._speakers.label(caught.voice))
            self._say(segment_event(_heard(utterance, recognised, self._rate)))
            self._hints = replace(self._hints, index=self._hints.index + 1)
        else:
            self._say(pb.RecognizeEvent(decided=pb.Decided(sample=utterance.end)))
        self._end_told = False
        self.moved.set()
        return True

    def _caught(self, utterance: Utterance) -> Caught | None:
        """None: not yet. Raises what the recogniser raised."""
        wanted = (utterance.start, utterance.end, self._hints.index)
        shown, final, known = self._shown, self._final, None
        if shown is not None and (shown.start, shown.end, shown.index) == wanted:
            known = shown.caught
            if self._complete(known):
                self._final = None
                if final is not None:
                    self._shared.turns.withdraw(final)
                return known
        if self._inline:
            return self._hear(utterance, self._hints)
        if final is None:
            self._ask_final(utterance, wanted, known.recognised if known else None)
            return None
        if not final.future.done():
            return None
        self._final = None
        return final.future.result()

    def _complete(self, caught: Caught) -> bool:
        """As far as it can be."""
        without = self._speakers is None or self._speakers.failed or not caught.recognised.text
        return without or caught.voice is not None

    def _ask_final(self, utterance: Utterance, wanted: tuple[int, int, int], known: Recognised | None) -> None:
        if self._partial is not None:
            if self._partial.started_at is not None and self._looks_at == wanted:
                return  # this very audio is being recognised
            self._shared.turns.withdraw(self._partial)
        hear = partial(self._hear, utterance, self._hints, known=known)
        self._final = self._shared.turns.ask(Rank.FINAL, hear)
        self._final.future.add_done_callback(self._final_done)

    def _final_done(self, future: asyncio.Future[Caught]) -> None:
        if not future.cancelled():
            future.exception()  # looked at, or asyncio complains: perhaps nobody waits for it any more
        self._resume()

    def _resume(self) -> None:
        if self._stop.is_set():
            return
        try:
            self._advance()
        except Exception as fault:
            self._fail(fault)

    def _hear(
        self, utterance: Utterance, hints: Hints, *, known: Recognised | None = None, voice: bool = True
    ) -> Caught:
        """In a thread, unless `_inline`. `known`: what is said in it, when that is known already."""
        recognised = known or self._recognise(utterance, hints)
        if self._speakers is None or not voice or not recognised.text:
            return Caught(recognised)
        return Caught(recognised, self._speakers.hear(utterance.samples))

    def _recognise(self, utterance: Utterance, hints: Hints) -> Recognised:
        started = self._shared.clock.monotonic()
        recognised = recognise(self._shared.recogniser, utterance.samples, hints, self._stop)
        seconds = self._shared.clock.monotonic() - started
        self.seconds += seconds
        self._shared.pace.took(seconds, len(utterance.samples) / RATE)
        return recognised

    # --- partials ---

    def _show(self) -> None:
        now = self._open
        self._set_speaking(now is not None)
        if now is None or (rank := self._due(now)) is None:
            return
        if self._partial is not None:
            if self._partial.started_at is not None or self._partial.rank <= rank:
                return
            self._shared.turns.withdraw(self._partial)
        self._asked = now
        if self._inline:
            with contextlib.suppress(RecogniserError):  # a partial that failed is none
                self._looked(self._look(self._hints))
            return
        self._looks_at = None
        self._partial = self._shared.turns.ask(rank, partial(self._look, self._hints))
        self._partial.future.add_done_callback(self._partial_done)

    def _due(self, now: Open) -> Rank | None:
        asked = self._asked
        first = asked is None or asked.start != now.start
        if now.settled:
            return Rank.FIRST if first or asked.end != now.end else None  # type: ignore[union-attr]  # see `first`
        if not self._interim:
            return None
        if first:
            return Rank.FIRST if now.length >= FIRST_AFTER else None
        new_s = (now.length - asked.length) / RATE  # type: ignore[union-attr]
        return Rank.LATER if new_s >= self._shared.pace.interval_s(now.length / RATE) else None

    def _look(self, hints: Hints) -> Shown | None:
        """In a thread, unless `_inline`."""
        so_far = self._cutter.so_far()
        if so_far is None:
            return None
        self._looks_at = (so_far.start, so_far.end, hints.index)
        now = self._cutter.open
        settled = now is not None and now.settled and (now.start, now.end) == (so_far.start, so_far.end)
        caught = self._hear(so_far, hints, voice=settled)  # of what will be no final, nobody's voice is asked
        return Shown(so_far.start, so_far.end, hints.index, len(so_far.samples), caught)

    def _partial_done(self, future: asyncio.Future[Shown | None]) -> None:
        if self._partial is not None and self._partial.future is future:
            self._partial = None
        if not future.cancelled() and future.exception() is None:
            self._looked(future.result())
        self._resume()

    def _looked(self, shown: Shown | None) -> None:
        if shown is None or self._stop.is_set():
            return
        self._shown = shown
        now, text = self._open, shown.caught.recognised.text
        # The cutter may be ahead of what is known here: a partial of the next utterance has to wait.
        if self._interim and text and not self._untold and now is not None and now.start == shown.start:
            told = pb.Partial(start_sample=shown.start, end_sample=shown.end, text=text)
            self._say(pb.RecognizeEvent(partial=told))

    def _set_speaking(self, speaks: bool) -> None:
        self._shared.pace.speaking += speaks - self._speaks
        self._speaks = speaks


def _heard(utterance: Utterance, recognised: Recognised, rate: int) -> Heard:
    start, end = utterance.start, utterance.end

    def inside(seconds: float) -> int:
        return min(max(start, start + round(seconds * rate)), end)

    words = tuple(HeardWord(w.text, inside(w.start), inside(w.end), w.confidence) for w in recognised.words)
    return Heard(start, end, recognised, words)
