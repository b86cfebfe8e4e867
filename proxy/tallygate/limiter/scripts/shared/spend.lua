-- spend.lua: windows that are loaded: their first use, and their thresholds.
-- needs: base, keys, demands, windows

-- Writes a window that is used for the first time, and when to look whether it has become idle.
local function open_window(org, window, now)
  if not window.is_new then return end
  window.is_new = false
  if window.kind == ROLLING then
    call('HSET', SPEND, window.key .. '|at', int(window.at))
    schedule(org, 'w|' .. int(window.buckets) .. '|' .. window.key, now + window.buckets * BUCKET_MS)
  else
    call('HSET', SPEND, window.key .. '|id', window.id, window.key .. '|start', int(window.starts), window.key .. '|end', int(window.ends))
    schedule(org, 'w|0|' .. window.key, max(window.ends, now + DAY_MS))
  end
  keep(SPEND)
end

-- The highest threshold at or below the spend, in thousandths of the limit; they ascend.
local function crossed(window)
  local reached = 0
  for permille, amount in string.gmatch(window.thresholds, '(%d+):(%d+)') do
    if window.spent < amount + 0 then break end
    reached = permille + 0
  end
  return reached
end
