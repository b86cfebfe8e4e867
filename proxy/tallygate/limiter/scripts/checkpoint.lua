-- checkpoint.lua: renew the lease of one open reservation and note what it has cost so far.
-- needs: base, keys, holds, saved_holds
--
-- ARGV     2 [reservation, lease_ms, cost, prompt tokens, completion tokens]  3 event
-- Returns  1, or 0 if the reservation is not held (it has ended, or is unknown).
-- A lease is never shortened and a cost never lowered, so a checkpoint that arrives twice or late changes nothing; but a lease that
-- was given while the clock was ahead begins again.

local id, lease_ms, cost, prompt, completion = unpack(cjson.decode(ARGV[2]))
local text = call('HGET', HOLDS, id)
if not text or string.sub(text, 1, 5) ~= 'held ' then return 0 end
local record = record_of(text)
record.at = max(record.at - now > lease_ms + AHEAD_MS and 0 or record.at, now + lease_ms)
local event = cost >= record.cost and ARGV[3] or event_of(record)
if cost >= record.cost then record.cost, record.prompt, record.completion = cost, prompt, completion end
save_record(id, record, event)
schedule(nil, id, record.at)
keep(HOLDS, DUE)
return 1
