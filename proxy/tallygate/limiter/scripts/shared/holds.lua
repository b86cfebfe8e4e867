-- holds.lua: reservations as they are kept while they are open, and after they have expired.
--
-- held:    "held <hold> <cost> <prompt> <completion> <lease end> <units taken of each rate demand ...>"
--          answer to admit (empty: deferred), demands, event: one line each
-- expired: "expired <hold> <cost> <prompt> <completion> <expired at>"
--          empty line, demands

-- The text up to the next line break, and where the next line starts. A plain search: patterns take a step per character.
local function line_at(text, start)
  local stop = string.find(text, '\n', start, true)
  if not stop then return string.sub(text, start), #text + 1 end
  return string.sub(text, start, stop - 1), stop + 1
end

local function record_of(text)
  local head, answer, demands, at
  head, at = line_at(text, 1)
  answer, at = line_at(text, at)
  local status, hold, cost, prompt, completion, time, taken = string.match(head, '^(%a+) (%d+) (%d+) (%d+) (%d+) (%d+) ?(.*)$')
  if not status then return {status = head, answer = answer} end
  demands, at = line_at(text, at)
  local rest, n = {}, 0
  for units in string.gmatch(taken, '%d+') do
    n = n + 1
    rest[n] = units
  end
  return {status = status, hold = hold + 0, cost = cost + 0, prompt = prompt + 0, completion = completion + 0,
    at = time + 0, rest = rest, answer = answer, demands = demands, text = text, event_at = at}
end

-- Only who keeps or tells the event asks for it: Lua hashes each byte of each text that it makes.
local function event_of(record) return string.sub(record.text, record.event_at) end
