-- POST {prefix}: multipart with session_id, seq, is_last and the chunk, as the article's clients send it.
local here = debug.getinfo(1, "S").source:match("^@(.*/)")
dofile(here .. "common.lua")

local B = "bench-boundary-7f3a9c"
local o, next_part

local function field(name, value)
  return "--" .. B .. '\r\nContent-Disposition: form-data; name="' .. name .. '"\r\n\r\n' .. value .. "\r\n"
end

function init(args)
  o = options(args)
  next_part = walker(o)
end

function request()
  local session, seq = next_part()
  local last = (o.complete and seq == o.parts - 1) and "1" or "0"
  local chunk = seq == 0 and o.first or o.chunk
  local head = field("session_id", session) .. field("seq", tostring(seq)) .. field("is_last", last)
    .. "--" .. B .. '\r\nContent-Disposition: form-data; name="chunk"; filename="chunk.bin"\r\n'
    .. "Content-Type: application/octet-stream\r\n\r\n"
  local tail = "\r\n--" .. B .. "--\r\n"
  -- One concatenation: the 200 KB are copied once.
  return table.concat({
    "POST ", o.prefix, " HTTP/1.1\r\nHost: ", wrk.headers.Host or "localhost", "\r\n", o.auth,
    "Content-Type: multipart/form-data; boundary=", B, "\r\nContent-Length: ", #head + #chunk + #tail, "\r\n\r\n",
    head, chunk, tail,
  })
end
