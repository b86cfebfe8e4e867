-- due_orgs.lua: organizations of a partition with something due.
-- needs: base
--
-- KEYS     1 orgs
-- ARGV     1 the time in ms, in tests only  2 how many at most
-- Returns  their ids, the longest overdue first.

return call('ZRANGEBYSCORE', KEYS[1], '-inf', int(server_now()), 'LIMIT', 0, ARGV[2])
