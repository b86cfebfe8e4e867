-- due_orgs.lua: organizations of a partition with something due.
--
-- KEYS     1 orgs
-- ARGV     1 the time in ms, in tests only  2 how many at most
-- Returns  their ids, the longest overdue first.

local now = ARGV[1]
if now == '' then
  local time = redis.call('TIME')
  now = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
end
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[2])
