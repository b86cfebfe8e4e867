-- endings.lua: what an exchange that ends gives back to its rates.
-- needs: base, keys, demands, rates

-- Gives back `units` (below zero: takes) of a token bucket, of which `ended` are held no longer: the estimate is replaced by the actual.
local function correct_bucket(org, units, ended, now, key, capacity, refill, window)
  if units == 0 and ended == 0 then return end
  local full = capacity * window
  local level, at, held, is_new = load_bucket(call('HGET', RATES, key), key, full, refill, window, now, true)
  level = max(min(level + units * window, full), full - NUMBER_MAX)
  call('HSET', RATES, key, format(BUCKET_WORDS, level, at, max(0, held - ended)))
  if is_new then
    -- made here: first_use
    watch_bucket(org, key, full, refill, at)
    keep(RATES)
  end
end

local function close_open_request(key, units)
  if units == 0 then return end
  local field = key .. '|n'
  if call('HINCRBY', RATES, field, -units) <= 0 then call('HDEL', RATES, field) end
end

-- Ends what an exchange took: its slots are free, requests stay taken, and of model tokens come back what was `taken` and `tokens`, which
-- is what counted already without what it came to.
local function settle_rates(demands, taken, tokens, now)
  local list = demands.list
  for i = 1, list[2] do
    local place, units = i * WORDS - 4, (taken[i] or 0) + 0
    local kind = list[place + 1]
    if kind == UNTIL_KNOWN then
      correct_bucket(demands.org, units + tokens, units, now, list[place], list[place + 3], list[place + 4], list[place + 5])
    elseif kind == WHILE_OPEN then
      close_open_request(list[place], units)
    end
  end
end
