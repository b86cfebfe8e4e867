-- windows.lua: spend windows as they are read: rolling ones in buckets of 5 minutes, and calendar months.
-- needs: base, keys, demands

local BUCKET_MS = 300000
local AHEAD_PART_MS = BUCKET_MS / 10  -- for each bucket of its window a rolling one may be ahead of the clock, AHEAD_MS at most

-- The period that holds `now`; outside all of them, the nearest.
local function period_at(periods, now)
  local id, starts, ends
  for name, first, last in string.gmatch(periods, '([^:,]+):(%d+):(%d+)') do
    id, starts, ends = name, tonumber(first), tonumber(last)
    if now < ends then break end
  end
  return id, starts, ends
end

-- Moves a rolling window to `now`: buckets at or below the cutoff leave. Walks only what lies between the old cutoff and the new,
-- at most one window's worth of buckets.
local function roll(window, now, write)
  local index = floor(now / BUCKET_MS)
  if not window.at then
    window.at, window.is_new = index, true
    return
  end
  if index <= window.at then return end
  local first, last = window.at - window.buckets + 1, min(index - window.buckets, window.at)
  local gone = 0
  while first <= last do
    local stop = min(last, first + 255)
    local fields = {}
    for i = first, stop do fields[i - first + 1] = format('%s|%d', window.key, i) end
    local found = {}
    for i, amount in ipairs(call('HMGET', SPEND, unpack(fields))) do
      if amount then
        gone = gone + tonumber(amount)
        found[#found + 1] = fields[i]
      end
    end
    if write and #found > 0 then call('HDEL', SPEND, unpack(found)) end
    first = stop + 1
  end
  window.spent, window.at = window.spent - gone, index
  if write then
    if gone > 0 then call('HINCRBY', SPEND, window.key .. '|spent', int(-gone)) end
    call('HSET', SPEND, window.key .. '|at', int(index))
  end
end

-- Moves a calendar month to `now`: a later period starts at nothing, if it has begun, and no earlier than the known one has ended. It
-- may do neither where a gateway's calendar is ahead, or the time zone has changed: until the ledger has rebuilt the window, all of
-- the known period counts.
local function turn_page(window, now, write)
  local id, starts, ends = period_at(window.periods, now)
  if not window.id then
    window.id, window.starts, window.ends, window.is_new = id, starts, ends, true
  elseif window.id ~= id and starts >= window.ends and starts <= now then
    window.id, window.starts, window.ends, window.spent = id, starts, ends, 0
    if write then
      call('HSET', SPEND, window.key .. '|id', window.id, window.key .. '|start', int(window.starts), window.key .. '|end', int(window.ends),
        window.key .. '|spent', 0)
      call('HDEL', SPEND, window.key .. '|idle')
    end
  end
end

-- Reads every window of the demands in one call and moves it to `now`.
local function load_windows(spends, now, write)
  if #spends == 0 then return end
  local fields = {}
  for _, window in ipairs(spends) do
    local key = window.key
    local n = #fields
    window.place = n
    fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = key .. '|spent', key .. '|held', key .. '|warned', key .. '|mark'
    if window.kind == ROLLING then
      fields[n + 5] = key .. '|at'
    else
      fields[n + 5], fields[n + 6], fields[n + 7] = key .. '|id', key .. '|start', key .. '|end'
    end
  end
  local stored = call('HMGET', SPEND, unpack(fields))
  for _, window in ipairs(spends) do
    local n = window.place
    window.spent, window.held = tonumber(stored[n + 1] or 0), tonumber(stored[n + 2] or 0)
    window.warned, window.mark = tonumber(stored[n + 3] or 0), stored[n + 4]
    if window.kind == ROLLING then
      window.at = stored[n + 5] and tonumber(stored[n + 5])
      roll(window, now, write)
    else
      window.id, window.starts, window.ends = stored[n + 5], tonumber(stored[n + 6] or 0), tonumber(stored[n + 7] or 0)
      turn_page(window, now, write)
    end
  end
end

-- Whether a window has been moved by a clock that was ahead, and put right since.
local function is_ahead(window, now)
  if window.kind == ROLLING then return window.at * BUCKET_MS - now > min(AHEAD_MS, window.buckets * AHEAD_PART_MS) end
  return now < window.starts and not window.is_new
end

-- Closes the partition for spending if one of these windows is ahead; whether it did.
local function close_if_ahead(spends, now)
  for _, window in ipairs(spends) do
    if is_ahead(window, now) then
      call('DEL', GENERATION)
      return true
    end
  end
  return false
end
