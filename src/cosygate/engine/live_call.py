"""One Recognize call in LIVE mode: audio as it is spoken in, what is said in it out.

    config → live slot → accepted → (audio, finalize → heard, speech_started, partial, speech_ended, segment, decided)*
    → half-close → last segments → done

Reading, recognising and writing go on side by side: live_cutter.py finds utterances, live_story.py tells them in order,
and a task writes. When a call's recogniser or its caller is behind, it stops reading, and so its caller is slowed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import grpc

from cosygate.engine.admission import take_slot
from cosygate.engine.live_cutter import LiveCutter
from cosygate.engine.live_story import Story
from cosygate.engine.messages import CallEnded, check_audio, invalid
from cosygate.engine.recognisers.base import Hints, RecogniserError
from cosygate.engine.shared import Shared
from cosygate.proto import speech_engine_pb2 as pb

IDLE_S = 3600.0  # a caller that sends nothing for this long loses its slot: gateways keep calls for people who mute
TAKES_NOTHING_S = 300.0  # and so does one that takes no event
HEARD_EVERY_S = 1.0  # while audio comes: the sign of life
WAITING_MAX = 4  # utterances that wait to be recognised; beyond it nothing is read
UNSENT_MAX = 64  # events
SETTLE_S = 1.0
_RESTARTS = ("segment", "decided")  # events whose end is a restart point
T = TypeVar("T")


class LiveCall:
    """Used once. `leave` must follow `run`, however that ended."""

    def __init__(self, context: Any, shared: Shared, config: pb.RecognizeConfig, hints: Hints) -> None:
        """`context`: a grpc.aio.ServicerContext, generic in a way that only stubs know."""
        self._context = context
        self._shared = shared
        self._config = config
        self._hints = hints
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._fault: BaseException | None = None  # why we cancelled our own task
        self._holds_slot = False
        self._cutter: LiveCutter | None = None
        self._cutting: asyncio.Future[Any] | None = None
        self._cutting_s = 0.0
        self._story: Story | None = None
        self._received = self._told = config.first_sample  # as sent: taken in, and told to be
        self._busy = False  # the caller waits for us, and not we for its audio
        self._unsent: deque[pb.RecognizeEvent] = deque()
        self._wake = asyncio.Event()  # something is unsent, or nothing more will be
        self._over = False
        self._moves = ""  # why it is to end at the next restart point
        self._all_read = False  # its caller has said everything
        self._writer: asyncio.Task[None] | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self._idle = asyncio.timeout(None)

    @property
    def samples(self) -> int:
        """Received so far."""
        return self._received - self._config.first_sample

    @property
    def seconds(self) -> float:
        return round(self.samples / self._config.sample_rate, 3)

    async def run(self) -> None:
        """Raises CallEnded; RecogniserError becomes one. Any other exception is a fault of the engine."""
        self._task = asyncio.current_task()
        try:
            await self._run()
        except asyncio.CancelledError:
            if self._fault is None or self._task is None:
                raise
            self._task.uncancel()
            raise _ended(self._fault) from self._fault
        except RecogniserError as error:
            raise _ended(error) from error
        except TimeoutError:
            raise CallEnded(grpc.StatusCode.ABORTED, f"nothing came for {IDLE_S:.0f} s") from None

    def move(self, why: str) -> None:
        """Ends the call with ABORTED right after the next event that is a restart point: another call can go on there
        and hears little twice. One whose caller has said everything is let finish."""
        self._moves = why

    def end(self, why: str) -> None:
        """The same, anywhere, and at once."""
        self._fail(CallEnded(grpc.StatusCode.ABORTED, why))

    def leave(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
        self._over = True
        self._unsent.clear()
        self._wake.set()
        if self._story is not None:
            self._story.leave()
        if self._holds_slot:
            self._shared.live_slots.give_back()
            self._holds_slot = False
        if self._cutting is not None and not self._cutting.done():
            self._cutting.add_done_callback(self._put_back)
        else:
            self._put_back(None)

    async def settle(self) -> None:
        """After `leave`: no write is on its way any more. A status sent over one never arrives."""
        if self._writer is not None:
            await asyncio.wait({self._writer}, timeout=SETTLE_S)
            self._writer.cancel()

    def _put_back(self, cutting: asyncio.Future[Any] | None) -> None:
        if cutting is not None and not cutting.cancelled():
            cutting.exception()  # looked at, or asyncio complains
        if self._cutter is not None:
            self._shared.done_with(self._cutter)

    async def _run(self) -> None:
        config, shared = self._config, self._shared
        hello = pb.RecognizeEvent(heard=pb.Heard(samples=config.first_sample))
        waited_s = await take_slot(
            shared.live_slots, 1, config.slot_wait_ms, shared.clock, lambda: self._context.write(hello)
        )
        self._holds_slot = True
        make = partial(shared.live_cutter, config.sample_rate, config.first_sample, config.restart_sample)
        cutter = self._cutter = await self._cut(make)
        self._story = story = Story(shared, cutter, self._hints, config, self._say, self._fail)
        self._say(pb.RecognizeEvent(accepted=pb.Accepted(slot_wait_ms=round(waited_s * 1000))))
        self._writer = asyncio.create_task(self._write())
        self._ticker = self._loop.call_later(HEARD_EVERY_S, self._tick)
        async with asyncio.timeout(IDLE_S) as self._idle:
            try:
                await self._audio(cutter, story)
                self._all_read = True
                self._busy = True
                story.goes_on(await self._cut(cutter.finalize))
                while not story.finished:
                    await self._until_moved(story)
            finally:
                self._ticker.cancel()  # it moves the limit, which ends here
        stats = {"vad": self._cutting_s, "recognise": story.seconds, "slot_wait": waited_s}
        if story.speakers_s:
            stats["speakers"] = story.speakers_s
        name, version = shared.recogniser.name, shared.recogniser.version
        done = pb.Done(engine=name, model=self._hints.model, version=version, samples=self.samples, stats=stats)
        self._say(pb.RecognizeEvent(done=done))
        self._over = True
        await self._writer

    async def _audio(self, cutter: LiveCutter, story: Story) -> None:
        read = self._context.read
        while (message := await read()) is not grpc.aio.EOF:
            kind = message.WhichOneof("message")
            if kind == "audio":
                found = await self._cut(cutter.push, check_audio(message.audio))
                self._received = cutter.received
            elif kind == "finalize":
                found = await self._cut(cutter.finalize)
            else:
                raise invalid("a message is neither audio nor finalize")
            story.goes_on(found)
            self._busy = True
            while story.waiting >= WAITING_MAX or len(self._unsent) >= UNSENT_MAX:
                await self._until_moved(story)
            self._busy = False

    async def _until_moved(self, story: Story) -> None:
        story.moved.clear()
        await story.moved.wait()

    async def _cut(self, work: Callable[..., T], *arguments: Any) -> T:
        if self._shared.cuts_inline:
            return work(*arguments)
        started = self._shared.clock.monotonic()
        self._cutting = cutting = self._loop.run_in_executor(self._shared.detecting, work, *arguments)
        result = await asyncio.shield(cutting)  # a cancelled call ends at once, its thread when it is through
        self._cutting_s += self._shared.clock.monotonic() - started
        return result

    # --- telling ---

    def _say(self, event: pb.RecognizeEvent) -> None:
        self._unsent.append(event)
        self._wake.set()

    def _tick(self) -> None:
        """Heard, once a second while audio comes or somebody waits: unless there is no hope (see Story.alive)."""
        self._ticker = self._loop.call_later(HEARD_EVERY_S, self._tick)
        story = self._story
        if story is None or not (self._busy or self._received > self._told):
            return
        self._idle.reschedule(self._loop.time() + IDLE_S)
        if not self._unsent and story.alive:
            self._told = self._received
            self._say(pb.RecognizeEvent(heard=pb.Heard(samples=self._received)))

    async def _write(self) -> None:
        try:
            while True:
                while self._unsent:
                    event = self._unsent.popleft()
                    async with asyncio.timeout(TAKES_NOTHING_S):
                        await self._context.write(event)
                    if self._moves and not self._all_read and event.WhichOneof("event") in _RESTARTS:
                        self.end(self._moves)
                        return
                    if self._story is not None:
                        self._story.moved.set()
                if self._over:
                    return
                self._wake.clear()
                await self._wake.wait()
        except TimeoutError:
            self._fail(CallEnded(grpc.StatusCode.ABORTED, f"nothing was taken for {TAKES_NOTHING_S:.0f} s"))
        except Exception as fault:
            self._fail(fault)

    def _fail(self, fault: BaseException) -> None:
        """From beside the call's own task, which may be waiting for audio: wakes it."""
        if self._fault is None and self._task is not None and not self._over:
            self._fault = fault
            self._task.cancel()


def _ended(fault: BaseException) -> BaseException:
    if isinstance(fault, RecogniserError):
        return CallEnded(grpc.StatusCode[fault.status], "the recogniser failed on this audio")
    return fault
