-- windows.lua: spend windows as they are read: rolling ones in buckets of 5 minutes, and calendar months.
-- needs: base, keys, demands

local BUCKET_MS = 300000
local AHEAD_PART_MS = BUCKET_MS / 10  -- for each bucket of its window a rolling one may be ahead of the clock, AHEAD_MS at most

-- Reads every window of the demands and moves it to `now`. A call for each: there is one as a rule, and a list of fields costs as much.
local function load_windows(spends, now, write)
  for i = 1, #spends do
    local window = spends[i]
    local key, stored = window.key, nil
    if window.kind == ROLLING then
      stored = call('HMGET', SPEND, key .. '|spent', key .. '|held', key .. '|warned', key .. '|mark', key .. '|at')
    else
      stored = call('HMGET', SPEND, key .. '|spent', key .. '|held', key .. '|warned', key .. '|mark', key .. '|id', key .. '|start',
        key .. '|end')
    end
    window.spent, window.held, window.warned = (stored[1] or 0) + 0, (stored[2] or 0) + 0, (stored[3] or 0) + 0
    window.mark = stored[4]
    if window.kind == ROLLING then
      local index = floor(now / BUCKET_MS)
      if not stored[5] then
        window.at, window.is_new = index, true
      else
        window.at = stored[5] + 0
        if index > window.at then
          -- made here: rolling
          roll(window, index, write)
        end
      end
    else
      -- made here: months
      window.id, window.starts, window.ends = stored[5], (stored[6] or 0) + 0, (stored[7] or 0) + 0
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
  for i = 1, #spends do
    if is_ahead(spends[i], now) then
      call('DEL', GENERATION)
      return true
    end
  end
  return false
end
