-- due_orgs.lua: organizations with something due.
-- needs: base
--
-- KEYS     the orgs of partitions
-- ARGV     1 the time in ms, in tests only  2 how many of a partition at most
-- Returns  their ids, of each partition the longest overdue first.

local found = {}
for each = 1, #KEYS do
  for _, org in ipairs(call('ZRANGEBYSCORE', KEYS[each], '-inf', int(now), 'LIMIT', 0, ARGV[2])) do found[#found + 1] = org end
end
return found
