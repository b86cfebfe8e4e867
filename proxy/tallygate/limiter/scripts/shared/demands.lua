-- demands.lua: the demands of a request as they travel: one flat array, since an array in an array takes longer to read than its words.
-- needs: base
--
-- [organization, number of rates,
--   of each rate: key, for how long units are taken, units, capacity, refill, window, shadow 1 | 0,
--   of each spend: key, kind, limit, buckets, shadow 1 | 0, "<permille>:<amount>,..." ascending, "<period>:<start>:<end>,..." ascending]

local FOR_GOOD, UNTIL_KNOWN, WHILE_OPEN = 0, 1, 2  -- for how long units of a rate are taken
local ROLLING = 0
local WORDS = 7  -- of each demand

-- A reservation that scripts of a former version have kept has an array of arrays: the same as a flat one.
local function flattened(list)
  local flat = {list[1], #list[2]}
  local function add(...) for _, word in ipairs({...}) do flat[#flat + 1] = word end end
  for _, r in ipairs(list[2]) do add(unpack(r)) end
  for _, s in ipairs(list[3]) do
    local thresholds, periods = '', ''
    for i = 1, #s[6], 2 do thresholds = thresholds .. format('%d:%d,', s[6][i], s[6][i + 1]) end
    for _, p in ipairs(s[7]) do periods = periods .. format('%s:%d:%d,', p[1], p[2], p[3]) end
    add(s[1], s[2], s[3], s[4], s[5], thresholds, periods)
  end
  return flat
end

local function demands_of(text)
  local list = cjson.decode(text)
  if type(list[2]) == 'table' then list = flattened(list) end
  local rates, spends, spends_at = {}, {}, 3 + list[2] * WORDS
  for i = 3, spends_at - 1, WORDS do
    local capacity, window = list[i + 3], list[i + 5]
    rates[#rates + 1] = {key = list[i], kind = list[i + 1], units = list[i + 2], capacity = capacity, refill = list[i + 4], window = window,
      shadow = list[i + 6] == 1, full = capacity * window}
  end
  for i = spends_at, #list, WORDS do
    spends[#spends + 1] = {key = list[i], kind = list[i + 1], limit = list[i + 2], buckets = list[i + 3], shadow = list[i + 4] == 1,
      thresholds = list[i + 5], periods = list[i + 6]}
  end
  return {org = list[1], rates = rates, spends = spends}
end
