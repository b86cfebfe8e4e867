-- rates.lua: limits on rates: token buckets of requests and of model tokens, and counts of open requests.
-- needs: base, keys, demands

local OTHERS_MS = 1000  -- only open reservations stand in the way: when one ends is unknown, but soon

local BUCKET = '^(-?%d+) (%d+) (%d+)$'  -- as it is kept: level, the time it stands for, units that open reservations hold of it

local function bucket_text(rate) return format('%d %d %d', rate.level, rate.at, rate.held) end

-- The text of a bucket that only a former version of the scripts has written, in fields of level, time and units; nil if there is none.
-- Gateways of that version go on with theirs, beside ours, until they are replaced, and end there what they hold: units that were taken
-- over would stay for ever.
local function former_bucket(key)
  local stored = call('HMGET', RATES, key .. '|l', key .. '|t')
  return stored[1] and format('%s %s 0', stored[1], stored[2]) or nil
end

-- Moves a bucket to `now`. One that is ahead by more than its window goes on from now, which `write` writes at once: else it would
-- stay ahead for as long as it refuses.
local function refill(rate, now, write)
  rate.level = max(min(rate.level, rate.full), rate.full - NUMBER_MAX)
  if rate.at - now > rate.window then
    rate.at = now
    if write then call('HSET', RATES, rate.key, bucket_text(rate)) end
  end
  if now <= rate.at then return end
  local idle_ms = now - rate.at
  rate.at = now
  rate.level = idle_ms >= ceil((rate.full - rate.level) / rate.refill) and rate.full or rate.level + idle_ms * rate.refill
end

-- Reads a bucket from its text, and moves it to `now`.
local function load_bucket(rate, text, now, write)
  text = text or former_bucket(rate.key)
  rate.is_new = not text
  if rate.is_new then
    rate.level, rate.at, rate.held = rate.full, now, 0
  else
    local level, at, held = string.match(text, BUCKET)
    rate.level, rate.at, rate.held = tonumber(level), tonumber(at), tonumber(held)
    refill(rate, now, write)
  end
end

-- Of a bucket that is written for the first time: when to look whether it has become idle.
local function watch_bucket(org, rate)
  schedule(org, 'b|' .. int(rate.refill) .. '|' .. int(rate.full) .. '|' .. rate.key, rate.at + DAY_MS)
end

-- Gives back `units` (below zero: takes) of a token bucket, of which `ended` are held no longer: the estimate is replaced by the actual.
local function correct_bucket(org, rate, units, ended, now)
  if units == 0 and ended == 0 then return end
  load_bucket(rate, call('HGET', RATES, rate.key), now, true)
  rate.held = max(0, rate.held - ended)
  rate.level = max(min(rate.level + units * rate.window, rate.full), rate.full - NUMBER_MAX)
  call('HSET', RATES, rate.key, bucket_text(rate))
  if rate.is_new then
    watch_bucket(org, rate)
    keep(RATES)
  end
end

local function close_open_request(rate, units)
  if units == 0 then return end
  local field = rate.key .. '|n'
  if call('HINCRBY', RATES, field, -units) <= 0 then call('HDEL', RATES, field) end
end

-- Reads every rate of the demands in one call: what is left of it at `now`, whether the demand fits, and else how long it has to wait.
local function load_rates(rates, now, write)
  if #rates == 0 then return end
  local fields = {}
  for i, rate in ipairs(rates) do fields[i] = rate.kind == WHILE_OPEN and rate.key .. '|n' or rate.key end
  local stored = call('HMGET', RATES, unpack(fields))
  for i, rate in ipairs(rates) do
    local units = min(rate.units, rate.capacity)
    if rate.kind == WHILE_OPEN then
      rate.count = tonumber(stored[i] or 0)
      rate.fits = rate.count + units <= rate.capacity
      rate.taken, rate.wait, rate.others = units, rate.fits and 0 or OTHERS_MS, true
    else
      load_bucket(rate, stored[i], now, write)
      rate.fits = units == 0 or rate.level >= units * rate.window
      rate.taken = rate.fits and units or max(0, floor(rate.level / rate.window))
      rate.wait = rate.fits and 0 or ceil((units * rate.window - rate.level) / rate.refill) + rate.at - now
      rate.others = rate.wait > OTHERS_MS and rate.level + rate.held * rate.window >= units * rate.window
      if rate.others then rate.wait = OTHERS_MS end
    end
  end
end

local function take_rates(org, rates)
  local fields, is_new = {}, false
  for _, rate in ipairs(rates) do
    if rate.taken > 0 then
      if rate.kind == WHILE_OPEN then
        rate.count = call('HINCRBY', RATES, rate.key .. '|n', rate.taken)
        is_new = is_new or rate.count == rate.taken
      else
        rate.level = rate.level - rate.taken * rate.window
        if rate.kind == UNTIL_KNOWN then rate.held = rate.held + rate.taken end
        fields[#fields + 1], fields[#fields + 2] = rate.key, bucket_text(rate)
        if rate.is_new then watch_bucket(org, rate) end
        is_new = is_new or rate.is_new
      end
    end
  end
  if #fields > 0 then call('HSET', RATES, unpack(fields)) end
  if is_new then keep(RATES) end
end

-- Of a rate that was loaded, as it stands now: remaining, reset_ms, retry_after_ms, refuses (2: only what others hold stands in the way).
local function rate_words(rate, now)
  local left, reset_ms
  if rate.kind == WHILE_OPEN then
    left, reset_ms = max(0, rate.capacity - rate.count), 0
  else
    left = max(0, floor(rate.level / rate.window))
    reset_ms = rate.level >= rate.full and 0 or ceil((rate.full - rate.level) / rate.refill) + rate.at - now
  end
  return format('%d,%d,%d,%d', left, reset_ms, rate.wait, rate.fits and 0 or rate.others and 2 or 1)
end

-- Ends what an exchange took: its slots are free, requests stay taken, and of model tokens come back what was `taken` and `tokens`, which
-- is what counted already without what it came to.
local function settle_rates(org, rates, taken, tokens, now)
  for i, rate in ipairs(rates) do
    local units = tonumber(taken[i] or 0)
    if rate.kind == UNTIL_KNOWN then
      correct_bucket(org, rate, units + tokens, units, now)
    elseif rate.kind == WHILE_OPEN then
      close_open_request(rate, units)
    end
  end
end

-- Gives back all that was taken, as if there had been no admission.
local function return_rates(org, rates, taken, now)
  for i, rate in ipairs(rates) do
    local units = tonumber(taken[i])
    if rate.kind == WHILE_OPEN then close_open_request(rate, units) else correct_bucket(org, rate, units, units, now) end
  end
end
