-- first_use.lua: buckets and windows that are used for the first time.
-- needs: base, keys, demands, windows

-- When to look whether a bucket has become idle.
local function watch_bucket(org, key, full, refill, at)
  schedule(org, format('b|%d|%d|%s', refill, full, key), at + DAY_MS)
end

-- Writes a window, and when to look whether it has become idle.
local function open_window(org, window, now)
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
