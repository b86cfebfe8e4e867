-- postings.lua: what becomes spend, and what is held no longer, of windows that are loaded.
-- needs: base, keys, demands, windows, spend

-- Adds to a window, or below zero takes back, as of `time`; what is of a bucket that has left or of a month that is over counts no
-- more. Re-arms the thresholds that spend had fallen below before this.
local function post(org, window, amount, now, time)
  if window.is_new then
    -- made here: first_use
    open_window(org, window, now)
  end
  local armed = window.warned > 0 and crossed(window) or 0
  if armed < window.warned then
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
    if call('HINCRBY', SPEND, field, amount) == 0 then call('HDEL', SPEND, field) end
  else
    if time < window.starts then return end
    amount = max(amount, -window.spent)
    if amount == 0 then return end
  end
  window.spent = window.spent + amount
  call('HINCRBY', SPEND, window.key .. '|spent', amount)
end

local function unhold(window, amount)
  if amount == 0 then return end
  window.held = call('HINCRBY', SPEND, window.key .. '|held', -amount)
  if window.held < 0 then
    window.held = 0
    call('HSET', SPEND, window.key .. '|held', 0)
  end
end
