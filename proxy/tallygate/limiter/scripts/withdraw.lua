-- withdraw.lua: take back an admission whose answer came too late to be of use. Nothing is charged and nothing is announced.
-- needs: base, keys, demands, rates, windows, spend, holds
--
-- ARGV     2 [organization, reservation, ended_ms]
-- Returns  0, or 1 if its lease is over and has been charged: nothing was done, and a release takes the charge back.
-- What is held and every unit taken go back. It then counts as ended, also if it was unknown: the admission may still be on its way.

local org, id, ended_ms = unpack(cjson.decode(ARGV[2]))
local now = server_now()
local text = call('HGET', HOLDS, id)
local record = text and record_of(text) or nil
if record and record.status ~= 'held' then return record.status == 'expired' and 1 or 0 end

if record then
  local demands = demands_of(record.demands)
  return_rates(org, demands.rates, record.rest, now)
  load_windows(demands.spends, now, true)
  for _, window in ipairs(demands.spends) do unhold(window, record.hold) end
end
call('HSET', HOLDS, id, format('settled\n[%d,0,0,0]', now))
schedule(org, id, now + ended_ms)
keep(HOLDS)
keep(DUE)
return 0
