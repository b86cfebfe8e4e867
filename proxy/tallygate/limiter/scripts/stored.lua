-- stored.lua: removes entries from streams once the ledger has stored them.
--
-- KEYS     the events of partitions
-- ARGV     1 unused  2 the consumer group  3 of each entry, which of KEYS and its id, all with a space between them
-- Returns  how many of them are gone now.

local ids = {}
for number, id in string.gmatch(ARGV[3], '(%d+) (%S+)') do
  local stream = KEYS[tonumber(number)]
  ids[stream] = ids[stream] or {}
  table.insert(ids[stream], id)
end

-- An entry that is only deleted comes again, empty; one that is only acknowledged would stay.
local gone = 0
for stream, some in pairs(ids) do
  gone = gone + redis.call('XDEL', stream, unpack(some))
  redis.call('XACK', stream, ARGV[2], unpack(some))
end
return gone
