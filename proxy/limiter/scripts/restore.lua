-- restore.lua: put back one window of a wiped store from the ledger: its spend so far replaces whatever the window has.
--
-- ARGV     2 demands, of which the one spend demand counts  3 [[time in ms, amount], ...], at most one entry a 5-minute bucket
--          4 the last event that these amounts know of, or '' for no condition
-- Returns  what is spent in the window now. Holds stay as they are. Running it twice gives the same window.
--          With a condition: -1 if the partition admits already, -2 if an event was appended since; then nothing is changed.

if ARGV[4] ~= '' then
  if call('EXISTS', GENERATION) == 1 then return -1 end
  if last_event() ~= ARGV[4] then return -2 end
end
local now = server_now()
local demands = demands_of(ARGV[2])
load_windows(demands.spends, now, true)
local window = demands.spends[1]
post(demands.org, window, 0, now)
if window.kind == ROLLING then
  call('HDEL', SPEND, window.key .. '|walk')
  for index = window.at - window.buckets + 1, window.at do call('HDEL', SPEND, window.key .. '|' .. int(index)) end
end
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
keep(SPEND)
keep(DUE)
return int(spent)
