-- housekeeping.lua: what is due of an organization.
-- needs: base, keys

-- Handles up to `most` entries of an organization that are due; returns how many there were, how many of them were holds that expired,
-- and how many may have changed rates or windows. Nearly all are reservations that ended a while ago: these are forgotten together.
local function collect(org, now, most, memory_ms)
  local members = call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', 0, most)
  if #members == 0 then return 0, 0, 0 end
  local texts, ended, due = call('HMGET', HOLDS, unpack(members)), {}, {}
  for i = 1, #members do
    local member = members[i]
    local is_due = string.find(member, '^[wbp]|') or texts[i] and string.sub(texts[i], 1, 5) == 'held '
    local list = is_due and due or ended
    list[#list + 1] = member
  end
  if #ended > 0 then
    call('HDEL', HOLDS, unpack(ended))
    call('ZREM', DUE, unpack(ended))
  end
  if #due == 0 then return #members, 0, 0 end
  -- made here: due
  return #members, end_due(org, due, now, memory_ms), #due
end
