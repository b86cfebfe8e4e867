-- waiting.lua: what waits for the ledger in streams; changes nothing.
-- needs: base
--
-- KEYS     the events of partitions
-- ARGV     1 the time in ms, in tests only
-- Returns  how many entries, for how long the oldest of them has waited in ms, and the memory of the streams in bytes.

local events, bytes, oldest = 0, 0, now
for _, stream in ipairs(KEYS) do
  local length = call('XLEN', stream)
  if length > 0 then
    events = events + length
    local id, fields = unpack(call('XRANGE', stream, '-', '+', 'COUNT', 1)[1])
    oldest = min(oldest, tonumber(string.match(id, '^%d+')))  -- ids never fall behind the latest time that the server's clock had
    for i = 1, #fields, 2 do
      if fields[i] == 'settled_at_ms' then oldest = min(oldest, tonumber(fields[i + 1]) or oldest) end
    end
  end
  bytes = bytes + (call('MEMORY', 'USAGE', stream) or 0)  -- false: nothing was ever added
end
return {events, now - oldest, bytes}
