"""The SpeechEngine service: describes the engine, runs calls, and ends them when the engine shuts down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, cast

import grpc

from cosygate.engine.call import CLIENT_IDLE_S, Call
from cosygate.engine.extras import Extras
from cosygate.engine.live_call import LiveCall
from cosygate.engine.messages import CallEnded, check_config, description, invalid
from cosygate.engine.recognisers.base import Recogniser
from cosygate.engine.shared import Shared
from cosygate.kit import logs, tracing
from cosygate.kit.clock import Clock, Randomness, SystemRandomness
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc

_SPAN = f"{pb.DESCRIPTOR.services_by_name['SpeechEngine'].full_name}/Recognize"
SHUTS_DOWN = "the engine is shutting down"
GREW_OLD = "the call has been here for as long as any may"
_log = logs.logger()


@dataclass(frozen=True, slots=True)
class Age:
    """How long a live call stays: then it is ended at a place where another call, perhaps with another engine, can go
    on, so that calls move to engines that came later. A recording's call is not: it would have to begin anew."""

    seconds: float
    grace_s: float  # to find such a place; then it is ended anywhere


class EngineService(pb_grpc.SpeechEngineServicer):
    """For one event loop."""

    def __init__(
        self,
        recogniser: Recogniser,
        *,
        slots: int,
        line: int,
        clock: Clock,
        live: int = 64,
        extras: Extras | None = None,
        age: Age | None = None,
        randomness: Randomness | None = None,
    ) -> None:
        """`line`: how many calls may wait for a slot; `live`: live calls at once. Raises CannotStart when the speech
        detector's model is bad."""
        shared = Shared(recogniser, extras or Extras(), slots=slots, line=line, live=live, clock=clock)
        self._shared = shared
        self._clock = clock
        self._age = age
        self._randomness = randomness or SystemRandomness()
        self._running: set[asyncio.Task[Any]] = set()
        self._listening: set[LiveCall] = set()
        self._draining = False
        self._handing_back = False

    async def Describe(self, _request: pb.DescribeRequest, context: Any) -> pb.EngineDescription:
        if self._draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, SHUTS_DOWN)
        return description(self._shared)

    async def Recognize(self, _messages: Any, context: Any) -> None:  # type: ignore[override]  # the stubs know iterators only
        """Reads and writes through `context`, which grpc.aio offers beside iterators: so each message has its limit."""
        if self._draining:
            await context.abort(grpc.StatusCode.ABORTED, SHUTS_DOWN)
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._running.add(task)
        try:
            parent = tracing.incoming(context.invocation_metadata() or ())
            if parent is None:
                await self._recognize(context)
            else:
                with (
                    logs.bound(trace_id=parent.trace_id),
                    tracing.begin(_SPAN, tracing.Kind.SERVER, parent.trace_id, parent),
                ):
                    await self._recognize(context)
        finally:
            self._running.discard(task)

    async def drain(self, grace_s: float) -> bool:
        """Takes no more calls, sends away those that wait, and live ones as soon as they are at a place where another
        engine can go on; lets those that run finish, then ends what is left with ABORTED (their callers try elsewhere).
        False when a thread is still at work: the process cannot end in an orderly way."""
        self._draining = True
        self._shared.slots.turn_away()
        self._shared.live_slots.turn_away()
        for call in self._listening:
            call.move(SHUTS_DOWN)
        if self._running:
            await asyncio.wait(set(self._running), timeout=grace_s)
        self._handing_back = True
        left = set(self._running)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=1.0)
        idle = self._shared.idle
        self._shared.close()
        return idle

    async def _recognize(self, context: Any) -> None:
        started = self._clock.monotonic()
        call: Call | LiveCall | None = None
        code, detail = grpc.StatusCode.OK, ""
        error: BaseException | None = None
        try:
            call = await self._begin(context)
            if isinstance(call, LiveCall):
                await self._listen(call)
            else:
                await call.run()
        except CallEnded as ended:
            code, detail, error = ended.code, ended.detail, ended.__cause__
        except asyncio.CancelledError:
            code, detail = grpc.StatusCode.CANCELLED, "the caller left"
            if not self._handing_back:
                raise
            code, detail = grpc.StatusCode.ABORTED, SHUTS_DOWN
        except Exception as fault:
            code, detail, error = grpc.StatusCode.INTERNAL, "the engine failed on this audio", fault
        finally:
            if call is not None:
                call.leave()
            self._tell(call, code, detail, error, self._clock.monotonic() - started)
        if code is not grpc.StatusCode.OK:
            if isinstance(call, LiveCall):
                await call.settle()
            await context.abort(code, detail)

    async def _listen(self, call: LiveCall) -> None:
        """Raises as `run` does."""
        self._listening.add(call)
        limits: list[asyncio.TimerHandle] = []
        if self._age is not None:
            age_s = self._age.seconds * self._randomness.uniform(0.9, 1.1)  # they did not all come one by one
            loop = asyncio.get_running_loop()
            limits = [
                loop.call_later(age_s, call.move, GREW_OLD),
                loop.call_later(age_s + self._age.grace_s, call.end, GREW_OLD),
            ]
        try:
            await call.run()
        finally:
            self._listening.discard(call)
            for limit in limits:
                limit.cancel()

    async def _begin(self, context: Any) -> Call | LiveCall:
        """Raises CallEnded when the first message cannot be honoured."""
        try:
            async with asyncio.timeout(CLIENT_IDLE_S):
                first = await context.read()
        except TimeoutError:
            raise CallEnded(grpc.StatusCode.ABORTED, f"nothing came for {CLIENT_IDLE_S:.0f} s") from None
        if first is grpc.aio.EOF or first.WhichOneof("message") != "config":
            raise invalid("the first message is not a config")
        config = first.config
        models = self._shared.models if config.mode == pb.BATCH else self._shared.live_models
        hints = check_config(config, models)
        return (LiveCall if config.mode == pb.LIVE else Call)(context, self._shared, config, hints)

    def _tell(
        self,
        call: Call | LiveCall | None,
        code: grpc.StatusCode,
        detail: str,
        error: BaseException | None,
        seconds: float,
    ) -> None:
        line: dict[str, Any] = {
            "status": code.name,
            "samples": call.samples if call else 0,
            "cost_ms": round(seconds * 1000, 1),
        }
        span = tracing.current()
        span.set({"rpc.system": "grpc", "rpc.grpc.status_code": code.value[0]})
        span.set({"cosygate.engine": self._shared.recogniser.name, "cosygate.audio_s": call.seconds if call else None})
        if code is not grpc.StatusCode.OK:
            span.failed("cancelled" if code is grpc.StatusCode.CANCELLED else code.name)
        if detail:
            line["detail"] = detail
        if error is not None:
            _log.error("engine.call", exc_info=error, **line)
        else:
            _log.info("engine.call", **line)
