-- read.lua: spend, holds and pause of windows as they stand now; changes nothing.
-- needs: base, demands, windows, resume, pauses
--
-- ARGV     2 demands, of which only the spend demands count
-- Returns  of each: spent, held, paused until in ms or 0 (the later of its mark's resume instant and, at or above the limit, the
--          instant at which spend falls below it), as one array.

local now = server_now()
local demands = demands_of(ARGV[2])
load_windows(demands.spends, now, false)
local words = {}
for _, window in ipairs(demands.spends) do
  local paused = window.mark and mark_of(window.mark).resume or 0
  if paused <= now then paused = 0 end
  if window.spent >= window.limit and window.limit > 0 then paused = max(paused, resume_at(window, window.spent + 1 - window.limit, now, false)) end
  words[#words + 1], words[#words + 2], words[#words + 3] = int(window.spent), int(window.held), int(paused)
end
return '[' .. table.concat(words, ',') .. ']'
