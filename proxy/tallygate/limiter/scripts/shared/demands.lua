-- demands.lua: the demands of a request as they travel: one flat array, since an array in an array takes longer to read than its words.
-- needs: base
--
-- [organization, number of rates,
--   of each rate: key, for how long units are taken, units, capacity, refill, window, shadow 1 | 0,
--   of each spend: key, kind, limit, buckets, shadow 1 | 0, "<permille>:<amount>,..." ascending, "<period>:<start>:<end>,..." ascending]

local FOR_GOOD, UNTIL_KNOWN, WHILE_OPEN = 0, 1, 2  -- for how long units of a rate are taken
local ROLLING = 0
local WORDS = 7  -- of each demand

-- Rates stay words of `list`, from its third up to `rates_end`: a table for each would cost as much as to decode all of them. A window is
-- a table, which has room for whatever it is given later, since Lua makes one that grows anew.
local function demands_of(text)
  local list = cjson.decode(text)
  if type(list[2]) == 'table' then
    -- A reservation that scripts of a former version have kept has an array of arrays: the same as a flat one.
    local flat = {list[1], #list[2]}
    local function add(...) for _, word in ipairs({...}) do flat[#flat + 1] = word end end
    for _, r in ipairs(list[2]) do add(unpack(r)) end
    for _, s in ipairs(list[3]) do
      local thresholds, periods = '', ''
      for i = 1, #s[6], 2 do thresholds = thresholds .. format('%d:%d,', s[6][i], s[6][i + 1]) end
      for _, p in ipairs(s[7]) do periods = periods .. format('%s:%d:%d,', p[1], p[2], p[3]) end
      add(s[1], s[2], s[3], s[4], s[5], thresholds, periods)
    end
    list = flat
  end
  local spends, rates_end, n = {}, 2 + list[2] * WORDS, 0
  for i = rates_end + 1, #list, WORDS do
    n = n + 1
    spends[n] = {key = list[i], kind = list[i + 1], limit = list[i + 2], buckets = list[i + 3], shadow = list[i + 4] == 1,
      thresholds = list[i + 5], periods = list[i + 6],
      spent = 0, held = 0, warned = 0, mark = false, at = false, is_new = false, fits = false, resume = 0, wait = 0}
  end
  return {org = list[1], list = list, rates_end = rates_end, spends = spends}
end
