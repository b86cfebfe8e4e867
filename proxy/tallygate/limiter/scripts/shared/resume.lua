-- resume.lua: when a window that has no room will have some again.
-- needs: base, keys, demands, windows

local WALK_NOTED = 64  -- buckets that a refusal walks through before it is worth a note

-- Amounts of a rolling window's buckets `first` to `last`, as HMGET gives them.
local function amounts_of(window, first, last)
  local fields = {}
  for i = first, last do fields[i - first + 1] = format('%s|%d', window.key, i) end
  return call('HMGET', SPEND, unpack(fields))
end

-- The first bucket with which `need` has left, given that all up to `last` come to `sum`, which is enough; and the sum up to it.
local function walk_back(window, need, last, sum)
  local step, oldest = 32, window.at - window.buckets + 1
  while last >= oldest do
    local first = max(oldest, last - step + 1)
    local amounts = amounts_of(window, first, last)
    for i = last, first, -1 do
      local before = sum - tonumber(amounts[i - first + 1] or 0)
      if before < need then return i, sum end
      sum = before
    end
    last, step = first - 1, 256
  end
end

-- The same, given that all before `first` come to `sum`, which is not enough; nil if the whole window is not.
local function walk_on(window, need, first, sum)
  local step = 32
  while first <= window.at do
    local last = min(window.at, first + step - 1)
    for i, amount in ipairs(amounts_of(window, first, last)) do
      if amount then
        sum = sum + tonumber(amount)
        if sum >= need then return first + i - 1, sum end
      end
    end
    first, step = last + 1, 256
  end
end

-- The instant at which `need` of what is spent has left the window, to the bucket; -1 if all of it is not enough, or if the
-- period's end is past and the next one unknown. A long walk is noted for the next refusal: `|walk` is "<newest bucket> <how many>
-- <bucket> <sum up to it>". It holds while the first two do, since spend is added to the newest bucket as a rule, and a note is of
-- an older one; who changes another bucket drops it.
local function resume_at(window, need, now, write)
  if need > window.spent then return -1 end
  if window.kind ~= ROLLING then return window.ends > now and window.ends or -1 end
  local start, sum = window.at - window.buckets + 1, 0
  local note = call('HGET', SPEND, window.key .. '|walk')
  if note then
    local newest, buckets, noted, noted_sum = string.match(note, '^(%d+) (%d+) (%d+) (%d+)$')
    if tonumber(newest) == window.at and tonumber(buckets) == window.buckets then start, sum = tonumber(noted) + 1, tonumber(noted_sum) end
  end
  local found
  if sum >= need then
    found, sum = walk_back(window, need, start - 1, sum)
  else
    found, sum = walk_on(window, need, start, sum)
  end
  if not found then return -1 end
  if write and found < window.at and max(found - start, start - found) > WALK_NOTED then
    call('HSET', SPEND, window.key .. '|walk', format('%d %d %d %d', window.at, window.buckets, found, sum))
  end
  return (found + window.buckets) * BUCKET_MS
end
