-- spend.lua: what is held and spent in windows that are loaded.
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
    if window.spent < tonumber(amount) then break end
    reached = tonumber(permille)
  end
  return reached
end

-- Adds to a window, or below zero takes back, as of `time`; what is of a bucket that has left or of a month that is over counts no
-- more. Re-arms the thresholds that spend had fallen below before this.
local function post(org, window, amount, now, time)
  open_window(org, window, now)
  local armed = min(window.warned, crossed(window))
  if armed ~= window.warned then
    window.warned = armed
    call('HSET', SPEND, window.key .. '|warned', armed)
  end
  if amount == 0 then return end
  if window.kind == ROLLING then
    local index = min(floor(time / BUCKET_MS), window.at)
    if index <= window.at - window.buckets then return end
    local field = window.key .. '|' .. int(index)
    if amount < 0 then amount = max(amount, -tonumber(call('HGET', SPEND, field) or 0)) end
    if index < window.at then call('HDEL', SPEND, window.key .. '|walk') end
    if amount == 0 then return end
    if call('HINCRBY', SPEND, field, int(amount)) == 0 then call('HDEL', SPEND, field) end
  else
    if time < window.starts then return end
    amount = max(amount, -window.spent)
    if amount == 0 then return end
  end
  window.spent = window.spent + amount
  call('HINCRBY', SPEND, window.key .. '|spent', int(amount))
end

local function unhold(window, amount)
  if amount == 0 then return end
  window.held = call('HINCRBY', SPEND, window.key .. '|held', int(-amount))
  if window.held < 0 then
    window.held = 0
    call('HSET', SPEND, window.key .. '|held', 0)
  end
end
