-- fence.lua: close a partition that was marked as complete in another run of the store, whose last writes may be lost.
--
-- KEYS     1 generation  2 former
-- ARGV     1 id of the store's run
-- Returns  1 if this call has closed it, else 0. A mark of this run stays: many may call it, at any time. What is closed keeps its
--          mark under another name, so that nobody takes it for a store that was never used.

local mark = redis.call('GET', KEYS[1])
if not mark or mark == ARGV[1] then return 0 end
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
