-- demands.lua: the demands of a request as they travel: [organization, rates, spends].

local FOR_GOOD, UNTIL_KNOWN, WHILE_OPEN = 0, 1, 2  -- for how long units of a rate are taken
local ROLLING = 0

local function demands_of(text)
  local list = cjson.decode(text)
  local demands = {org = list[1], rates = {}, spends = {}}
  for i, r in ipairs(list[2]) do
    demands.rates[i] = {key = r[1], kind = r[2], units = r[3], capacity = r[4], refill = r[5], window = r[6], shadow = r[7] == 1,
      full = r[4] * r[6]}
  end
  for i, s in ipairs(list[3]) do
    demands.spends[i] = {key = s[1], kind = s[2], limit = s[3], buckets = s[4], shadow = s[5] == 1, thresholds = s[6], periods = s[7]}
  end
  return demands
end
