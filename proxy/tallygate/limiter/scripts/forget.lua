-- forget.lua: drop the answers of reservations that were settled, before their time is over.
--
-- KEYS     holds and due of each organization (keys.lua)
-- ARGV     of each: reservations, as JSON
-- What is not settled stays, whatever is said of it: a store that has lost its last writes may have it held again.

for i = 1, #ARGV do
  local holds, due, ids, settled = KEYS[2 * i - 1], KEYS[2 * i], cjson.decode(ARGV[i]), {}
  local texts = redis.call('HMGET', holds, unpack(ids))
  for j = 1, #ids do
    if texts[j] and string.sub(texts[j], 1, 8) == 'settled\n' then settled[#settled + 1] = ids[j] end
  end
  if #settled > 0 then
    redis.call('HDEL', holds, unpack(settled))
    redis.call('ZREM', due, unpack(settled))
  end
end
