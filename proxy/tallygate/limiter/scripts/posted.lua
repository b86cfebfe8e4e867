-- posted.lua: what one window has taken, bucket by bucket, and how far the ledger has stored it; changes nothing.
-- needs: base, keys, demands, windows
--
-- ARGV     2 demands, of which the one spend demand counts
-- Returns  [now, settled_at_ms of the oldest event that is not stored yet or -1, spent, 1 if the window is ahead of the clock, then
--          for a rolling window: time and amount of each of its buckets that has one; for a calendar month: its start and end]

local demands = demands_of(ARGV[2])
local oldest = -1
for _, entry in ipairs(call('XRANGE', EVENTS, '-', '+', 'COUNT', 1)) do
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'settled_at_ms' then oldest = tonumber(entry[2][i + 1]) end
  end
end
local is_ahead = load_windows(demands.spends, now, false)
local window = demands.spends[1]
local words = {int(now), int(oldest), int(window.spent), is_ahead and '1' or '0'}
if window.kind == ROLLING then
  local first = window.at - window.buckets + 1
  while first <= window.at do
    local stop = min(window.at, first + 255)
    local fields = {}
    for i = first, stop do fields[#fields + 1] = window.key .. '|' .. int(i) end
    for i, amount in ipairs(call('HMGET', SPEND, unpack(fields))) do
      if amount then words[#words + 1], words[#words + 2] = int((first + i - 1) * BUCKET_MS), amount end
    end
    first = stop + 1
  end
else
  words[#words + 1], words[#words + 2] = int(window.starts), int(window.ends)
end
return '[' .. table.concat(words, ',') .. ']'
