"""What Redis does in one go: look who holds the session, and write only for him. Redis 7.0 or newer, or Valkey.

Three keys a session, with its id as the hash tag, so that a cluster keeps them together:

    KEYS[1]  :held    hash: epoch, by (the claim), serial, at (Redis's time of the last append, s), first, end, snapshot
    KEYS[2]  :audio   stream: an entry's id is the byte behind it, `END-0`, so one finds bytes by their number
    KEYS[3]  :events  stream: ids are `EPOCH-NUMBER`, so positions rise over epochs, and over a Redis that was emptied

The writer numbers what it writes (`serial`), so whatever did not get an answer can be sent again, and what was written
is never written twice. It also tells when something is missing: a key that is gone, or a Redis that knows less than it
had acknowledged (another one took over, or it was restored), is never written on in the middle.

Every script answers 'ok' (or a list that begins with it), 'taken' or 'lost'.
"""

from __future__ import annotations

import hashlib

DROPPED = -1  # the epoch of a session that was dropped, for as long as a writer may still come with something
PAGE = 500  # events in one answer
READ_PAGE, READ_MOST = 16, 512  # entries of audio that are read at once, and in one answer: 3 ms of Redis's time

OK, TAKEN, LOST, EARLY = b"ok", b"taken", b"lost", b"early"


# ARGV[1]: the epoch of who asks.
_FENCE = """
local held = redis.call('HMGET', KEYS[1], 'epoch', 'serial', 'first', 'end')
local epoch, asked = tonumber(held[1] or ''), tonumber(ARGV[1])
if epoch and (epoch < 0 or epoch > asked) then return 'taken' end
if epoch ~= asked or redis.call('EXISTS', KEYS[2], KEYS[3]) ~= 2 then return 'lost' end
"""

# ARGV[2]: the number of this write. One that was done already is done.
_SERIAL = """
local serial = tonumber(held[2])
if serial >= tonumber(ARGV[2]) then return 'ok' end
if serial ~= tonumber(ARGV[2]) - 1 then return 'lost' end
"""

# `ttl`: seconds; 0 leaves it.
_TTL = """
if ttl > 0 then
  for n = 1, 3 do redis.call('EXPIRE', KEYS[n], ttl) end
end
"""

# ARGV[3]: ttl. Then pairs: 'e' (lasts) or 'p' (passes) and an event, or the byte behind it and audio.
APPEND = f"""#!lua
{_FENCE}{_SERIAL}
local last = held[4]
for n = 4, #ARGV, 2 do
  if ARGV[n] == 'e' or ARGV[n] == 'p' then
    redis.call('XADD', KEYS[3], ARGV[1] .. '-*', ARGV[n], ARGV[n + 1])
  else
    last = ARGV[n]
    redis.call('XADD', KEYS[2], last .. '-0', 's', ARGV[n + 1])
  end
end
redis.call('HSET', KEYS[1], 'serial', ARGV[2], 'end', last, 'at', redis.call('TIME')[1])
local ttl = tonumber(ARGV[3])
{_TTL}
return 'ok'
"""

# ARGV: epoch, who claims (a word that is used once), ttl. An older story that is not whole is none at all.
# Streams are made empty: an emptied stream stays, as XTRIM leaves the key.
CLAIM = f"""#!lua flags=allow-oom
local held = redis.call('HMGET', KEYS[1], 'epoch', 'by')
local epoch, asked = tonumber(held[1] or ''), tonumber(ARGV[1])
if epoch and (epoch > asked or (epoch == asked and held[2] ~= ARGV[2])) then return 'taken' end
if not epoch or epoch < 0 or redis.call('EXISTS', KEYS[2], KEYS[3]) ~= 2 then
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
  for n = 2, 3 do
    redis.call('XADD', KEYS[n], '0-1', 'p', '')
    redis.call('XTRIM', KEYS[n], 'MAXLEN', '=', 0)
  end
  redis.call('HSET', KEYS[1], 'first', 0, 'end', 0, 'snapshot', '')
end
if epoch ~= asked then
  redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'by', ARGV[2], 'serial', 0, 'at', redis.call('TIME')[1])
end
local ttl = tonumber(ARGV[3])
{_TTL}
local found = redis.call('HMGET', KEYS[1], 'first', 'end', 'snapshot')
return {{'ok', found[1], found[2], found[3], redis.call('XRANGE', KEYS[3], '-', '+', 'COUNT', {PAGE})}}
"""

# ARGV: epoch, the id behind which to go on.
EVENTS = f"""#!lua flags=no-writes
{_FENCE}
return {{'ok', redis.call('XRANGE', KEYS[3], '(' .. ARGV[2], '+', 'COUNT', {PAGE})}}
"""

# ARGV: epoch, first byte, the byte behind the last. Answers with the byte that it got to, and the entries before that:
# a client may have sent its audio in grains, and Redis answers nobody else meanwhile.
READ = f"""#!lua flags=no-writes
{_FENCE}
if tonumber(ARGV[2]) < tonumber(held[3]) then return 'early' end
local behind, at, found = tonumber(ARGV[3]), ARGV[2] .. '-0', {{}}
repeat
  local page = redis.call('XRANGE', KEYS[2], '(' .. at, '+', 'COUNT', {READ_PAGE})
  for _, entry in ipairs(page) do found[#found + 1] = {{entry[1], entry[2][2]}} end
  if #page < {READ_PAGE} then return {{'ok', held[4], found}} end
  at = page[#page][1]
until #found >= {READ_MOST} or tonumber(string.match(at, '^%d+')) >= behind
return {{'ok', string.match(at, '^%d+'), found}}
"""

# ARGV: epoch, number of this write, the snapshot, the first byte to keep.
COMPACT = f"""#!lua flags=allow-oom
{_FENCE}{_SERIAL}
local first = math.min(math.max(tonumber(ARGV[4]), tonumber(held[3])), tonumber(held[4]))
redis.call('HSET', KEYS[1], 'serial', ARGV[2], 'snapshot', ARGV[3], 'first', string.format('%.0f', first))
redis.call('XTRIM', KEYS[2], 'MINID', '=', string.format('%.0f-0', first + 1))
redis.call('XTRIM', KEYS[3], 'MAXLEN', '=', 0)
return 'ok'
"""

# ARGV: epoch, ttl.
LOOK = f"""#!lua flags=allow-oom
{_FENCE}
local ttl = tonumber(ARGV[2])
{_TTL}
return 'ok'
"""

# ARGV: for how many seconds the session's writer is still told that it is gone, and not that Redis was emptied.
DROP = f"""#!lua flags=allow-oom
if redis.call('DEL', KEYS[1], KEYS[2], KEYS[3]) > 0 then
  redis.call('HSET', KEYS[1], 'epoch', {DROPPED})
  redis.call('EXPIRE', KEYS[1], ARGV[1])
end
return 'ok'
"""

SCRIPTS = {
    "append": APPEND,
    "claim": CLAIM,
    "events": EVENTS,
    "read": READ,
    "compact": COMPACT,
    "look": LOOK,
    "drop": DROP,
}
# By which Redis knows them.
SHAS = {name: hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest() for name, text in SCRIPTS.items()}
