"""Counters of gateways on several hosts: a value in Redis (or Valkey; 6.0 or newer) for each key that holds something.

A script there counts, so whatever happens at the same time happens in turn. The only clock is Redis's own (`TIME`):
what the gateways' clocks say, and whether they jump, changes nothing. The script keeps windows as model/window.py does:
up to GRAINS counts each by its time, more by the marks of a grid; it is that class in Lua, with times in microseconds.

Keys expire with the last count that they hold, and a refusal writes nothing. So there are at most as many as callers,
and addresses of strangers, were counted within their longest window, each of at most 2 KiB a rate; who wants less sets
Redis's `maxmemory`. A name in a key is hashed: a key's length is bounded, and Redis's files name nobody. The rates
are part of the key: while gateways with other limits are rolled out, each counts by its own.

What comes while an answer is awaited goes together, on one connection: a crowd opens no crowd of connections, just when
Redis has come back.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from cosygate.kit.clock import Clock
from cosygate.model.rates import Rate
from cosygate.model.refusals import Refusals
from cosygate.model.standing import Standing
from cosygate.model.window import GRAINS
from cosygate.ports.limits import CountersDown

_WAIT_S = 0.24  # for an answer, or a connection and an answer; a call may wait as long for those to others before
_DOWN_S = 1.0  # after a failure nobody tries for so long, and then one alone
_AT_ONCE = 128  # calls that go together: some milliseconds of Redis's time
_WAITING = 8_192  # calls; beyond them nothing is counted
_MICROS = 1_000_000

# KEYS[1]: the counter. ARGV: what to do, with which time (give back), then amount and window (µs) of each rate.
# The value: when it was last written, then of each rate: mark, count, mark, count, …; the oldest first.
# If Redis's clock was set back since then, all that was counted moves with it: nothing leaves too early, and nothing
# stays for as long as the jump. A second's correction is waited for.
SCRIPT = f"""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local what, at = ARGV[1], tonumber(ARGV[2])
local packed = redis.call('GET', KEYS[1])
local held = packed and cmsgpack.unpack(packed) or {{now}}
local behind = held[1] - now
if behind > 0 and behind <= {_MICROS} then
  now, behind = held[1], 0
end
local function mark(amount, window, time)
  if amount <= {GRAINS} then return time end
  local grain = window / {GRAINS}
  return math.ceil(math.ceil(time / grain) * grain)
end
local rates, used, granted = (#ARGV - 2) / 2, {{}}, 1
for n = 1, rates do
  local amount, window = tonumber(ARGV[2 * n + 1]), tonumber(ARGV[2 * n + 2])
  local kept, sum = {{}}, 0
  local entries = held[n + 1] or {{}}
  for i = 1, #entries, 2 do
    local time, count = entries[i], entries[i + 1]
    if behind > 0 then time = time - behind end
    if what == 'back' and at and time == mark(amount, window, at) then
      count = count - 1
    end
    if time + window > now and count > 0 then
      kept[#kept + 1], kept[#kept + 2], sum = time, count, sum + count
    end
  end
  held[n + 1], used[n] = kept, sum
  if sum >= amount then granted = 0 end
end
local tightest, left, reset, ends = 1, math.huge, 0, 0
for n = 1, rates do
  local amount, window, entries = tonumber(ARGV[2 * n + 1]), tonumber(ARGV[2 * n + 2]), held[n + 1]
  if what == 'take' and granted == 1 then
    local own = mark(amount, window, now)
    if #entries > 0 and entries[#entries - 1] >= own then
      entries[#entries] = entries[#entries] + 1
    else
      entries[#entries + 1], entries[#entries + 2] = own, 1
    end
    used[n] = used[n] + 1
  end
  local wait = 0
  if #entries > 0 then
    wait = entries[1] + window - now
    ends = math.max(ends, entries[#entries - 1] + window - now)
  end
  if amount - used[n] < left or (amount - used[n] == left and wait > reset) then
    tightest, left, reset = n, amount - used[n], wait
  end
end
if (what == 'take' and granted == 1) or (what == 'back' and packed) or behind > 0 then
  held[1] = now
  if ends > 0 then
    redis.call('SET', KEYS[1], cmsgpack.pack(held), 'PX', math.ceil(ends / 1000) + 1000)
  else
    redis.call('DEL', KEYS[1])
  end
end
return {{granted, tightest, math.max(0, left), reset, now}}
"""
_SHA = hashlib.sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()


@dataclass(slots=True)
class _Call:
    arguments: list[int | str]  # the key, and the script's
    answer: asyncio.Future[list[int]]
    put_at: float  # of real time


class RedisCounters:
    """ports/limits.py, Counters. What was asked when Redis stopped answering may be counted all the same when it goes
    on: then a window holds less than it could, never more."""

    def __init__(self, client: Redis, clock: Clock, *, prefix: str = "cosygate:") -> None:
        """`client`: answers in bytes, and is closed by whoever made it. `clock`: for how long a refusal is remembered
        here. `prefix`: of all keys."""
        self._client = client
        self._clock = clock
        self._prefix = prefix
        self._refusals = Refusals()
        self._waiting: list[_Call] = []
        self._asking: asyncio.Task[None] | None = None
        self._down_until = 0.0  # of real time, as all waiting here
        self._doubted = False  # the last answer was none: one call at a time tries
        self._closed = False

    async def take(self, name: str, key: str, rates: Sequence[Rate]) -> tuple[bool, Standing]:
        if not self._closed and (known := self._refusals.known(name, key, self._clock.monotonic())) is not None:
            return False, known
        granted, standing = await self._ask("take", "", name, key, rates)
        if not granted:
            self._refusals.remember(name, key, standing, self._clock.monotonic())
        return granted, standing

    async def look(self, name: str, key: str, rates: Sequence[Rate]) -> Standing:
        if not self._closed and (known := self._refusals.known(name, key, self._clock.monotonic())) is not None:
            return known
        return (await self._ask("look", "", name, key, rates))[1]

    async def give_back(self, name: str, key: str, rates: Sequence[Rate], at: float) -> None:
        self._refusals.forget(name, key)
        await self._ask("back", round(at * _MICROS), name, key, rates)

    async def close(self) -> None:
        self._closed = True
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])
        self._fail([], None)  # it may not have begun

    async def _ask(self, what: str, at: int | str, name: str, key: str, rates: Sequence[Rate]) -> tuple[bool, Standing]:
        """Raises CountersDown."""
        asking = self._asking is not None and not self._asking.done()
        if self._closed or time.monotonic() < self._down_until or (self._doubted and asking):
            raise CountersDown
        if len(self._waiting) >= _WAITING:
            raise CountersDown
        whose = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
        limits = ",".join(f"{rate.amount}/{rate.window_s}" for rate in rates)
        arguments: list[int | str] = [f"{self._prefix}limit:{name}:{limits}:{whose}", what, at]
        for rate in rates:
            arguments += (rate.amount, rate.window_s * _MICROS)
        call = _Call(arguments, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(call)
        if not asking:
            # It asks for all who come meanwhile: what its first caller logs is not theirs.
            self._asking = asyncio.create_task(self._ask_all(), context=contextvars.Context())
        granted, tightest, left, reset, now = await call.answer
        rate = rates[tightest - 1]
        return bool(granted), Standing(name, rate.amount, rate.window_s, left, reset / _MICROS, now / _MICROS)

    async def _ask_all(self) -> None:
        """Until nobody waits any more, or Redis does not answer."""
        calls: list[_Call] = []
        began = time.monotonic()  # a crowd keeps the event loop busy before: nobody waited for Redis then
        try:
            while self._waiting and not self._closed:  # a cancellation may get lost in asyncio.wait_for before 3.12
                self._give_up(began)
                calls, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
                calls = [call for call in calls if not call.answer.done()]  # cancelled while it waited
                if not calls:
                    continue
                async with asyncio.timeout(_WAIT_S):
                    await self._answer(calls)
                self._doubted = False
        except (RedisError, OSError) as error:  # OSError: TimeoutError, too
            self._down_until, self._doubted = time.monotonic() + _DOWN_S, True
            self._fail(calls, error)
        except BaseException as error:  # closed; or a bug, which the first caller tells
            self._fail(calls, error)
            raise

    def _give_up(self, began: float) -> None:
        """On those who would wait too long, with the answer to come. Redis is slow, not away: the others go on."""
        since = time.monotonic() - _WAIT_S
        if since < began:
            return
        late = next((n for n, call in enumerate(self._waiting) if call.put_at >= since), len(self._waiting))
        calls, self._waiting = self._waiting[:late], self._waiting[late:]
        _tell(calls, TimeoutError("too many wait"))

    def _fail(self, calls: list[_Call], error: BaseException | None) -> None:
        calls, self._waiting = calls + self._waiting, []
        _tell(calls, error)

    async def _answer(self, calls: list[_Call]) -> None:
        """Raises RedisError, OSError; those that were answered are, also then."""
        answers = await self._run(calls, ["EVALSHA", _SHA])
        unknown = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if unknown:  # a Redis that has started since. Nothing was counted for these
            again = await self._run([calls[n] for n in unknown], ["EVAL", SCRIPT])
            for n, answer in zip(unknown, again, strict=True):
                answers[n] = answer
        for call, answer in zip(calls, answers, strict=True):
            if not isinstance(answer, Exception) and not call.answer.done():
                call.answer.set_result(answer)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer

    async def _run(self, calls: list[_Call], first: list[str]) -> list[list[int] | Exception]:
        """`first`: how the first is run; by then Redis knows the script."""
        pipe, command = self._client.pipeline(transaction=False), first
        for call in calls:
            pipe.execute_command(*command, 1, *call.arguments)
            command = ["EVALSHA", _SHA]
        return await pipe.execute(raise_on_error=False)


def _tell(calls: list[_Call], error: BaseException | None) -> None:
    """That they cannot be counted."""
    for call in calls:
        if not call.answer.done():
            down = CountersDown()
            down.__cause__ = error
            call.answer.set_exception(down)
