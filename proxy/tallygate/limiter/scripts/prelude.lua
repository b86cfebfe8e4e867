-- prelude.lua: what every script of one organization shares; it is put in front of each at load.
--
-- KEYS   1 generation  2 events  3 orgs  (the partition's)    4 rates  5 holds  6 due  7 spend  (the organization's)
-- ARGV   1 the time in ms, in tests only; else empty, and the server's TIME is read, once
--
-- rates  <key>|l level of a token bucket in units * window_ms, <key>|t its time in ms, <key>|h what open reservations hold of one
--        of model tokens, see `held_of`; <key>|n open requests
-- spend  <key>|spent, |held, |at (newest 5-minute bucket seen), |<n> one bucket; a calendar month has |id, |start, |end instead
--        of buckets, and |idle when its month was first seen to be over; |warned the highest threshold told, |mark see `mark_of`,
--        |told when a pause or its end was last told, |walk how a resume instant was found
-- holds  <reservation>: text, see `held` and `expired` below; after the end "settled\n<answer>"
-- due    <reservation> at its lease's end, or at the end of its memory; w|<buckets>|<key> and b|<refill>|<full>|<key> when an
--        idle window or bucket can be dropped; p|<buckets>|<key> when a pause is over
--
-- Numbers are whole and below 2^53, sums are HINCRBY. Clocks are kept per bucket and per window. They do not go back with a clock
-- that is put back a little. What is further ahead was moved by a clock that was wrong: a token bucket goes on from now; a spend
-- window, which has lost what left it in the meantime, closes its partition until it is rebuilt from the ledger (`close_if_ahead`).

local GENERATION, EVENTS, ORGS, RATES, HOLDS, DUE, SPEND = unpack(KEYS)
local call, floor, ceil, max, min = redis.call, math.floor, math.ceil, math.max, math.min
local BUCKET_MS, DAY_MS = 300000, 86400000
local KEEP_MS = 36500 * DAY_MS     -- of every key of an organization after its last use: no clock is ahead for longer, see `keep`
local TOLD_EVERY_MS = 3600000       -- at least, from one notice of a window's pause or of its end to the next pause that is told
local AHEAD_MS = 600000            -- by which a window's newest bucket may be ahead of the clock, or by
local AHEAD_PART_MS = BUCKET_MS / 10  -- for each bucket of its window, if that is less
local WALK_NOTED = 64               -- buckets that a refusal walks through before it is worth a note
local NUMBER_MAX = 9007199254740991
local REQUESTS, TOKENS, OPEN = 0, 1, 2
local ROLLING = 0

-- A whole number as text: Lua's own conversion drops digits above the 14th, prints a negative zero, and takes twice as long.
local format = string.format
local function int(n) return format('%d', n) end

local function server_now()
  if ARGV[1] ~= '' then return tonumber(ARGV[1]) end
  local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

-- Collects garbage and must decide nothing: what a clock that is ahead lets end is gone for good, of all organizations at once, and
-- leaves nothing by which that could be noticed. At most once a day of each key: the append-only file would have a line of it for
-- every exchange.
local function keep(key)
  if call('PTTL', key) < KEEP_MS - DAY_MS then call('PEXPIRE', key, KEEP_MS) end
end

local function schedule(org, member, at)
  call('ZADD', DUE, int(at), member)
  if org then call('ZADD', ORGS, 'LT', int(at), org) end
end

-- Demands as they travel: {org, rates, spends}.
local function demands_of(text)
  local list = cjson.decode(text)
  local demands = {org = list[1], rates = {}, spends = {}}
  for i, r in ipairs(list[2]) do
    demands.rates[i] = {key = r[1], quantity = r[2], units = r[3], capacity = r[4], refill = r[5], window = r[6], shadow = r[7] == 1,
      full = r[4] * r[6]}
  end
  for i, s in ipairs(list[3]) do
    demands.spends[i] = {key = s[1], kind = s[2], limit = s[3], buckets = s[4], shadow = s[5] == 1, thresholds = s[6], periods = s[7]}
  end
  return demands
end

-- Token buckets --------------------------------------------------------------------------------------------------------------

-- The level at `now` and the time it stands for; a bucket never seen is full. One that is ahead by more than its window goes on
-- from now, which is written at once: else it would stay ahead for as long as it refuses.
local function refilled(rate, now, level, at)
  if not level then return rate.full, now end
  level, at = tonumber(level), tonumber(at)
  level = max(min(level, rate.full), rate.full - NUMBER_MAX)
  if at - now > rate.window then
    at = now
    call('HSET', RATES, rate.key .. '|t', int(at))
  end
  if now <= at then return level, at end
  if now - at >= ceil((rate.full - level) / rate.refill) then return rate.full, now end
  return level + (now - at) * rate.refill, now
end

-- Units that open reservations hold of a bucket, and that come back as far as they are not used: "<level> <units>". Whoever writes a
-- level without them, as workers of a former version do, makes them void: rather too few than some that stay for ever.
local function held_of(level, text)
  if not level or not text or string.sub(text, 1, #level + 1) ~= level .. ' ' then return 0 end
  return tonumber(string.sub(text, #level + 2))
end

local function put_bucket(fields, rate)
  local n, level = #fields, int(rate.level)
  fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = rate.key .. '|l', level, rate.key .. '|t', int(rate.at)
  if rate.quantity == TOKENS then fields[n + 5], fields[n + 6] = rate.key .. '|h', format('%s %d', level, rate.held) end
end

-- Of a bucket that is written for the first time: when to look whether it has become idle.
local function watch_bucket(org, rate)
  schedule(org, 'b|' .. int(rate.refill) .. '|' .. int(rate.full) .. '|' .. rate.key, rate.at + DAY_MS)
end

-- Gives back `units` (below zero: takes) of a token bucket, of which `ended` are held no longer: the estimate is replaced by the actual.
local function correct_bucket(org, rate, units, ended, now)
  if units == 0 and ended == 0 then return end
  local stored = call('HMGET', RATES, rate.key .. '|l', rate.key .. '|t', rate.key .. '|h')
  rate.held = max(0, held_of(stored[1], stored[3]) - ended)
  rate.level, rate.at = refilled(rate, now, stored[1], stored[2])
  rate.level = max(min(rate.level + units * rate.window, rate.full), rate.full - NUMBER_MAX)
  local fields = {}
  put_bucket(fields, rate)
  call('HSET', RATES, unpack(fields))
  if not stored[1] then
    watch_bucket(org, rate)
    keep(RATES)
  end
end

local function close_open_request(rate, units)
  if units == 0 then return end
  local field = rate.key .. '|n'
  if call('HINCRBY', RATES, field, -units) <= 0 then call('HDEL', RATES, field) end
end

-- Spend windows --------------------------------------------------------------------------------------------------------------

-- The period that holds `now`; outside all of them, the nearest.
local function period_at(periods, now)
  for _, period in ipairs(periods) do
    if now < period[3] then return period end
  end
  return periods[#periods]
end

-- Moves a rolling window to `now`: buckets at or below the cutoff leave. Walks only what lies between the old cutoff and the new,
-- at most one window's worth of buckets.
local function roll(window, now, write)
  local index = floor(now / BUCKET_MS)
  if not window.at then
    window.at, window.is_new = index, true
    return
  end
  if index <= window.at then return end
  local first, last = window.at - window.buckets + 1, min(index - window.buckets, window.at)
  local gone = 0
  while first <= last do
    local stop = min(last, first + 255)
    local fields = {}
    for i = first, stop do fields[i - first + 1] = format('%s|%d', window.key, i) end
    local found = {}
    for i, amount in ipairs(call('HMGET', SPEND, unpack(fields))) do
      if amount then
        gone = gone + tonumber(amount)
        found[#found + 1] = fields[i]
      end
    end
    if write and #found > 0 then call('HDEL', SPEND, unpack(found)) end
    first = stop + 1
  end
  window.spent, window.at = window.spent - gone, index
  if write then
    if gone > 0 then call('HINCRBY', SPEND, window.key .. '|spent', int(-gone)) end
    call('HSET', SPEND, window.key .. '|at', int(index))
  end
end

-- Moves a calendar month to `now`: a later period starts at nothing, if it has begun, and no earlier than the known one has ended. It
-- may do neither where a gateway's calendar is ahead, or the time zone has changed: until the ledger has rebuilt the window, all of
-- the known period counts.
local function turn_page(window, now, write)
  local period = period_at(window.periods, now)
  if not window.id then
    window.id, window.starts, window.ends, window.is_new = period[1], period[2], period[3], true
  elseif window.id ~= period[1] and period[2] >= window.ends and period[2] <= now then
    window.id, window.starts, window.ends, window.spent = period[1], period[2], period[3], 0
    if write then
      call('HSET', SPEND, window.key .. '|id', window.id, window.key .. '|start', int(window.starts), window.key .. '|end', int(window.ends),
        window.key .. '|spent', 0)
      call('HDEL', SPEND, window.key .. '|idle')
    end
  end
end

-- Reads every window of the demands in one call and moves it to `now`.
local function load_windows(spends, now, write)
  if #spends == 0 then return end
  local fields = {}
  for _, window in ipairs(spends) do
    local key = window.key
    local n = #fields
    window.place = n
    fields[n + 1], fields[n + 2], fields[n + 3], fields[n + 4] = key .. '|spent', key .. '|held', key .. '|warned', key .. '|mark'
    if window.kind == ROLLING then
      fields[n + 5] = key .. '|at'
    else
      fields[n + 5], fields[n + 6], fields[n + 7] = key .. '|id', key .. '|start', key .. '|end'
    end
  end
  local stored = call('HMGET', SPEND, unpack(fields))
  for _, window in ipairs(spends) do
    local n = window.place
    window.spent, window.held = tonumber(stored[n + 1] or 0), tonumber(stored[n + 2] or 0)
    window.warned, window.mark = tonumber(stored[n + 3] or 0), stored[n + 4]
    if window.kind == ROLLING then
      window.at = stored[n + 5] and tonumber(stored[n + 5])
      roll(window, now, write)
    else
      window.id, window.starts, window.ends = stored[n + 5], tonumber(stored[n + 6] or 0), tonumber(stored[n + 7] or 0)
      turn_page(window, now, write)
    end
  end
end

-- Whether a window has been moved by a clock that was ahead, and put right since.
local function is_ahead(window, now)
  if window.kind == ROLLING then return window.at * BUCKET_MS - now > min(AHEAD_MS, window.buckets * AHEAD_PART_MS) end
  return now < window.starts and not window.is_new
end

-- Closes the partition for spending if one of these windows is ahead; whether it did.
local function close_if_ahead(spends, now)
  for _, window in ipairs(spends) do
    if is_ahead(window, now) then
      call('DEL', GENERATION)
      return true
    end
  end
  return false
end

-- Writes a window that is used for the first time, and when to look whether it has become idle.
local function open_window(org, window, now)
  if not window.is_new then return end
  window.is_new = false
  if window.kind == ROLLING then
    call('HSET', SPEND, window.key .. '|at', int(window.at))
    schedule(org, 'w|' .. int(window.buckets) .. '|' .. window.key, now + window.buckets * BUCKET_MS)
  else
    call('HSET', SPEND, window.key .. '|id', window.id, window.key .. '|start', int(window.starts), window.key .. '|end', int(window.ends))
    schedule(org, 'w|0|' .. window.key, max(window.ends, now + DAY_MS))
  end
end

-- Amounts of a rolling window's buckets `first` to `last`, as HMGET gives them.
local function amounts_of(window, first, last)
  local fields = {}
  for i = first, last do fields[i - first + 1] = format('%s|%d', window.key, i) end
  return call('HMGET', SPEND, unpack(fields))
end

-- The first bucket with which `need` has left, given that all up to `last` come to `sum`, which is enough; and the sum up to it.
local function walk_back(window, need, last, sum)
  local step, oldest = 32, window.at - window.buckets + 1
  while last >= oldest do
    local first = max(oldest, last - step + 1)
    local amounts = amounts_of(window, first, last)
    for i = last, first, -1 do
      local before = sum - tonumber(amounts[i - first + 1] or 0)
      if before < need then return i, sum end
      sum = before
    end
    last, step = first - 1, 256
  end
end

-- The same, given that all before `first` come to `sum`, which is not enough; nil if the whole window is not.
local function walk_on(window, need, first, sum)
  local step = 32
  while first <= window.at do
    local last = min(window.at, first + step - 1)
    for i, amount in ipairs(amounts_of(window, first, last)) do
      if amount then
        sum = sum + tonumber(amount)
        if sum >= need then return first + i - 1, sum end
      end
    end
    first, step = last + 1, 256
  end
end

-- The instant at which `need` of what is spent has left the window, to the bucket; -1 if all of it is not enough, or if the
-- period's end is past and the next one unknown. A long walk is noted for the next refusal: `|walk` is "<newest bucket> <how many>
-- <bucket> <sum up to it>". It holds while the first two do, since spend is added to the newest bucket as a rule, and a note is of
-- an older one; who changes another bucket drops it.
local function resume_at(window, need, now, write)
  if need > window.spent then return -1 end
  if window.kind ~= ROLLING then return window.ends > now and window.ends or -1 end
  local start, sum = window.at - window.buckets + 1, 0
  local note = call('HGET', SPEND, window.key .. '|walk')
  if note then
    local newest, buckets, noted, noted_sum = string.match(note, '^(%d+) (%d+) (%d+) (%d+)$')
    if tonumber(newest) == window.at and tonumber(buckets) == window.buckets then start, sum = tonumber(noted) + 1, tonumber(noted_sum) end
  end
  local found
  if sum >= need then
    found, sum = walk_back(window, need, start - 1, sum)
  else
    found, sum = walk_on(window, need, start, sum)
  end
  if not found then return -1 end
  if write and found < window.at and max(found - start, start - found) > WALK_NOTED then
    call('HSET', SPEND, window.key .. '|walk', format('%d %d %d %d', window.at, window.buckets, found, sum))
  end
  return (found + window.buckets) * BUCKET_MS
end

-- The highest threshold at or below the spend, in thousandths of the limit; `thresholds` is {permille, amount, ...}, ascending.
local function crossed(window)
  local permille = 0
  for i = 1, #window.thresholds, 2 do
    if window.spent >= window.thresholds[i + 1] then permille = window.thresholds[i] end
  end
  return permille
end

-- Adds to a window, or below zero takes back, as of `time`; what is of a bucket that has left or of a month that is over counts no
-- more. Re-arms the thresholds that spend had fallen below before this.
local function post(org, window, amount, now, time)
  open_window(org, window, now)
  local armed = min(window.warned, crossed(window))
  if armed ~= window.warned then
    window.warned = armed
    call('HSET', SPEND, window.key .. '|warned', armed)
  end
  if amount == 0 then return end
  if window.kind == ROLLING then
    local index = min(floor(time / BUCKET_MS), window.at)
    if index <= window.at - window.buckets then return end
    local field = window.key .. '|' .. int(index)
    if amount < 0 then amount = max(amount, -tonumber(call('HGET', SPEND, field) or 0)) end
    if index < window.at then call('HDEL', SPEND, window.key .. '|walk') end
    if amount == 0 then return end
    if call('HINCRBY', SPEND, field, int(amount)) == 0 then call('HDEL', SPEND, field) end
  else
    if time < window.starts then return end
    amount = max(amount, -window.spent)
    if amount == 0 then return end
  end
  window.spent = window.spent + amount
  call('HINCRBY', SPEND, window.key .. '|spent', int(amount))
end

local function unhold(window, amount)
  if amount == 0 then return end
  window.held = call('HINCRBY', SPEND, window.key .. '|held', int(-amount))
  if window.held < 0 then
    window.held = 0
    call('HSET', SPEND, window.key .. '|held', 0)
  end
end

-- Notices --------------------------------------------------------------------------------------------------------------------

-- Tells the ledger what became of a window, in an entry that is no usage event. `name` sets it apart from others of its time.
local function append_notice(org, window, type, name, before, after, now)
  local event = format('{"type":"%s","org":"%s","limit":%s%s,"spent_nano_usd":%d,"held_nano_usd":%d,"limit_nano_usd":%d%s,"at_ms":%d}',
    type, org, cjson.encode(window.key), before, window.spent, window.held, window.limit, after, now)
  call('XADD', EVENTS, '*', 'event_id', format('ntc-%s-%s-%s-%d', org, window.key, name, now), 'kind', 'notice', 'event', event,
    'settled_at_ms', int(now))
end

-- Tells each threshold that spend has risen to since the last time; returns them in thousandths, or nil if there is none.
local function tell_crossed(org, window, now)
  local reached = crossed(window)
  if reached <= window.warned then return nil end
  local told = {}
  for i = 1, #window.thresholds, 2 do
    local permille = window.thresholds[i]
    if permille > window.warned and permille <= reached then
      told[#told + 1] = permille
      append_notice(org, window, 'spend.warning', format('spend.warning.%d', permille), format(',"threshold_permille":%d', permille), '', now)
    end
  end
  window.warned = reached
  call('HSET', SPEND, window.key .. '|warned', reached)
  return told
end

-- The mark of a window that refuses: "<resume instant> <least amount refused since it was set> <last refusal, to the minute>
-- <from when on a refusal may tell of it, 0 once told> <limit>". The instant is that of the least amount.
local function mark_of(text)
  local resume, least, refused_at, tell_at, limit = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  return {resume = tonumber(resume), least = tonumber(least), refused_at = tonumber(refused_at), tell_at = tonumber(tell_at),
    limit = tonumber(limit)}
end

local function pause_member(window) return format('p|%d|%s', window.buckets, window.key) end

-- Takes the mark away; tells so if the pause was told.
local function end_pause(org, window, mark, now)
  window.mark = false
  call('HDEL', SPEND, window.key .. '|mark')
  call('ZREM', DUE, pause_member(window))
  if mark.tell_at > 0 then return end
  call('HSET', SPEND, window.key .. '|told', int(now))
  append_notice(org, window, 'spend.resumed', 'spend.resumed', '', '', now)
end

-- Reservations ---------------------------------------------------------------------------------------------------------------
-- held:    "held <hold> <cost> <prompt> <completion> <lease end> <units taken of each rate demand ...>"
--          answer to admit, demands, event: one line each
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
  demands, at = line_at(text, at)
  local status, hold, cost, prompt, completion, time, more = string.match(head, '^(%S+) ?(%S*) ?(%S*) ?(%S*) ?(%S*) ?(%S*) ?(.*)$')
  local rest = {}
  for word in string.gmatch(more, '%S+') do rest[#rest + 1] = word end
  return {status = status, hold = tonumber(hold), cost = tonumber(cost), prompt = tonumber(prompt), completion = tonumber(completion),
    at = tonumber(time), rest = rest, answer = answer, demands = demands, event = string.sub(text, at)}
end

local function save_record(id, record)
  local head = format('%s %d %d %d %d %d', record.status, record.hold, record.cost, record.prompt, record.completion, record.at)
  if #record.rest > 0 then head = head .. ' ' .. table.concat(record.rest, ' ') end
  local parts = {head, record.answer, record.demands, record.event}
  call('HSET', HOLDS, id, table.concat(parts, '\n'))
end

-- expired_at: of what is told of a reservation after its expiry, as of which it counts.
local function append_event(id, kind, event, now, cost, posted, prompt, completion, flags, expired_at)
  local fields = {'event_id', id, 'kind', kind, 'event', event, 'settled_at_ms', int(now), 'cost_nano_usd', int(cost),
    'posted_nano_usd', int(posted), 'prompt_tokens', int(prompt), 'completion_tokens', int(completion), 'flags', flags}
  if expired_at then fields[#fields + 1], fields[#fields + 2] = 'expired_at_ms', int(expired_at) end
  call('XADD', EVENTS, '*', unpack(fields))
end

-- The id of the last event that was ever appended, also if it has left the stream.
local function last_event()
  local facts = redis.pcall('XINFO', 'STREAM', EVENTS)
  for i = 1, #facts, 2 do
    if facts[i] == 'last-generated-id' then return facts[i + 1] end
  end
  return '0-0'
end

-- Ends a held reservation whose lease ran out: its last checkpoint counts. When that was is remembered: a late settlement posts the
-- difference as of then, so that one exchange counts at one time.
local function expire(id, record, now, memory_ms)
  local demands = demands_of(record.demands)
  for i, rate in ipairs(demands.rates) do
    local taken = tonumber(record.rest[i])
    if rate.quantity == TOKENS then
      correct_bucket(demands.org, rate, taken - record.prompt - record.completion, taken, now)
    elseif rate.quantity == OPEN then
      close_open_request(rate, taken)
    end
  end
  load_windows(demands.spends, now, true)
  for _, window in ipairs(demands.spends) do
    unhold(window, record.hold)
    post(demands.org, window, record.cost, now, now)
    tell_crossed(demands.org, window, now)
  end
  append_event(id, 'expired', record.event, now, record.cost, record.cost, record.prompt, record.completion, 'expired')
  save_record(id, {status = 'expired', hold = record.hold, cost = record.cost, prompt = record.prompt, completion = record.completion,
    at = now, rest = {}, answer = '', demands = record.demands})
  schedule(nil, id, now + memory_ms)
end

-- Housekeeping ---------------------------------------------------------------------------------------------------------------

-- A window as it is known without a demand for it, moved to `now`; a calendar month that is over has spent nothing.
local function window_at_rest(buckets, key, now)
  local window = {key = key, buckets = buckets}
  local stored = call('HMGET', SPEND, key .. '|spent', key .. '|held', key .. '|mark', key .. '|at', key .. '|end')
  window.spent, window.held, window.mark = tonumber(stored[1] or 0), tonumber(stored[2] or 0), stored[3]
  if buckets > 0 then
    window.at = stored[4] and tonumber(stored[4])
    roll(window, now, true)
  else
    window.ends = tonumber(stored[5] or 0)
    if window.ends <= now then window.spent = 0 end
  end
  return window
end

-- A window goes at a second look, a day after all of its spend was found to have left: a clock that is ahead for a moment has
-- moved it then, which will be seen, and has not made one that begins at nothing.
local function drop_window_if_idle(member, buckets, key, now)
  local had = call('HMGET', SPEND, key .. '|spent', key .. '|idle', key .. '|at')
  local window = window_at_rest(buckets, key, now)
  local spent_until = window.ends or window.spent > 0 and now + buckets * BUCKET_MS or 0
  if spent_until > now or window.held > 0 or window.mark then return schedule(nil, member, max(spent_until, now + DAY_MS)) end
  if window.ends then
    if not had[2] then call('HSET', SPEND, key .. '|idle', int(now)) end
    if not had[2] or now - tonumber(had[2]) < DAY_MS then return schedule(nil, member, now + DAY_MS) end
  elseif tonumber(had[1] or 0) > 0 or now - tonumber(had[3] or 0) * BUCKET_MS < DAY_MS then
    call('HDEL', SPEND, key .. '|walk')
    return schedule(nil, member, now + DAY_MS)
  end
  call('HDEL', SPEND, key .. '|spent', key .. '|held', key .. '|at', key .. '|id', key .. '|start', key .. '|end', key .. '|warned',
    key .. '|told', key .. '|walk', key .. '|idle')
  call('ZREM', DUE, member)
end

local function end_pause_if_over(org, member, buckets, key, now)
  local text = call('HGET', SPEND, key .. '|mark')
  if not text then return call('ZREM', DUE, member) end
  local mark = mark_of(text)
  if mark.resume > now then return schedule(nil, member, mark.resume) end
  local window = window_at_rest(buckets, key, now)
  window.limit = mark.limit
  end_pause(org, window, mark, now)
end

local function drop_bucket_if_full(member, refill, full, key, now)
  local stored = call('HMGET', RATES, key .. '|l', key .. '|t')
  local idle_ms = now - tonumber(stored[2] or 0)
  if idle_ms < DAY_MS or idle_ms < ceil((full - tonumber(stored[1] or full)) / refill) then return schedule(nil, member, now + DAY_MS) end
  call('HDEL', RATES, key .. '|l', key .. '|t', key .. '|h')
  call('ZREM', DUE, member)
end

-- Handles up to `most` entries of an organization that are due; returns how many there were.
local function collect(org, now, most, memory_ms)
  local members = call('ZRANGEBYSCORE', DUE, '-inf', int(now), 'LIMIT', 0, most)
  for _, member in ipairs(members) do
    local kind = string.sub(member, 1, 2)
    if kind == 'w|' then
      local buckets, key = string.match(member, '^w|(%d+)|(.*)$')
      drop_window_if_idle(member, tonumber(buckets), key, now)
    elseif kind == 'p|' then
      local buckets, key = string.match(member, '^p|(%d+)|(.*)$')
      end_pause_if_over(org, member, tonumber(buckets), key, now)
    elseif kind == 'b|' then
      local refill, full, key = string.match(member, '^b|(%d+)|(%d+)|(.*)$')
      drop_bucket_if_full(member, tonumber(refill), tonumber(full), key, now)
    else
      local text = call('HGET', HOLDS, member)
      if text and string.sub(text, 1, 5) == 'held ' then
        expire(member, record_of(text), now, memory_ms)
      else
        call('HDEL', HOLDS, member)
        call('ZREM', DUE, member)
      end
    end
  end
  return #members
end
