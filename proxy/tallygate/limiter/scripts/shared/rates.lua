-- rates.lua: limits on rates: token buckets of requests and of model tokens, and counts of open requests.
-- needs: base, keys, demands

local OTHERS_MS = 1000  -- only open reservations stand in the way: when one ends is unknown, but soon

-- The level at `now` and the time it stands for; a bucket never seen is full. One that is ahead by more than its window goes on
-- from now, which `write` writes at once: else it would stay ahead for as long as it refuses.
local function refilled(rate, now, level, at, write)
  if not level then return rate.full, now end
  level, at = tonumber(level), tonumber(at)
  level = max(min(level, rate.full), rate.full - NUMBER_MAX)
  if at - now > rate.window then
    at = now
    if write then call('HSET', RATES, rate.key .. '|t', int(at)) end
  end
  if now <= at then return level, at end
  if now - at >= ceil((rate.full - level) / rate.refill) then return rate.full, now end
  return level + (now - at) * rate.refill, now
end

-- Units that open reservations hold of a bucket, and that come back as far as they are not used: "<level> <units>". Whoever writes a
-- level without them, as workers of a former version do, makes them void: rather too few than some that stay for ever.
local function held_of(level, text)
  if not level or not text or string.sub(text, 1, #level + 1) ~= level .. ' ' then return 0 end
  return tonumber(string.sub(text, #level + 2))
end

local function put_bucket(fields, rate)
  local n, level = #fields, int(rate.level)
  fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = rate.key .. '|l', level, rate.key .. '|t', int(rate.at)
  if rate.kind == UNTIL_KNOWN then fields[n + 5], fields[n + 6] = rate.key .. '|h', format('%s %d', level, rate.held) end
end

-- Of a bucket that is written for the first time: when to look whether it has become idle.
local function watch_bucket(org, rate)
  schedule(org, 'b|' .. int(rate.refill) .. '|' .. int(rate.full) .. '|' .. rate.key, rate.at + DAY_MS)
end

-- Gives back `units` (below zero: takes) of a token bucket, of which `ended` are held no longer: the estimate is replaced by the actual.
local function correct_bucket(org, rate, units, ended, now)
  if units == 0 and ended == 0 then return end
  local stored = call('HMGET', RATES, rate.key .. '|l', rate.key .. '|t', rate.key .. '|h')
  rate.held = max(0, held_of(stored[1], stored[3]) - ended)
  rate.level, rate.at = refilled(rate, now, stored[1], stored[2], true)
  rate.level = max(min(rate.level + units * rate.window, rate.full), rate.full - NUMBER_MAX)
  local fields = {}
  put_bucket(fields, rate)
  call('HSET', RATES, unpack(fields))
  if not stored[1] then
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
  for _, rate in ipairs(rates) do
    local n = #fields
    rate.place = n
    if rate.kind == WHILE_OPEN then
      fields[n + 1] = rate.key .. '|n'
    else
      fields[n + 1], fields[n + 2] = rate.key .. '|l', rate.key .. '|t'
      if rate.kind == UNTIL_KNOWN then fields[n + 3] = rate.key .. '|h' end
    end
  end
  local stored = call('HMGET', RATES, unpack(fields))
  for _, rate in ipairs(rates) do
    local n, units = rate.place, min(rate.units, rate.capacity)
    if rate.kind == WHILE_OPEN then
      rate.count = tonumber(stored[n + 1] or 0)
      rate.fits = rate.count + units <= rate.capacity
      rate.taken, rate.wait, rate.others = units, rate.fits and 0 or OTHERS_MS, true
    else
      rate.is_new = not stored[n + 1]
      rate.held = rate.kind == UNTIL_KNOWN and held_of(stored[n + 1], stored[n + 3]) or 0
      rate.level, rate.at = refilled(rate, now, stored[n + 1], stored[n + 2], write)
      rate.fits = units == 0 or rate.level >= units * rate.window
      rate.taken = rate.fits and units or max(0, floor(rate.level / rate.window))
      rate.wait = rate.fits and 0 or ceil((units * rate.window - rate.level) / rate.refill) + rate.at - now
      rate.others = rate.wait > OTHERS_MS and rate.level + rate.held * rate.window >= units * rate.window
      if rate.others then rate.wait = OTHERS_MS end
    end
  end
end

local function take_rates(org, rates)
  local fields = {}
  for _, rate in ipairs(rates) do
    if rate.taken > 0 then
      if rate.kind == WHILE_OPEN then
        rate.count = call('HINCRBY', RATES, rate.key .. '|n', rate.taken)
      else
        rate.level, rate.held = rate.level - rate.taken * rate.window, rate.held + rate.taken
        put_bucket(fields, rate)
        if rate.is_new then watch_bucket(org, rate) end
      end
    end
  end
  if #fields > 0 then call('HSET', RATES, unpack(fields)) end
  if #rates > 0 then keep(RATES) end
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
