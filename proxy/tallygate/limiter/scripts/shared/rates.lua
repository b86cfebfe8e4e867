-- rates.lua: limits on rates: token buckets of requests and of model tokens, and counts of open requests.
-- needs: base, keys

local OTHERS_MS = 1000  -- only open reservations stand in the way: when one ends is unknown, but soon

-- A bucket as it is kept: level, the time it stands for, units that open reservations hold of it.
local BUCKET, BUCKET_WORDS = '^(-?%d+) (%d+) (%d+)$', '%d %d %d'

-- Level, time, held units and whether it is new of a bucket, from its text, moved to `now`. One that is ahead by more than its window goes
-- on from now, which `write` writes at once: else it would stay ahead for as long as it refuses.
local function load_bucket(text, key, full, refill, window, now, write)
  if not text then
    -- One that only a former version of the scripts has written, in fields of level, time and units. Gateways of that version go on with
    -- theirs, beside ours, until they are replaced, and end there what they hold: units that were taken over would stay for ever.
    local former = call('HMGET', RATES, key .. '|l', key .. '|t')
    if not former[1] then return full, now, 0, true end
    text = format('%s %s 0', former[1], former[2])
  end
  local level, at, held = string.match(text, BUCKET)
  level, at, held = level + 0, at + 0, held + 0
  if level > full then level = full elseif level < full - NUMBER_MAX then level = full - NUMBER_MAX end
  if at - now > window then
    at = now
    if write then call('HSET', RATES, key, format(BUCKET_WORDS, level, at, held)) end
  end
  if now > at then
    local idle_ms = now - at
    at = now
    if idle_ms >= (full - level) / refill then level = full else level = level + idle_ms * refill end
  end
  return level, at, held, false
end
