"""Where the breakers lie: one hash, with a field for each engine that anybody has changed. Its value is a token, new in
each change, then when it was written (µs, by Redis's clock), a space, and the breaker as plain data."""

from __future__ import annotations

from dataclasses import dataclass

from redis.asyncio import Redis

from cosygate.adapters.breaker_redis.times import Offset, packed, unpacked
from cosygate.kit.breaker import Breaker
from cosygate.kit.clock import Clock

TOKEN = 16  # characters
_VOID_S = 0.03  # after which Redis does not begin with a change any more
_DAY_MS = 86_400_000  # an engine that nobody has changed for so long has a closed breaker

# KEYS: the hash, and a key that is written when ARGV[1] says so, to find out whether Redis takes writes.
_LOOK = """
local clock = redis.call('TIME')
if ARGV[1] == '1' then redis.call('SET', KEYS[2], '1', 'PX', 1000) end
return {clock[1] * 1000000 + clock[2], redis.call('HGETALL', KEYS[1])}
"""

# ARGV: engine, the token that was seen (empty: there was none), when this is void (µs), the new token, the new breaker
# (empty: only whether it is still that token). When an engine is new, those that nobody has changed for a day are left
# out: addresses come and go.
_CHANGE = f"""
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
if now > tonumber(ARGV[3]) then return {{'late', now, false}} end
local found = redis.call('HGET', KEYS[1], ARGV[1])
if (found and string.sub(found, 1, {TOKEN}) or '') ~= ARGV[2] then return {{'other', now, found}} end
if ARGV[5] == '' then return {{'same', now, false}} end
if redis.call('HSET', KEYS[1], ARGV[1], ARGV[4] .. string.format('%.0f ', now) .. ARGV[5]) == 1 then
  local all = redis.call('HGETALL', KEYS[1])
  for i = 1, #all, 2 do
    local written = tonumber(string.match(all[i + 1], '^%d+', {TOKEN + 1}))
    if not written or now - written > {_DAY_MS} * 1000 then redis.call('HDEL', KEYS[1], all[i]) end
  end
end
redis.call('PEXPIRE', KEYS[1], {_DAY_MS})
return {{'done', now, false}}
"""


@dataclass(frozen=True, slots=True)
class Value:
    """What was found of one engine."""

    raw: bytes
    read: int  # when (µs, by Redis's clock)

    @property
    def token(self) -> str:
        return self.raw[:TOKEN].decode("ascii", "replace")


@dataclass(frozen=True, slots=True)
class Outcome:
    done: bool  # also when nothing was to be written, and the token is the one that was seen
    other: bool  # it is not; neither: it came too late
    value: Value | None  # what is there then; None: nothing


class Place:
    """Every method raises RedisError and OSError, and waits for as long as the client does."""

    def __init__(self, client: Redis, clock: Clock, prefix: str) -> None:
        self._client = client
        self._clock = clock
        self._keys = (f"{prefix}breakers", f"{prefix}breakers-tried")
        self._offset = Offset()

    @property
    def known(self) -> bool:
        """Whether Redis's clock is."""
        return self._offset.seconds is not None

    async def look(self, *, writing: bool) -> dict[str, Value]:
        """`writing`: fails when Redis takes no writes."""
        sent = self._clock.monotonic()
        now, pairs = await self._client.execute_command(  # type: ignore[no-untyped-call]
            "EVAL", _LOOK, 2, *self._keys, int(writing)
        )
        self._offset.measured(sent, self._clock.monotonic(), now / 1e6)
        return {pairs[n].decode("utf-8", "replace"): Value(pairs[n + 1], now) for n in range(0, len(pairs), 2)}

    async def swap(self, engine: str, seen: str, token: str, breaker: Breaker | None) -> Outcome:
        """Writes `breaker` (None: nothing) with `token`, if what is there has the token `seen` (empty: nothing is)."""
        offset, sent = self._offset.seconds or 0.0, self._clock.monotonic()
        body = b"" if breaker is None else packed(breaker, offset)
        void = round((sent + offset + _VOID_S) * 1e6)
        told, now, raw = await self._client.execute_command(  # type: ignore[no-untyped-call]
            "EVAL", _CHANGE, 1, self._keys[0], engine, seen, void, token, body
        )
        self._offset.measured(sent, self._clock.monotonic(), now / 1e6)
        return Outcome(told in (b"done", b"same"), told == b"other", None if raw is None else Value(raw, now))

    def breaker(self, value: Value) -> Breaker:
        """Raises ValueError for what is none."""
        written, _, body = value.raw[TOKEN:].partition(b" ")
        ahead_s = max(0, int(written) - value.read) / 1e6  # Redis's clock was set back since, and its times with it
        return unpacked(body, (self._offset.seconds or 0.0) + ahead_s)
