-- expire.lua: one step of the sweep of one organization: expire holds whose lease is over, end pauses that are over, forget
-- what is remembered no longer, drop idle buckets and windows.
-- needs: base, keys, housekeeping
--
-- ARGV     2 [organization, how many at most, memory_ms]
-- Returns  how many entries were due and handled, and how many of them were holds that expired. Afterwards `orgs` says when the
--          organization is due next.

local org, most, memory_ms = unpack(cjson.decode(ARGV[2]))
local handled, expired = collect(org, now, most, memory_ms)
local earliest = call('ZRANGE', DUE, 0, 0, 'WITHSCORES')
if earliest[2] then
  call('ZADD', ORGS, earliest[2], org)
else
  call('ZREM', ORGS, org)
end
return {handled, expired}
