-- months.lua: the calendar months of a spend window.
-- needs: base, keys

-- The period that holds `now`; outside all of them, the nearest.
local function period_at(periods, now)
  local id, starts, ends
  for name, first, last in string.gmatch(periods, '([^:,]+):(%d+):(%d+)') do
    id, starts, ends = name, tonumber(first), tonumber(last)
    if now < ends then break end
  end
  return id, starts, ends
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
