-- admit.lua: take every demand of one request and hold its worst case, or change no limit.
-- needs: base, keys, demands, rates, admission, windows, saved_holds, housekeeping
--
-- ARGV     2 lease_ms, hold, least hold, floor cost, floor prompt tokens, floor completion tokens, memory_ms, backlog 1 | 0, has spend,
--             takes 1 | 0 only looks: whoever would be admitted takes and holds nothing, a refusal is as any other;
--             reservation: words
--          3 demands  4 event
-- Returns  {0, answer}, {1, answer} for a reservation that is held already, {2, ''} if the partition is closed (or is from now on,
--          since a window is ahead of the clock), {3, status} for one that has ended.
--          answer: [now, admitted, refusing demand from 1 | 0 none | -1 backlog, retry_after_ms, granted,
--          [demand in shadow from 1 that would refuse ...], `rates_words`, [of each spend [spent, held, limit, resume_at_ms] ...]]
-- A refused reservation leaves no trace: the same id is decided afresh. One of eight looks for what is due, by its id, since a clock may
-- tick in step with requests. Where something has too little room, holds whose lease is over are expired first, so that a dead worker's
-- hold refuses nobody, and it is decided once more if there were any. A refusal writes the mark of the windows that refuse, and may
-- announce it (`note_pause`).

local NEVER_MS = NUMBER_MAX
local PAUSE_FORGOTTEN_MS = 300000  -- after the last refusal, any admission ends a pause
local TIDIES_ONE_OF = 8  -- admissions, by the last character of their ids: of hexadecimal ones 0 and 8
local COLLECT_MAX = 32  -- entries then: each admission leaves at most one behind, so this keeps up

local function answer_of(now, admitted, refusing, wait, granted, shadowed, demands, loaded)
  local words = format('[%d,%s,%d,%d,%d,[%s],%s,[', now, admitted and 'true' or 'false', refusing, wait == NEVER_MS and 0 or wait, granted,
    string.sub(shadowed, 2), rates_words(demands, loaded, now))
  for i = 1, #demands.spends do
    local window = demands.spends[i]
    words = words .. format(i == 1 and '[%d,%d,%d,%d]' or ',[%d,%d,%d,%d]', window.spent, window.held, window.limit, window.resume)
  end
  return words .. ']]'
end

local lease_ms, hold, least, floor_cost, floor_prompt, floor_completion, memory_ms, is_full, has_spend, takes, id =
  string.match(ARGV[2], '^(%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d+) (%d) (%d) (%d) (.*)$')
hold, least, memory_ms = hold + 0, least + 0, memory_ms + 0
if has_spend == '1' and call('EXISTS', GENERATION) == 0 then return {2, ''} end
local known = call('HGET', HOLDS, id)
if known then
  -- made here: holds
  local record = record_of(known)
  if record.status == 'held' and record.answer ~= '' then return {1, record.answer} end
  return {3, record.answer == '' and record.status == 'held' and 'deferred' or record.status}
end
local demands = demands_of(ARGV[3])
local org, is_tidy = demands.org, string.byte(id, -1) % TIDIES_ONE_OF == 0
if is_tidy then collect(org, now, COLLECT_MAX, memory_ms) end

local list, spends, loaded, refusing, wait, granted, shadowed
repeat
  list, spends, refusing, wait, granted, shadowed = demands.list, demands.spends, 0, 0, hold, ''
  if load_windows(spends, now, true) then return close_partition() end
  loaded = load_rates(demands, now, true)

  local is_short = false
  for i = 1, list[2] do
    local rate_wait, shadow = loaded[i * WORDS - 2], list[i * WORDS + 2]
    if rate_wait > 0 then
      is_short = true
      if shadow == 1 then shadowed = shadowed .. ',' .. i elseif rate_wait > wait then refusing, wait = i, rate_wait end
    end
  end
  for i = 1, #spends do
    local window = spends[i]
    local left = window.limit - window.spent - window.held
    window.fits = least <= left
    if not window.fits then
      -- made here: resume
      local alone = window.spent + least - window.limit
      window.resume = -1
      if least > window.limit then
        window.wait = NEVER_MS
      else
        if alone > 0 then window.resume = resume_at(window, min(alone + window.held, window.spent), now, true) end
        window.wait = window.resume > 0 and window.resume - now or OTHERS_MS
      end
      if window.shadow then
        shadowed = shadowed .. ',' .. list[2] + i
      elseif window.wait > wait then
        refusing, wait = list[2] + i, window.wait
      end
    end
    if left < hold then
      is_short = true
      if left < granted and not window.shadow then granted = left end
    end
  end

  local changed = 0
  if is_short and not is_tidy then
    is_tidy = true
    changed = select(3, collect(org, now, COLLECT_MAX, memory_ms))
    if changed > 0 then demands = demands_of(ARGV[3]) end
  end
until changed == 0
if is_full == '1' then refusing, wait = -1, OTHERS_MS end

if refusing ~= 0 then
  if refusing > 0 then
    -- made here: pauses
    for i = 1, #spends do
      if not spends[i].shadow and spends[i].resume > 0 then note_pause(org, spends[i], least, now) end
    end
  end
  return {0, answer_of(now, false, refusing, wait, 0, shadowed, demands, loaded)}
end

if takes == '0' then return {0, answer_of(now, true, 0, 0, 0, shadowed, demands, loaded)} end

take_rates(demands, loaded)
for i = 1, #spends do
  local window = spends[i]
  if window.is_new then
    -- made here: first_use
    open_window(org, window, now)
  end
  if granted > 0 then window.held = call('HINCRBY', SPEND, window.key .. '|held', granted) end
  if window.mark then
    -- made here: pauses
    local mark = mark_of(window.mark)
    if granted >= mark.least or now - mark.refused_at >= PAUSE_FORGOTTEN_MS then end_pause(org, window, mark, now) end
  end
end
local answer = answer_of(now, true, 0, 0, granted, shadowed, demands, loaded)
local taken = {}
for i = 1, list[2] do taken[i] = loaded[i * WORDS - 3] end
save_record(id, {status = 'held', hold = granted, cost = min(floor_cost + 0, granted), prompt = floor_prompt,
  completion = floor_completion, at = now + lease_ms, rest = taken, answer = answer, demands = ARGV[3]}, ARGV[4])
schedule(org, id, now + lease_ms)
keep(HOLDS, DUE)
return {0, answer}
