-- saved_holds.lua: reservations as they are written, in the words of holds.lua.
-- needs: base, keys

local function save_record(id, record, event)
  local head = format('%s %d %d %d %d %d' .. string.rep(' %d', #record.rest), record.status, record.hold, record.cost, record.prompt,
    record.completion, record.at, unpack(record.rest))
  call('HSET', HOLDS, id, head .. '\n' .. record.answer .. '\n' .. record.demands .. '\n' .. event)
end
