-- saved_holds.lua: reservations as they are written, in the words of holds.lua.
-- needs: base, keys

-- A settlement does without: Lua hashes each byte of each text that it makes.
local function event_of(record)
  return record.event or record.text and string.sub(record.text, record.event_at) or ''
end

local function save_record(id, record)
  local head = format('%s %d %d %d %d %d' .. string.rep(' %d', #record.rest), record.status, record.hold, record.cost, record.prompt,
    record.completion, record.at, unpack(record.rest))
  call('HSET', HOLDS, id, head .. '\n' .. record.answer .. '\n' .. record.demands .. '\n' .. event_of(record))
end
