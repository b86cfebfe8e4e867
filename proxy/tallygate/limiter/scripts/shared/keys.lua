-- keys.lua: the keys of one organization, what they hold, and how long.
-- needs: base
--
-- KEYS   1 generation  2 events  3 orgs  (the partition's)    4 rates  5 holds  6 due  7 spend  (the organization's)
--
-- rates  <key> a token bucket: "<level in units * window_ms> <its time in ms> <units that open reservations hold of one of model tokens>";
--        <key>|n open requests. A former version had |l, |t and |h instead of the first, see rates.lua
-- spend  <key>|spent, |held, |at (newest 5-minute bucket seen), |<n> one bucket; a calendar month has |id, |start, |end instead
--        of buckets, and |idle when its month was first seen to be over; |warned the highest threshold announced, |mark see pauses.lua,
--        |told when a pause or its end was last announced, |walk how a resume instant was found, see resume.lua
-- holds  <reservation>: text, see holds.lua; after the end "settled\n<answer>"
-- due    <reservation> at its lease's end, or at the end of its memory; w|<buckets>|<key> and b|<refill>|<full>|<key> when an
--        idle window or bucket can be dropped; p|<buckets>|<key> when a pause is over
--
-- Numbers are whole and below 2^53, sums are HINCRBY. Clocks are kept per bucket and per window. They do not go back with a clock
-- that is put back a little. What is further ahead was moved by a clock that was wrong: a token bucket goes on from now; a spend
-- window, which has lost what left it in the meantime, closes its partition until it is rebuilt from the ledger (`close_partition`).

local GENERATION, EVENTS, ORGS, RATES, HOLDS, DUE, SPEND = unpack(KEYS)
local DAY_MS = 86400000
local KEEP_MS = 36500 * DAY_MS  -- of every key of an organization: none is in use for longer, and no clock ahead, see `keep`

-- Collects garbage and must decide nothing: what a clock that is ahead lets end is gone for good, of all organizations at once, and
-- leaves nothing by which that could be noticed. Called where a key may just have been made; at most once a day of each: the append-only
-- file would have a line of it for every exchange. With: a key that is there whenever this one is.
local function keep(key, with)
  if call('PTTL', key) >= KEEP_MS - DAY_MS then return end
  call('PEXPIRE', key, KEEP_MS)
  if with then call('PEXPIRE', with, KEEP_MS) end
end

-- For spending, until the ledger has rebuilt it; and the answer to whoever finds a window ahead.
local function close_partition()
  call('DEL', GENERATION)
  return {2, ''}
end

local function schedule(org, member, at)
  call('ZADD', DUE, at, member)
  if org then call('ZADD', ORGS, 'LT', at, org) end
end
