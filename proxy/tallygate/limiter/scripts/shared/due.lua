-- due.lua: what ends by itself: leases, pauses, idle windows and buckets.
-- needs: base, keys, demands, rates, endings, windows, rolling, postings, notices, pauses, holds, saved_holds, events

-- Ends the holds, windows, pauses and buckets among `members`, and returns how many holds those were.
local function end_due(org, members, now, memory_ms)
  -- Ends a held reservation whose lease ran out: its last checkpoint counts. When that was is remembered: a late settlement posts the
  -- difference as of then, so that one exchange counts at one time.
  local function expire(id, record, now, memory_ms)
    local demands = demands_of(record.demands)
    settle_rates(demands, record.rest, -record.prompt - record.completion, now)
    load_windows(demands.spends, now, true)
    for _, window in ipairs(demands.spends) do
      unhold(window, record.hold)
      post(demands.org, window, record.cost, now, now)
      announce_crossed(demands.org, window, now)
    end
    append_event(id, 'expired', event_of(record), now, record.cost, record.cost, record.prompt, record.completion, 'expired')
    save_record(id, {status = 'expired', hold = record.hold, cost = record.cost, prompt = record.prompt, completion = record.completion,
      at = now, rest = {}, answer = '', demands = record.demands}, '')
    schedule(nil, id, now + memory_ms)
  end

  -- A window as it is known without a demand for it, moved to `now`; a calendar month that is over has spent nothing.
  local function window_at_rest(buckets, key, now)
    local window = {key = key, buckets = buckets}
    local stored = call('HMGET', SPEND, key .. '|spent', key .. '|held', key .. '|mark', key .. '|at', key .. '|end')
    window.spent, window.held, window.mark = tonumber(stored[1] or 0), tonumber(stored[2] or 0), stored[3]
    if buckets > 0 then
      local index = floor(now / BUCKET_MS)
      window.at = (stored[4] or index) + 0
      if index > window.at then roll(window, index, true) end
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
    local level, at, _, is_new = load_bucket(call('HGET', RATES, key), key, full, refill, NUMBER_MAX, 0, false)  -- not moved to any time
    if not is_new then
      local idle_ms = now - at
      if idle_ms < DAY_MS or idle_ms < ceil((full - level) / refill) then return schedule(nil, member, now + DAY_MS) end
      call('HDEL', RATES, key, key .. '|l', key .. '|t', key .. '|h')
    end
    call('ZREM', DUE, member)
  end

  local expired = 0
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
      expire(member, record_of(call('HGET', HOLDS, member)), now, memory_ms)
      expired = expired + 1
    end
  end
  return expired
end
