-- PUT {prefix}{session}/{seq}: the chunk as raw body.
local here = debug.getinfo(1, "S").source:match("^@(.*/)")
dofile(here .. "common.lua")

local o, next_part

function init(args)
  o = options(args)
  next_part = walker(o)
end

function request()
  local session, seq = next_part()
  local last = (o.complete and seq == o.parts - 1) and "?is_last=1" or ""
  local chunk = seq == 0 and o.first or o.chunk
  return table.concat({
    "PUT ", o.prefix, session, "/", seq, last, " HTTP/1.1\r\nHost: ", wrk.headers.Host or "localhost", "\r\n", o.auth,
    "Content-Type: application/octet-stream\r\nContent-Length: ", #chunk, "\r\n\r\n", chunk,
  })
end
