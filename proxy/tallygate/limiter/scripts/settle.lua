-- settle.lua: replace a hold by what the exchange came to, and append its usage event, in one step. A release settles at zero.
-- needs: base, keys, demands, endings, windows, spend, postings, holds, events
--
-- ARGV     2 release, cost, prompt tokens, completion tokens, ended_ms, memory_ms, has spend, reservation: words
--          3 demands, or empty: only a reservation that is unknown here needs them  4 event  5 part of | ''
-- Returns  {0, answer}, {1, answer} the first answer to a repeated call, {2, ''} if the partition is closed, {3, ''} if the reservation
--          is unknown and the demands were not sent: nothing was done, and the same call with them will be answered.
--          answer: [settled_at_ms, over, late, unheld, (index of spend demand from 1, permille) of each threshold crossed ...]
-- held: hold becomes spend. expired: the difference to its checkpoint is posted as of the expiry. unknown: the whole, flagged.
-- A part is never held itself: what it costs is taken from the hold of the reservation that it is a part of, as far as that is held.

local release, cost, prompt, completion, ended_ms, memory_ms, has_spend, id =
  string.match(ARGV[2], '^(%d) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (.*)$')
cost, prompt, completion = cost + 0, prompt + 0, completion + 0
local part_of = ARGV[5]
if has_spend == '1' and call('EXISTS', GENERATION) == 0 then return {2, ''} end
local text = call('HGET', HOLDS, id)
local record = text and record_of(text) or nil
if record and record.status == 'settled' then return {1, record.answer} end

if not record and ARGV[3] == '' then return {3, ''} end

local demands = demands_of(record and record.demands or ARGV[3])
if load_windows(demands.spends, now, true) then return close_partition() end

local whole_text = not record and part_of ~= '' and call('HGET', HOLDS, part_of)
local whole = whole_text and record_of(whole_text)
if whole and whole.status == 'held' then   -- what that leaves is its own hold
  -- made here: saved_holds
  local taken = min(cost, whole.hold)
  whole.hold = whole.hold - taken
  whole.cost = min(whole.cost, whole.hold)
  save_record(part_of, whole, event_of(whole))
  record = {hold = taken, cost = 0, prompt = 0, completion = 0, rest = {}, demands = ARGV[3]}
end
local late, unheld = record ~= nil and record.status == 'expired', record == nil
record = record or {hold = 0, cost = 0, prompt = 0, completion = 0, rest = {}}
local before = late and record or {cost = 0, prompt = 0, completion = 0}   -- what already counts

settle_rates(demands, record.rest, before.prompt + before.completion - prompt - completion, now)

local warnings, expired_at = {}, late and record.at or nil
for i = 1, #demands.spends do
  local window = demands.spends[i]
  if not late then unhold(window, record.hold) end
  post(demands.org, window, cost - before.cost, now, expired_at or now)
  if crossed(window) > window.warned then
    -- made here: notices
    for _, permille in ipairs(announce_crossed(demands.org, window, now)) do
      warnings[#warnings + 1] = i
      warnings[#warnings + 1] = permille
    end
  end
end

local over = unheld and 0 or max(0, cost - record.hold)
local flags = {}
if over > 0 then flags[#flags + 1] = 'overrun' end
if late then flags[#flags + 1] = 'late' end
if unheld then flags[#flags + 1] = 'unheld' end
local kind = late and 'late' or unheld and 'unheld' or release == '1' and 'released' or 'settled'
append_event(id, kind, ARGV[4], now, cost, cost - before.cost, prompt, completion, table.concat(flags, ','), expired_at)

local answer = format('[%d,%d,%d,%d', now, over, late and 1 or 0, unheld and 1 or 0)
for _, word in ipairs(warnings) do answer = answer .. ',' .. word end
answer = answer .. ']'
call('HSET', HOLDS, id, 'settled\n' .. answer)
local is_new = unheld or part_of ~= ''
schedule(is_new and demands.org or nil, id, now + (late and memory_ms or ended_ms))
if is_new then
  keep(HOLDS, DUE)
end
return {0, answer}
