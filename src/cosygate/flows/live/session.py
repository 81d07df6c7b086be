"""One live session in the process that holds it: audio and events go to the journal first, then to whoever waits.

    frame ──► journal ──► ack          finals, restart points ◄── listening ◄── engine
                 └──► tail ──► listening     └──► journal ──► final

State changes at the moment of an append, so that it and the journal never disagree about the order; what a client or a
watcher is told waits until the append is durable. When the journal refuses, or somebody else claimed the session, this
process forgets it (`lost`): the next claim finds what was acknowledged.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from typing import Any

from cosygate import errors
from cosygate.flows.live.outlet import Message, Outlet
from cosygate.flows.live.sound import PART_BYTES, Sound
from cosygate.kit import metrics
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.live import LiveFormat, LiveSession, SafeMark
from cosygate.model.options import TranscribeOptions
from cosygate.model.timeline import Timeline
from cosygate.model.transcript import EngineName, Segment, segment_dict
from cosygate.ports.journal import JournalWriter
from cosygate.ports.journal import Sound as SoundRecord

_log = logger()
_UNWRITTEN_BYTES = 256 * 1024  # of a session that wait for the journal; then its connection is not read
_UNWRITTEN = 256  # frames, the same: they may be of a sample each
_BACKLOG_S = 60.0  # of audio that the engine may be behind; then the connection is not read
_BACKLOG_BYTES = 1024 * 1024  # the same, of compressed audio
_SIGN_OF_LIFE_S = 2.0
_ARRIVALS_S = 0.2  # how finely the time of arrival is remembered


class Session:
    def __init__(
        self,
        row: LiveSession,
        writer: JournalWriter,
        timeline: Timeline,
        sound: Sound,
        unsaved: list[dict[str, Any]],
        clock: Clock,
        *,
        longest: int,
        window_s: float,
    ) -> None:
        """`unsaved`: finals that the journal has and SQL does not. `longest`: the index at which a session ends.
        `window_s`: of its audio, beside a part, that the journal alone may have."""
        self.row = row
        self.id = row.id
        self.writer = writer
        self.timeline = timeline
        self.sound = sound
        self.unsaved = unsaved
        self.options = TranscribeOptions.from_json(row.options)
        self.unit = row.format.stored_bytes
        self.told = timeline.finals  # finals that are durable, and told to whoever is connected
        self.reading_to = 0  # index up to which listening is about to take it
        self.durable = timeline.received  # index that the journal has for sure
        self._unwritten = 0  # frames
        self.fed = 0 if row.format.counts_bytes else timeline.restart  # listening has, or needs not, what is before it
        self.stored_mark = row.mark  # what SQL and the blob store have
        self.outlet: Outlet | None = None
        self.detached_at = clock.monotonic()
        self.engine_name = EngineName("", "", "")
        self.decoded = 0  # samples in all, of a format that counts bytes
        self.keeping = asyncio.Lock()  # marks are written one at a time
        self.abandoned = False  # its client did not come back in time
        self.lost_because: errors.CosyGateError | None = None
        self.gone = asyncio.Event()  # lost or finished
        self.arrived = asyncio.Event()  # something for listening to look at
        self.wake_at = 0  # index at which new sound is worth a look
        self._room = asyncio.Event()
        self._clock = clock
        self._longest = longest
        second = _BACKLOG_BYTES / _BACKLOG_S if row.format.counts_bytes else row.rate  # in indexes
        self._most_behind = _BACKLOG_S * second
        self._most_unkept = window_s * second * self.unit + PART_BYTES
        self._arrivals: deque[tuple[int, float]] = deque()

    # --- connections -------------------------------------------------------------------------------------------------

    def attach(self, outlet: Outlet) -> None:
        """The connection that counts from now on; the one before is told to go."""
        if self.outlet is not None:
            self.outlet.close(errors.TakenOver())
        self.outlet = outlet
        outlet.ack(self.durable, self.stored_mark.safe)

    def detach(self, outlet: Outlet) -> None:
        if self.outlet is outlet:
            self.outlet = None
            self.detached_at = self._clock.monotonic()

    # --- from the client ---------------------------------------------------------------------------------------------

    def frame(self, index: int, audio: bytes) -> None:
        """Raises LiveGap, LiveProtocol, LiveTooLong (what came before is kept, and ended), TakenOver."""
        self._check_held()
        timeline = self.timeline
        if timeline.received >= self._longest:
            self.end_here()
            raise errors.LiveTooLong()
        count = len(audio) // self.unit
        skip = timeline.frame(index, count)
        if skip == count:
            self._tell_ack()
            return
        start, audio = timeline.received * self.unit, audio[skip * self.unit :]
        timeline.received += count - skip
        self._unwritten += 1
        written = self.writer.append(SoundRecord(start, audio))
        written.add_done_callback(functools.partial(self._frame_written, timeline.received))
        self._remember_arrival()
        self.sound.tail.push(start, audio)
        if timeline.received >= self.wake_at:
            self.arrived.set()

    def has_room(self) -> bool:
        received, unit = self.timeline.received, self.unit
        if self._unwritten > _UNWRITTEN or (received - self.durable) * unit > _UNWRITTEN_BYTES:
            return False
        return received - self.fed <= self._most_behind and received * unit - self.stored_mark.kept <= self._most_unkept

    async def room(self) -> None:
        """Returns when more audio may come; whoever waits here does not read its connection."""
        while not self.has_room() and not self.gone.is_set():
            self._room.clear()
            try:
                async with asyncio.timeout(_SIGN_OF_LIFE_S):
                    await self._room.wait()
            except TimeoutError:
                self._tell_ack()  # its pings are not read meanwhile, and it would take us for dead

    def took(self, fed: int) -> None:  # by listening, up to this index
        self.fed = fed
        self._room.set()

    def finalize(self, at: int | None) -> None:
        """Raises LiveGap, LiveProtocol, TakenOver."""
        self._check_held()
        if self.row.format.counts_bytes:
            raise errors.LiveProtocol(f"finalize is not for {self.row.format}")
        if (mark := self.timeline.finalize(at, max(self.fed, self.reading_to))) is not None:
            self._note({"type": "finalize", "samples": mark})

    def gap(self, start: int, end: int, longest_s: float) -> None:
        """Raises LiveGap, LiveProtocol, TakenOver."""
        self._check_held()
        if self.row.format.counts_bytes:
            raise errors.LiveProtocol(f"a gap in {self.row.format} cannot be mended")
        if (gap := self.timeline.gap(start, end, int(longest_s * self.row.rate))) is not None:
            if gap[1] > self._longest:
                self.end_here()
                raise errors.LiveTooLong()
            # Its last sample, silent, so that the journal's sound reaches as far as the count does.
            self.writer.append(SoundRecord((gap[1] - 1) * self.unit, bytes(self.unit)))
            self._note({"type": "gap", "from": gap[0], "to": gap[1]})
            _log.warning("live.gap", session=self.id, samples=gap[1] - gap[0])

    def end(self, samples: int) -> None:
        """Raises LiveGap, LiveProtocol, TakenOver."""
        self._check_held()
        if self.timeline.end(samples):
            self._note({"type": "end", "samples": samples})

    def abandon(self) -> None:  # nobody came back for it
        self.abandoned = True
        self.end_here()

    def end_here(self) -> None:
        """Nobody sends any more: what has arrived is all."""
        if self.timeline.ended is None:
            self._note({"type": "end", "samples": self.timeline.received, "closed": True})

    async def read(self, start: int, end: int) -> bytes:
        """Sound, as bytes of [start, end): some of it, never none. When it cannot be read the session is lost here: a
        new claim finds out how much of it there is. Raises what the journal and the blob store raise."""
        try:
            data = await self.sound.read(start, end)
        except Exception as error:
            self.lost(error if isinstance(error, errors.CosyGateError) else errors.Unavailable())
            raise
        if not data:
            self.lost(errors.Unavailable("the journal lacks audio"))
            raise errors.Unavailable("the journal lacks audio")
        return data

    # --- from listening ----------------------------------------------------------------------------------------------

    async def final(self, start: int, end: int, segment: Segment) -> None:
        """Journals a final and tells it, once it is durable. One that a replay gives again is dropped."""
        if not self.timeline.accepts(start, end):
            return
        told = segment_dict(segment) | {"id": self.timeline.finals}
        event: Message = {"type": "final", **told, "start_sample": start, "end_sample": end}
        self.unsaved.append(event)
        await self._note(event)
        self.told = event["id"] + 1
        self.tell(event)
        self._measure(end)

    def decided(self, sample: int) -> None:
        if sample > self.timeline.restart:
            self._note({"type": "decided", "sample": sample})
            self._forget_arrivals()

    def passing(self, message: Message) -> None:
        """Tells the connection and the watchers of this moment; nothing of it lasts."""
        self.writer.append(message, passing=True)
        if self.outlet is not None:
            say = self.outlet.partial if message["type"] == "partial" else self.outlet.put
            say(message)

    def tell(self, message: Message) -> None:
        if self.outlet is not None:
            self.outlet.put(message)

    # --- ends --------------------------------------------------------------------------------------------------------

    def lost(self, because: errors.CosyGateError) -> None:  # idempotent
        if self.gone.is_set():
            return
        self.lost_because = because
        _log.info("live.lost", session=self.id, code=because.code)
        self.leave(because)

    def leave(self, because: errors.CosyGateError | None) -> None:
        self.gone.set()
        self._room.set()
        self.arrived.set()
        if self.outlet is not None:
            self.outlet.close(because)

    def stored(self, mark: SafeMark) -> None:
        """SQL and the blob store hold what `mark` says."""
        del self.unsaved[: max(0, mark.finals - self.stored_mark.finals)]
        news = mark.safe > self.stored_mark.safe
        self.stored_mark = mark
        self._room.set()
        if news:
            self._tell_ack()

    # --- within ------------------------------------------------------------------------------------------------------

    def _check_held(self) -> None:
        if self.gone.is_set():
            raise self.lost_because or errors.TakenOver()

    def _note(self, event: Message) -> asyncio.Future[None]:
        """Appends a lasting event and takes it in, in the same moment."""
        written = self.writer.append(event)
        self.timeline.apply(event)
        written.add_done_callback(functools.partial(self._written, self.timeline.received))
        self.arrived.set()
        return written

    def _frame_written(self, received: int, written: asyncio.Future[None]) -> None:
        self._unwritten -= 1
        self._written(received, written)

    def _written(self, received: int, written: asyncio.Future[None]) -> None:
        error = None if written.cancelled() else written.exception()
        if error is not None:
            known = error if isinstance(error, errors.CosyGateError) else errors.CosyGateError()
            if known is not error:
                _log.error("live.journal_crashed", session=self.id, exc_info=error)
            self.lost(known)
        elif received > self.durable:
            self.durable = received
            self._room.set()
            self._tell_ack()

    def _tell_ack(self) -> None:
        if self.outlet is not None:
            self.outlet.ack(self.durable, self.stored_mark.safe)

    def _remember_arrival(self) -> None:
        now = self._clock.monotonic()
        if not self._arrivals or now - self._arrivals[-1][1] >= _ARRIVALS_S:
            self._arrivals.append((self.timeline.received, now))

    def _forget_arrivals(self) -> float | None:
        """Those before the restart point; the time at which that arrived, if it is known."""
        found = None
        while self._arrivals and self._arrivals[0][0] <= self.timeline.restart:
            found = self._arrivals.popleft()[1]
        return found

    def _measure(self, end: int) -> None:
        """From the arrival of a final's last sample to the final."""
        if self.row.format is not LiveFormat.WEBM_OPUS and (arrived := self._forget_arrivals()) is not None:
            metrics.live_latency.observe(max(0.0, self._clock.monotonic() - arrived))
