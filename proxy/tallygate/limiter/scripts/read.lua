-- read.lua: limits of organizations as they stand now: rates, and spend, holds and pause of windows; changes nothing.
-- needs: base, keys, demands, admission, windows, resume, pauses
--
-- KEYS     those of keys.lua, of each organization
-- ARGV     2 and on: demands of each; a rate's units are those whose wait is asked for
-- Returns  of each: [now, 1 if the partition is open, so that spend is known, else 0, `rates_words`, [of each spend [spent, held, paused
--          until in ms or 0: the later of its mark's resume instant and, at or above the limit, the instant at which spend falls below it] ...]]


local function states(demands)
  local loaded = load_rates(demands, now, false)
  load_windows(demands.spends, now, false)
  local words = {}
  for i, window in ipairs(demands.spends) do
    local paused = window.mark and mark_of(window.mark).resume or 0
    if paused <= now then paused = 0 end
    if window.spent >= window.limit and window.limit > 0 then
      paused = max(paused, resume_at(window, window.spent + 1 - window.limit, now, false))
    end
    words[i] = format('[%d,%d,%d]', window.spent, window.held, paused)
  end
  return format('[%d,%d,%s,[%s]]', now, call('EXISTS', GENERATION), rates_words(demands, loaded, now), table.concat(words, ','))
end

local answers, each = {}, #KEYS / (#ARGV - 1)
for i = 1, #ARGV - 1 do
  GENERATION, EVENTS, ORGS, RATES, HOLDS, DUE, SPEND = unpack(KEYS, (i - 1) * each + 1, i * each)
  answers[i] = states(demands_of(ARGV[i + 1]))
end
return answers
