-- reanchor.lua: bring back what a clock that was ahead has put off: the leases of open reservations, and for how long ended ones are
-- remembered. Nobody else would look at these before that time has come.
-- needs: base, keys, holds, saved_holds
--
-- ARGV     2 [organization, lease_ms, longest lease in ms, memory_ms]
-- Returns  how many entries were brought back; none where the clock was never ahead, so that it may run at any time.

local org, lease_ms, lease_max, memory_ms = unpack(cjson.decode(ARGV[2]))
local moved = 0
local entries = call('ZRANGEBYSCORE', DUE, '(' .. int(now + lease_max), '+inf', 'WITHSCORES')
for i = 1, #entries, 2 do
  local member, at = entries[i], tonumber(entries[i + 1])
  local text = not string.find(member, '^[wbp]|') and call('HGET', HOLDS, member)
  local record = text and record_of(text)
  if record and record.status == 'held' and record.answer ~= '' then   -- a deferred one is held for days
    record.at = now + lease_ms
    save_record(member, record, event_of(record))
    schedule(org, member, record.at)
    moved = moved + 1
  elseif record and record.status ~= 'held' and at > now + memory_ms then
    if record.status == 'expired' then
      record.at = min(record.at, now)
      save_record(member, record, event_of(record))
    end
    schedule(org, member, now + memory_ms)
    moved = moved + 1
  end
end
return moved
