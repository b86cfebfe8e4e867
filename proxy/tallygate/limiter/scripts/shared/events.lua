-- events.lua: usage events in the stream to the ledger.
-- needs: base, keys

-- expired_at: of what is settled of a reservation after its expiry, as of which it counts.
local function append_event(id, kind, event, now, cost, posted, prompt, completion, flags, expired_at)
  local fields = {'event_id', id, 'kind', kind, 'event', event, 'settled_at_ms', int(now), 'cost_nano_usd', int(cost),
    'posted_nano_usd', int(posted), 'prompt_tokens', int(prompt), 'completion_tokens', int(completion), 'flags', flags}
  if expired_at then fields[#fields + 1], fields[#fields + 2] = 'expired_at_ms', int(expired_at) end
  call('XADD', EVENTS, '*', unpack(fields))
end

-- The id of the last event that was ever appended, also if it has left the stream.
local function last_event()
  local facts = redis.pcall('XINFO', 'STREAM', EVENTS)
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then return facts[i + 1] end
  end
  return '0-0'
end
