-- holds.lua: reservations as they are kept while they are open, and after they have expired.
-- needs: base, keys
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
  local rest = {}
  for units in string.gmatch(taken, '%d+') do rest[#rest + 1] = units end
  return {status = status, hold = tonumber(hold), cost = tonumber(cost), prompt = tonumber(prompt), completion = tonumber(completion),
    at = tonumber(time), rest = rest, answer = answer, demands = demands, text = text, event_at = at}
end

-- A settlement does without: Lua hashes each byte of each text that it makes.
local function event_of(record)
  return record.event or record.text and string.sub(record.text, record.event_at) or ''
end

local function save_record(id, record)
  local head = format('%s %d %d %d %d %d', record.status, record.hold, record.cost, record.prompt, record.completion, record.at)
  if #record.rest > 0 then head = head .. ' ' .. table.concat(record.rest, ' ') end
  call('HSET', HOLDS, id, head .. '\n' .. record.answer .. '\n' .. record.demands .. '\n' .. event_of(record))
end
