-- events.lua: usage events in the stream to the ledger.
-- needs: base, keys

-- expired_at: of what is settled of a reservation after its expiry, as of which it counts.
local function append_event(id, kind, event, now, cost, posted, prompt, completion, flags, expired_at)
  local expired = expired_at and {'expired_at_ms', expired_at} or {}
  call('XADD', EVENTS, '*', 'event_id', id, 'kind', kind, 'event', event, 'settled_at_ms', now, 'cost_nano_usd', cost,
    'posted_nano_usd', posted, 'prompt_tokens', prompt, 'completion_tokens', completion, 'flags', flags, unpack(expired))
end
