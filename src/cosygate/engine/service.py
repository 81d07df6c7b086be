"""The SpeechEngine service: describes the engine, runs calls, and ends them when the engine shuts down."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc

from cosygate.engine.call import Call
from cosygate.engine.messages import CallEnded, description
from cosygate.engine.models import SILERO_VAD, locate
from cosygate.engine.recognisers.base import Recogniser
from cosygate.engine.slots import Slots
from cosygate.engine.vad import Cutter, CutterPool, FixedCutter, SpeechCutter
from cosygate.kit import logs
from cosygate.kit.clock import Clock
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")  # W3C Trace Context, version 00
_log = logs.logger()


class EngineService(pb_grpc.SpeechEngineServicer):
    """For one event loop."""

    def __init__(self, recogniser: Recogniser, *, slots: int, line: int, clock: Clock) -> None:
        """`line`: how many calls may wait for a slot. Raises CannotStart when the speech detector's model is bad."""
        self._recogniser = recogniser
        self._clock = clock
        self._slots = Slots(slots, line)
        self._threads = ThreadPoolExecutor(slots, thread_name_prefix="slot")
        self._cutters = CutterPool(_cutter_maker(recogniser.cut_s))
        self._running: set[asyncio.Task[Any]] = set()
        self._draining = False
        self._handing_back = False

    async def Describe(self, _request: pb.DescribeRequest, _context: Any) -> pb.EngineDescription:
        slots = self._slots
        return description(self._recogniser, slots=slots.count, busy=slots.busy, waiting=slots.waiting)

    async def Recognize(self, _messages: Any, context: Any) -> None:  # type: ignore[override]  # the stubs know iterators only
        """Reads and writes through `context`, which grpc.aio offers beside iterators: so each message has its limit."""
        if self._draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the engine is shutting down")
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._running.add(task)
        try:
            await self._recognize(context)
        finally:
            self._running.discard(task)

    async def drain(self, grace_s: float) -> bool:
        """Takes no more calls, sends away those that wait, lets those that run finish, then ends what is left with
        ABORTED (their callers try elsewhere).
        False when a thread is still at work: the process cannot end in an orderly way."""
        self._draining = True
        self._slots.turn_away()
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace_s)
        self._handing_back = True
        left = set(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)
        idle = self._slots.busy == 0
        self._threads.shutdown(wait=idle, cancel_futures=True)
        return idle

    async def _recognize(self, context: Any) -> None:
        started = self._clock.monotonic()
        call = Call(context, self._recogniser, self._slots, self._threads, self._cutters, self._clock)
        code, detail = grpc.StatusCode.OK, ""
        error: BaseException | None = None
        try:
            await call.run()
        except CallEnded as ended:
            code, detail, error = ended.code, ended.detail, ended.__cause__
        except asyncio.CancelledError:
            code, detail = grpc.StatusCode.CANCELLED, "the caller left"
            if not self._handing_back:
                raise
            code, detail = grpc.StatusCode.ABORTED, "the engine is shutting down"
        except Exception as fault:
            code, detail, error = grpc.StatusCode.INTERNAL, "the engine failed on this audio", fault
        finally:
            call.leave()
            self._tell(context, call, code, detail, error, self._clock.monotonic() - started)
        if code is not grpc.StatusCode.OK:
            await context.abort(code, detail)

    def _tell(
        self,
        context: Any,
        call: Call,
        code: grpc.StatusCode,
        detail: str,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        line: dict[str, Any] = {"status": code.name, "samples": call.samples, "cost_ms": round(seconds * 1000, 1)}
        for key, value in context.invocation_metadata() or ():
            if key == "traceparent" and (match := _TRACEPARENT.fullmatch(str(value))):
                line["trace_id"] = match[1]
        if detail:
            line["detail"] = detail
        if error is not None:
            _log.error("engine.call", exc_info=error, **line)
        else:
            _log.info("engine.call", **line)


def _cutter_maker(cut_s: float | None) -> Callable[[], Cutter]:
    """Raises CannotStart."""
    if cut_s is not None:
        return lambda: FixedCutter(cut_s)
    model = locate(SILERO_VAD)["model"]
    return lambda: SpeechCutter(model)
