-- defer.lua: keep the hold of an exchange that has been answered while its upstream works on, and append its job for the ledger.
-- needs: base, keys, demands, endings, windows, first_use, holds, saved_holds, events
--
-- ARGV     2 [reservation, lease_ms, hold, cost, prompt tokens, completion tokens, has spend]
--          3 demands, or empty: only a reservation that is unknown here needs them  4 event  5 job, or empty: none is appended
-- Returns  as settle.lua, without warnings; late: its lease is over, and what was charged stays charged until it is settled.
-- held: its open requests end, model tokens stay taken until it is settled, and its lease is the job's. unknown (the store lost its
-- data): it is held again, whatever the limits say. Without a job one that is held already stays as it is.
-- A deferred hold has no answer: it is never admitted again.

local id, lease_ms, hold, cost, prompt, completion, has_spend = unpack(cjson.decode(ARGV[2]))
if has_spend == 1 and call('EXISTS', GENERATION) == 0 then return {2, ''} end
local text = call('HGET', HOLDS, id)
local record = text and record_of(text) or nil
if record and record.status == 'settled' then return {1, record.answer} end
if not record and ARGV[3] == '' then return {3, ''} end

local unheld, late = record == nil, record ~= nil and record.status == 'expired'
if not late and not (record and ARGV[5] == '') then
  local demands = demands_of(record and record.demands or ARGV[3])
  if unheld then
    if load_windows(demands.spends, now, true) then return close_partition() end
    for _, window in ipairs(demands.spends) do
      if window.is_new then open_window(demands.org, window, now) end
      window.held = call('HINCRBY', SPEND, window.key .. '|held', int(hold))
    end
    record = {status = 'held', hold = hold, rest = {}, demands = ARGV[3]}
    for i = 1, demands.list[2] do record.rest[i] = 0 end
  end
  for i = 1, demands.list[2] do
    local key, kind = unpack(demands.list, i * WORDS - 4, i * WORDS - 3)
    if kind == WHILE_OPEN then
      close_open_request(key, record.rest[i] + 0)
      record.rest[i] = 0
    end
  end
  record.cost, record.prompt, record.completion = min(cost, record.hold), prompt, completion
  record.at, record.answer = now + lease_ms, ''
  save_record(id, record, ARGV[4])
  schedule(unheld and demands.org or nil, id, record.at)
  keep(HOLDS, DUE)
end
if ARGV[5] ~= '' then append_event(id, 'deferred', ARGV[5], now, 0, 0, 0, 0, '') end
return {0, format('[%d,0,%d,%d]', now, late and 1 or 0, unheld and 1 or 0)}
