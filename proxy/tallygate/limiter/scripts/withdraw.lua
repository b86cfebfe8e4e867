-- withdraw.lua: take back an admission whose answer came too late to be of use. Nothing is charged and nothing is announced.
-- needs: base, keys, demands, endings, windows, postings, holds
--
-- ARGV     2 [organization, reservation, ended_ms]
-- Returns  0, or 1 if its lease is over and has been charged: nothing was done, and a release takes the charge back.
-- What is held and every unit taken go back. It then counts as ended, also if it was unknown: the admission may still be on its way.

local org, id, ended_ms = unpack(cjson.decode(ARGV[2]))
local text = call('HGET', HOLDS, id)
local record = text and record_of(text) or nil
if record and record.status ~= 'held' then return record.status == 'expired' and 1 or 0 end

if record then
  local demands = demands_of(record.demands)
  for i = 1, demands.list[2] do   -- as if there had been no admission
    local key, kind, _, capacity, refill, window = unpack(demands.list, i * WORDS - 4, i * WORDS + 1)
    local units = record.rest[i] + 0
    if kind == WHILE_OPEN then close_open_request(key, units) else correct_bucket(org, units, units, now, key, capacity, refill, window) end
  end
  load_windows(demands.spends, now, true)
  for _, window in ipairs(demands.spends) do unhold(window, record.hold) end
end
call('HSET', HOLDS, id, format('settled\n[%d,0,0,0]', now))
schedule(org, id, now + ended_ms)
keep(HOLDS, DUE)
return 0
