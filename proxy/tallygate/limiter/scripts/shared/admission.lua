-- admission.lua: what a request finds of its rates, and what it takes of them.
-- needs: base, keys, demands, rates

-- Reads every rate of the demands in one call. Returns seven words of each, in one array: level of a bucket or number of open requests,
-- a bucket's time and held units, units to take, how long the demand has to wait (0: it fits), whether only what others hold stands in the
-- way, and whether the bucket is new.
local function load_rates(demands, now, write)
  local list, fields, loaded, n = demands.list, {}, {}, 0
  for i = 3, demands.rates_end, WORDS do
    n = n + 1
    fields[n] = list[i + 1] == WHILE_OPEN and list[i] .. '|n' or list[i]
  end
  if n == 0 then return loaded end
  local stored = call('HMGET', RATES, unpack(fields))
  for i = 1, n do
    local key, kind, units, capacity, refill, window = unpack(list, i * WORDS - 4, i * WORDS + 1)
    if units > capacity then units = capacity end
    local level, at, held, taken, wait, others, is_new = 0, 0, 0, units, 0, true, false
    if kind == WHILE_OPEN then
      level = (stored[i] or 0) + 0
      if level + units > capacity then wait = OTHERS_MS end
    else
      local needed = units * window
      level, at, held, is_new = load_bucket(stored[i], key, capacity * window, refill, window, now, write)
      if units > 0 and level < needed then
        taken, wait = max(0, floor(level / window)), ceil((needed - level) / refill) + at - now
        others = wait > OTHERS_MS and level + held * window >= needed
        if others then wait = OTHERS_MS end
      end
    end
    local place = (i - 1) * WORDS
    loaded[place + 1], loaded[place + 2], loaded[place + 3], loaded[place + 4] = level, at, held, taken
    loaded[place + 5], loaded[place + 6], loaded[place + 7] = wait, others, is_new
  end
  return loaded
end

-- Takes the units of every rate, and notes in `loaded` what is left.
local function take_rates(demands, loaded)
  local list, fields, n, is_new = demands.list, {}, 0, false
  for i = 3, demands.rates_end, WORDS do
    local level, at, held, taken, _, _, is_first = unpack(loaded, i - 2, i + 4)
    if taken > 0 then
      local key, kind, _, capacity, refill, window = unpack(list, i, i + 5)
      if kind == WHILE_OPEN then
        level = level + taken
        is_new = is_new or level == taken
        fields[n + 1], fields[n + 2] = key .. '|n', level
      else
        level = level - taken * window
        if kind == UNTIL_KNOWN then held = held + taken end
        fields[n + 1], fields[n + 2] = key, format(BUCKET_WORDS, level, at, held)
        if is_first then
          -- made here: first_use
          is_new = true
          watch_bucket(demands.org, key, capacity * window, refill, at)
        end
      end
      n = n + 2
      loaded[i - 2] = level
    end
  end
  if n > 0 then call('HSET', RATES, unpack(fields)) end
  if is_new then keep(RATES) end
end

-- Of each rate as it stands in `loaded`: an array of remaining and reset_ms, and where it refuses retry_after_ms and whether only what others
-- hold stands in the way; in one array.
local function rates_words(demands, loaded, now)
  local list, numbers, n, words = demands.list, {}, 0, ''
  for i = 3, demands.rates_end, WORDS do
    local level, at, _, _, wait, others = unpack(loaded, i - 2, i + 3)
    local _, kind, _, capacity, refill, window = unpack(list, i, i + 5)
    local left, reset_ms = capacity - level, 0
    if kind ~= WHILE_OPEN then
      local full = capacity * window
      left = floor(level / window)
      if level < full then reset_ms = ceil((full - level) / refill) + at - now end
    end
    numbers[n + 1], numbers[n + 2] = left > 0 and left or 0, reset_ms
    n = n + 2
    if wait == 0 then
      words = words .. ',[%d,%d]'
    else
      words = words .. (others and ',[%d,%d,%d,true]' or ',[%d,%d,%d,false]')
      n = n + 1
      numbers[n] = wait
    end
  end
  return '[' .. string.sub(format(words, unpack(numbers)), 2) .. ']'
end
