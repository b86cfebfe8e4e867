-- admit.lua: take every demand of one request and hold its worst case, or change no limit.
-- needs: base, keys, demands, rates, windows, spend, resume, pauses, holds, housekeeping
--
-- ARGV     2 lease_ms, hold, least hold, floor cost, floor prompt tokens, floor completion tokens, stream_max, memory_ms, has spend,
--             takes 1 | 0 only looks: whoever would be admitted takes and holds nothing, a refusal is as any other;
--             reservation: words
--          3 demands  4 event
-- Returns  {0, answer}, {1, answer} for a reservation that is held already, {2, ''} if the partition is closed (or is from now on,
--          since a window is ahead of the clock), {3, status} for one that has ended.
--          answer: [now, admitted, refusing demand from 1 | 0 none | -1 backlog, retry_after_ms, granted,
--          of each rate: remaining, reset_ms, retry_after_ms, refuses (2: only what others hold stands in the way); of each spend: spent, held, resume_at_ms, warned, refuses]
-- A refused reservation leaves no trace: the same id is decided afresh. First it expires holds whose lease is over, so that a
-- dead worker's hold refuses nobody. A refusal writes the mark of the windows that refuse, and may announce it (`note_pause`).

local NEVER_MS = NUMBER_MAX
local PAUSE_FORGOTTEN_MS = 300000  -- after the last refusal, any admission ends a pause
local COLLECT_MAX = 8  -- per admission: each leaves at most one entry behind, so this keeps up

local function spend_states(spends, now, least)
  for _, window in ipairs(spends) do
    window.fits = least <= window.limit - window.spent - window.held
    window.resume, window.wait = 0, 0
    if not window.fits then
      local alone = window.spent + least - window.limit
      window.resume = -1
      if least > window.limit then
        window.wait = NEVER_MS
      else
        if alone > 0 then window.resume = resume_at(window, min(alone + window.held, window.spent), now, true) end
        window.wait = window.resume > 0 and window.resume - now or OTHERS_MS
      end
    end
  end
end

local function hold_spends(org, spends, granted, now)
  for _, window in ipairs(spends) do
    open_window(org, window, now)
    if granted > 0 then window.held = call('HINCRBY', SPEND, window.key .. '|held', int(granted)) end
    if window.mark then
      local mark = mark_of(window.mark)
      if granted >= mark.least or now - mark.refused_at >= PAUSE_FORGOTTEN_MS then end_pause(org, window, mark, now) end
    end
  end
end

local function answer_of(now, admitted, refusing, wait, granted, demands)
  local words = {format('%d,%d,%d,%d,%d', now, admitted and 1 or 0, refusing, wait == NEVER_MS and 0 or wait, granted)}
  for _, rate in ipairs(demands.rates) do words[#words + 1] = rate_words(rate, now) end
  for _, window in ipairs(demands.spends) do
    words[#words + 1] = format('%d,%d,%d,%d,%d', window.spent, window.held, window.resume, crossed(window), window.fits and 0 or 1)
  end
  return '[' .. table.concat(words, ',') .. ']'
end

local lease_ms, hold, least, floor_cost, floor_prompt, floor_completion, stream_max, memory_ms, has_spend, takes, id =
  string.match(ARGV[2], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%d) (.*)$')
lease_ms, hold, least, stream_max, memory_ms = tonumber(lease_ms), tonumber(hold), tonumber(least), tonumber(stream_max), tonumber(memory_ms)
local now = server_now()
if has_spend == '1' and call('EXISTS', GENERATION) == 0 then return {2, ''} end
local known = call('HGET', HOLDS, id)
if known then
  local record = record_of(known)
  if record.status == 'held' and record.answer ~= '' then return {1, record.answer} end
  return {3, record.answer == '' and record.status == 'held' and 'deferred' or record.status}
end
local demands = demands_of(ARGV[3])
collect(demands.org, now, COLLECT_MAX, memory_ms)

load_windows(demands.spends, now, true)
if close_if_ahead(demands.spends, now) then return {2, ''} end
load_rates(demands.rates, now, true)
spend_states(demands.spends, now, least)

local refusing, wait, index, granted = 0, 0, 0, hold
for _, list in ipairs({demands.rates, demands.spends}) do
  for _, demand in ipairs(list) do
    index = index + 1
    if not demand.fits and not demand.shadow and demand.wait > wait then refusing, wait = index, demand.wait end
  end
end
for _, window in ipairs(demands.spends) do
  if not window.shadow then granted = min(granted, window.limit - window.spent - window.held) end
end
if call('XLEN', EVENTS) >= stream_max then refusing, wait = -1, OTHERS_MS end

if refusing ~= 0 then
  if refusing > 0 then
    for _, window in ipairs(demands.spends) do
      if not window.shadow and window.resume > 0 then note_pause(demands.org, window, least, now) end
    end
  end
  return {0, answer_of(now, false, refusing, wait, 0, demands)}
end

if takes == '0' then return {0, answer_of(now, true, 0, 0, 0, demands)} end

take_rates(demands.org, demands.rates)
hold_spends(demands.org, demands.spends, granted, now)
local answer = answer_of(now, true, 0, 0, granted, demands)
local taken = {}
for i, rate in ipairs(demands.rates) do taken[i] = int(rate.taken) end
save_record(id, {status = 'held', hold = granted, cost = min(tonumber(floor_cost), granted), prompt = floor_prompt,
  completion = floor_completion, at = now + lease_ms, rest = taken, answer = answer, demands = ARGV[3], event = ARGV[4]})
schedule(demands.org, id, now + lease_ms)
keep(HOLDS)
keep(DUE)
return {0, answer}
