-- spend.lua: the thresholds of a spend window.

-- The highest threshold at or below the spend, in thousandths of the limit; they ascend.
local function crossed(window)
  local reached = 0
  for permille, amount in string.gmatch(window.thresholds, '(%d+):(%d+)') do
    if window.spent < amount + 0 then break end
    reached = permille + 0
  end
  return reached
end
