-- notices.lua: notices of windows for the ledger, which passes them on.
-- needs: base, keys, spend

-- Announces what became of a window, in an entry that is no usage event. `name` sets it apart from others of its time.
local function append_notice(org, window, type, name, before, after, now)
  local event = format('{"type":"%s","org":"%s","limit":%s%s,"spent_nano_usd":%d,"held_nano_usd":%d,"limit_nano_usd":%d%s,"at_ms":%d}',
    type, org, cjson.encode(window.key), before, window.spent, window.held, window.limit, after, now)
  call('XADD', EVENTS, '*', 'event_id', format('ntc-%s-%s-%s-%d', org, window.key, name, now), 'kind', 'notice', 'event', event,
    'settled_at_ms', int(now))
end

-- Announces each threshold that spend has risen to since the last time; returns them in thousandths, or nil if there is none.
local function announce_crossed(org, window, now)
  local reached = crossed(window)
  if reached <= window.warned then return nil end
  local announced = {}
  for word in string.gmatch(window.thresholds, '(%d+):') do
    local permille = tonumber(word)
    if permille > window.warned and permille <= reached then
      announced[#announced + 1] = permille
      append_notice(org, window, 'spend.warning', format('spend.warning.%d', permille), format(',"threshold_permille":%d', permille), '', now)
    end
  end
  window.warned = reached
  call('HSET', SPEND, window.key .. '|warned', reached)
  return announced
end
