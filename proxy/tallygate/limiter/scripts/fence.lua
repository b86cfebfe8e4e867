-- fence.lua: close a partition that was marked as complete in a run of the store that is over, whose last writes may be lost.
--
-- KEYS     1 generation  2 former
-- ARGV     ids of the present runs of the store's servers: a partition may have been moved here from another one
-- Returns  1 if this call has closed it, else 0. A mark of these runs stays: many may call it, at any time. What is closed keeps its
--          mark under another name, so that nobody takes it for a store that was never used.

local mark = redis.call('GET', KEYS[1])
if not mark then return 0 end
for each = 1, #ARGV do
  if mark == ARGV[each] then return 0 end
end
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
