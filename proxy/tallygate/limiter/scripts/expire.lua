-- expire.lua: one step of the sweep: expire holds whose lease is over, end pauses that are over, forget what is remembered no longer,
-- drop idle buckets and windows.
-- needs: base, keys, housekeeping
--
-- KEYS     of each organization its own, one after the other
-- ARGV     2 [[organization ...], how many entries at most, of all of them together, memory_ms]
-- Returns  how many entries were due and handled, how many of them were holds that expired, and how many organizations were looked at,
--          from the first. Afterwards `orgs` says of these when they are due next. An error of one is told after the others were looked at.

local orgs, most, memory_ms = unpack(cjson.decode(ARGV[2]))
local of_each = #KEYS / #orgs
local handled, expired, looked_at, failure = 0, 0, 0, nil
while looked_at < #orgs and handled < most do
  local org = orgs[looked_at + 1]
  GENERATION, EVENTS, ORGS, RATES, HOLDS, DUE, SPEND = unpack(KEYS, looked_at * of_each + 1, (looked_at + 1) * of_each)
  local is_done, due, holds = pcall(collect, org, now, most - handled, memory_ms)
  if is_done then
    handled, expired = handled + due, expired + holds
    local earliest = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
    if earliest[2] then
      call('ZADD', ORGS, earliest[2], org)
    else
      call('ZREM', ORGS, org)
    end
  else
    failure = due
  end
  looked_at = looked_at + 1
end
if failure then error(failure) end
return {handled, expired, looked_at}
