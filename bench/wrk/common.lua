-- What both upload scripts share: options, a number per thread, names of sessions, and the result as one JSON line.
--
-- Options come behind `--` as key=value:
--   token     bearer token ("" sends none)
--   run       a word that makes sessions of this run unlike all others
--   first     file with the bytes of part 0
--   chunk     file with the bytes of every other part (not needed when parts=1)
--   parts     how many parts one upload has
--   complete  1: the highest part carries is_last, 0: uploads stay open
--   prefix    path before the session's name
local threads = 0

function setup(thread)
  thread:set("thread_number", threads)
  threads = threads + 1
end

local function read(path)
  if not path then return nil end
  local file = assert(io.open(path, "rb"))
  local bytes = file:read("*a")
  file:close()
  return bytes
end

function options(args)
  local o = {}
  for _, arg in ipairs(args) do
    local key, value = arg:match("^(%w+)=(.*)$")
    o[key] = value
  end
  o.parts, o.complete = tonumber(o.parts), o.complete == "1"
  o.first, o.chunk = read(o.first), read(o.chunk)
  o.auth = o.token ~= "" and ("Authorization: Bearer " .. o.token .. "\r\n") or ""
  return o
end

-- Walks seq 0 … parts-1 of one session, then of the next. Names have one length, so Content-Length never changes.
function walker(o)
  local upload, seq = 0, -1
  return function()
    seq = seq + 1
    if seq == o.parts then upload, seq = upload + 1, 0 end
    return string.format("%s-%d-%07d", o.run, thread_number, upload), seq
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '\n{"requests": %d, "seconds": %.6f, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f, "refused": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, e.status, e.connect + e.read + e.write + e.timeout))
end
