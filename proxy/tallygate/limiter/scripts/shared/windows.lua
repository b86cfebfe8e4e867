-- windows.lua: spend windows as they are read: rolling ones in buckets of 5 minutes, and calendar months.
-- needs: base, keys, demands

local BUCKET_MS = 300000
local AHEAD_PART_MS = BUCKET_MS / 10  -- for each bucket of its window a rolling one may be ahead of the clock, AHEAD_MS at most

-- Reads every window of the demands and moves it to `now`, with a call for each: there is one as a rule, and a list of fields costs as
-- much. Whether one of them has been moved by a clock that was ahead, and put right since: who decides about spend then closes the
-- partition.
local function load_windows(spends, now, write)
  local is_ahead = false
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
        elseif window.at * BUCKET_MS - now > min(AHEAD_MS, window.buckets * AHEAD_PART_MS) then
          is_ahead = true
        end
      end
    else
      -- made here: months
      window.id, window.starts, window.ends = stored[5], (stored[6] or 0) + 0, (stored[7] or 0) + 0
      turn_page(window, now, write)
      is_ahead = is_ahead or now < window.starts and not window.is_new
    end
  end
  return is_ahead
end
