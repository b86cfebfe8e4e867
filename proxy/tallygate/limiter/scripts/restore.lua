-- restore.lua: put back one window of a wiped store from the ledger: its spend so far replaces whatever the window has.
-- needs: base, keys, demands, months, windows, first_use, spend, pauses
--
-- ARGV     2 demands, of which the one spend demand counts  3 [[time in ms, amount], ...], at most one entry a 5-minute bucket
--          4 the last event that these amounts know of, or '' for no condition
-- Returns  what is spent in the window now. Holds stay as they are. Running it twice gives the same window. It stands at the time
--          that it is now, and in the month that the demand says, also if it was ahead or in another.
--          With a condition: -1 if the partition admits already, -2 if an event was appended since; then nothing is changed.

if ARGV[4] ~= '' then
  if call('EXISTS', GENERATION) == 1 then return -1 end
  local facts, last = redis.pcall('XINFO', 'STREAM', EVENTS), '0-0'   -- of a stream that was never there
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then last = facts[i + 1] end   -- also if that event has left it
  end
  if last ~= ARGV[4] then return -2 end
end
local demands = demands_of(ARGV[2])
load_windows(demands.spends, now, true)
local window = demands.spends[1]
if window.kind == ROLLING then
  local last = window.at
  window.at = floor(now / BUCKET_MS)
  if not window.is_new then  -- one that is new has no buckets, of which a week has 2,016
    call('HDEL', SPEND, window.key .. '|walk')
    for index = last - window.buckets + 1, last do call('HDEL', SPEND, window.key .. '|' .. int(index)) end
    call('HSET', SPEND, window.key .. '|at', int(window.at))
  end
else
  window.id, window.starts, window.ends = period_at(window.periods, now)
  if not window.is_new then
    call('HSET', SPEND, window.key .. '|id', window.id, window.key .. '|start', int(window.starts), window.key .. '|end', int(window.ends))
    call('HDEL', SPEND, window.key .. '|idle')
  end
end
if window.is_new then open_window(demands.org, window, now) end
local spent = 0
for _, entry in ipairs(cjson.decode(ARGV[3])) do
  local index = floor(entry[1] / BUCKET_MS)
  if window.kind ~= ROLLING then
    if entry[1] >= window.starts and entry[1] < window.ends then spent = spent + entry[2] end
  elseif index > window.at - window.buckets then
    spent = spent + entry[2]
    call('HINCRBY', SPEND, window.key .. '|' .. int(min(index, window.at)), int(entry[2]))
  end
end
window.spent = spent
call('HSET', SPEND, window.key .. '|spent', int(spent), window.key .. '|warned', crossed(window))
if tonumber(call('HGET', SPEND, window.key .. '|told') or 0) > now then call('HSET', SPEND, window.key .. '|told', int(now)) end
local mark = window.mark and mark_of(window.mark)
if mark and mark.refused_at > now then   -- of a clock that was ahead: the sweep ends it, and announces that
  call('HSET', SPEND, window.key .. '|mark', format('%d %d %d %d %d', now, mark.least, now, min(mark.announce_at, now + ANNOUNCED_EVERY_MS), mark.limit))
  schedule(demands.org, pause_member(window), now)
end
keep(DUE)
return int(spent)
