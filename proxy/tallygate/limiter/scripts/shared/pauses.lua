-- pauses.lua: the mark of a window that refuses, and the notices of its pause and of its end.
-- needs: base, keys, notices

local TOLD_EVERY_MS = 3600000  -- at least, from one notice of a window's pause or of its end to the next pause that is told
local REFUSED_NOTED_MS = 60000  -- to which the last refusal is known: refusals must not write each

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

-- Marks a window that refuses `least` and will have room for it at window.resume. A smaller amount moves the mark's instant, a
-- larger one does not: spending goes on as soon as the least has room. A pause is told at its first refusal, or at the first one an
-- hour after what was told of the window last.
local function note_pause(org, window, least, now)
  local mark = window.mark and mark_of(window.mark)
  if mark and mark.resume <= now then
    end_pause(org, window, mark, now)
    mark = nil
  end
  if not mark then
    local told_at = tonumber(call('HGET', SPEND, window.key .. '|told') or 0)
    mark = {least = NUMBER_MAX, refused_at = now, tell_at = told_at + TOLD_EVERY_MS}
  end
  local resume = window.resume
  if least > mark.least then least, resume = mark.least, mark.resume end
  local moves, tells = resume ~= mark.resume, mark.tell_at > 0 and now >= mark.tell_at
  if not moves and least == mark.least and not tells and now - mark.refused_at < REFUSED_NOTED_MS then return end
  if moves then schedule(org, pause_member(window), resume) end
  call('HSET', SPEND, window.key .. '|mark', format('%d %d %d %d %d', resume, least, now, tells and 0 or mark.tell_at, window.limit))
  if tells then
    call('HSET', SPEND, window.key .. '|told', int(now))
    append_notice(org, window, 'spend.paused', 'spend.paused', '', format(',"refused_nano_usd":%d,"resumes_at_ms":%d', least, resume), now)
  end
end
