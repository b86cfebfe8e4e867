-- rolling.lua: a rolling window as time goes on.
-- needs: base, keys

-- Moves a rolling window on to the bucket `index`: buckets at or below the cutoff leave. Walks only what lies between the old cutoff and
-- the new, at most one window's worth of buckets.
local function roll(window, index, write)
  local first, last = window.at - window.buckets + 1, min(index - window.buckets, window.at)
  local gone = 0
  while first <= last do
    local stop = min(last, first + 255)
    local fields = {}
    for i = first, stop do fields[i - first + 1] = format('%s|%d', window.key, i) end
    local found = {}
    for i, amount in ipairs(call('HMGET', SPEND, unpack(fields))) do
      if amount then
        gone = gone + amount
        found[#found + 1] = fields[i]
      end
    end
    if write and #found > 0 then call('HDEL', SPEND, unpack(found)) end
    first = stop + 1
  end
  window.spent, window.at = window.spent - gone, index
  if write then
    if gone > 0 then call('HINCRBY', SPEND, window.key .. '|spent', int(-gone)) end
    call('HSET', SPEND, window.key .. '|at', int(index))
  end
end
