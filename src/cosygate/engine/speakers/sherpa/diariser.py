"""The models of a folder as a diariser: pieces of speech in, as they come; turns with a speaker each out, at the end.

A chunk of speech is looked at as soon as it is full, in a child process, while the recording goes on: so memory is the
same for a minute and for a day, and at the end little is left to do.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cosygate.engine.peers import Peers
from cosygate.engine.recognisers.base import RATE, Samples, Stopped
from cosygate.engine.speakers.sherpa.asking import ask
from cosygate.engine.speakers.sherpa.checking import checked, dimensions, threshold, try_out
from cosygate.engine.speakers.sherpa.chunks import Chunk
from cosygate.engine.speakers.sherpa.joining import Joining
from cosygate.engine.speakers.sherpa.laying import Stretch
from cosygate.engine.speakers.sherpa.voice import Voice
from cosygate.engine.speakers.voices import MOST_GIVEN, Turn, check_numbers, check_order
from cosygate.kit.logs import logger

_CHUNK = 60 * RATE  # samples, gaps included: by so much speech a voice is known well
_WAITING_MAX = 3  # chunks of one recording that are not looked at (2 MB each)
_TRIES = 2  # of a chunk whose child dies, or answers what cannot be
_LIMIT_S = 20.0  # for starting a child, with the models
_LIMIT_PER_S = 5.0  # seconds of work for one of speech: then it hangs
_LOOK_EVERY_S = 0.1  # for a caller that left
_CATCH_UP_S = 5.0  # that audio waits for a chunk, a message: the caller sees signs of life between messages
_PATIENCE_S = 600.0  # at the end, for what is left: the caller sees signs of life meanwhile

_Heard = tuple[Chunk, list[Stretch], list[Voice]]


class TooSlow(Exception):
    """This machine is too slow for the models, or too busy."""


class FolderDiariser:
    """For any number of recordings at once, in any threads; `close` once they are done."""

    def __init__(self, folder: Path, *, slots: int, num_threads: int = 1) -> None:
        """`slots`: chunks that are looked at at once, each in a process. `num_threads`: that work on one. Raises
        CannotStart."""
        described = checked(folder)
        try_out(described, num_threads)
        self.name = described.name
        self.threshold = threshold(described)
        self._dimensions = dimensions(described)
        self._peers = Peers(
            "cosygate.engine.speakers.sherpa.child", (str(folder), str(num_threads)), count=slots, name="speakers"
        )
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="speakers")

    def voices(self, stop: threading.Event) -> FolderVoices:
        """`stop`: nobody wants the answer any more."""
        return FolderVoices(self, stop)

    def ask(self, chunk: Chunk, speakers: int, stop: threading.Event) -> Future[_Heard]:
        """Looks at a chunk in a thread. The future raises OSError when no child could, and Stopped."""
        return self._threads.submit(self._heard, chunk, speakers, stop)

    def close(self) -> None:
        """Ends the children. No call is running."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._peers.close()

    def _heard(self, chunk: Chunk, speakers: int, stop: threading.Event) -> _Heard:
        for left in reversed(range(_TRIES)):
            try:
                return self._once(chunk, speakers, stop)
            except OSError as error:
                logger().warning("speakers.child_lost", seconds=len(chunk) / RATE, detail=str(error))
                if not left:
                    raise
        raise AssertionError("unreachable")

    def _once(self, chunk: Chunk, speakers: int, stop: threading.Event) -> _Heard:
        with self._peers.lend(stop) as peer:
            deadline = time.monotonic() + _LIMIT_S + _LIMIT_PER_S * len(chunk) / RATE
            turns, voices = ask(peer, chunk.pcm, speakers, self._dimensions, deadline, stop)
        return chunk, turns, voices


class FolderVoices:
    """Of one recording, for one thread at a time. As speakers.voices.Voices, but that `turns` is asked once."""

    def __init__(self, diariser: FolderDiariser, stop: threading.Event) -> None:
        self._diariser = diariser
        self._stop = stop
        self._joining = Joining(diariser.threshold)
        self._chunk = Chunk()
        self._waiting: deque[Future[_Heard]] = deque()
        self._turns: list[Stretch] = []  # with the number of a voice
        self._asked = False
        self._last = (0, 0)  # start and end of the piece before

    def hear(self, start: int, samples: Samples) -> None:
        """The next piece of speech, which begins at sample `start` of the recording: not empty, and neither its start
        nor its end before those of the piece before (what two share belongs to the first). Raises ValueError, TooSlow.
        """
        end = start + len(samples)
        check_order(self._last, (start, end))
        new = max(start, self._last[1])
        self._last = (start, end)
        if len(self._chunk) and len(self._chunk) + end - new > _CHUNK:
            self._ask(0)
        self._chunk.add(new, samples[new - start :])

    def catch_up(self) -> None:
        """Waits while more is heard than can be looked at. For some seconds at most: it may be called again. Raises
        OSError when a chunk is lost, Stopped."""
        if len(self._chunk) >= _CHUNK // 2:
            self._take(_CATCH_UP_S)

    def turns(self, num_speakers: int = 0, max_speakers: int = 0) -> list[Turn]:
        """All that was heard, in turns: in order, without overlap, none across a gap between pieces. Not all that was
        heard lies in one: the models may find that nobody speaks.

        `num_speakers`: how many there are; `max_speakers`: there are no more, when that is not known (0: not known
        either). Fewer are found when there is too little speech. Raises ValueError above MOST_GIVEN, TooSlow, OSError
        when a chunk is lost, Stopped."""
        check_numbers(num_speakers, max_speakers)
        if len(self._chunk):
            self._ask(0 if self._asked else num_speakers)  # of a part of a recording, nobody knows how many there are
        self._take(_PATIENCE_S)
        if self._waiting:
            raise TooSlow(f"{len(self._waiting)} chunks of speech were not looked at in time")
        speakers = self._joining.speakers(num_speakers, max_speakers or MOST_GIVEN)
        names: dict[int, str] = {}
        told: list[Turn] = []
        for start, end, voice in self._turns:
            speaker = speakers[voice]
            if speaker is None:
                continue
            name = names.setdefault(speaker, f"S{len(names) + 1}")
            if told and told[-1].speaker == name and told[-1].end == start:
                start = told.pop().start
            told.append(Turn(start, end, name))
        return told

    def _ask(self, speakers: int) -> None:
        if len(self._waiting) >= _WAITING_MAX:
            raise TooSlow(f"{len(self._waiting)} chunks of speech wait to be looked at")
        chunk, self._chunk = self._chunk, Chunk()
        self._waiting.append(self._diariser.ask(chunk, speakers, self._stop))
        self._asked = True

    def _take(self, patience_s: float) -> None:
        """What was looked at, in its order; waits for all of it, `patience_s` at most."""
        deadline = time.monotonic() + patience_s
        while self._waiting:
            if self._stop.is_set():
                raise Stopped
            left_s = max(0.0, deadline - time.monotonic())
            try:
                chunk, turns, voices = self._waiting[0].result(min(_LOOK_EVERY_S, left_s))
            except TimeoutError:
                if not left_s:
                    return
                continue
            self._waiting.popleft()
            numbers = [self._joining.add(voice.sound, voice.seconds) for voice in voices]
            self._turns += ((start, end, numbers[voice]) for start, end, voice in chunk.in_recording(turns))
