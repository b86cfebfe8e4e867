-- pauses.lua: the mark of a window that refuses, and the notices of its pause and of its end.
-- needs: base, keys, notices

local ANNOUNCED_EVERY_MS = 3600000  -- at least, from one notice of a window's pause or of its end to the next pause that is announced
local REFUSED_NOTED_MS = 60000  -- to which the last refusal is known: refusals must not write each

-- The mark of a window that refuses: "<resume instant> <least amount refused since it was set> <last refusal, to the minute>
-- <from when on a refusal may announce it, 0 once announced> <limit>". The instant is that of the least amount.
local function mark_of(text)
  local resume, least, refused_at, announce_at, limit = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
  return {resume = tonumber(resume), least = tonumber(least), refused_at = tonumber(refused_at), announce_at = tonumber(announce_at),
    limit = tonumber(limit)}
end

local function pause_member(window) return format('p|%d|%s', window.buckets, window.key) end

-- Removes the mark; announces the end if the pause was announced.
local function end_pause(org, window, mark, now)
  window.mark = false
  call('HDEL', SPEND, window.key .. '|mark')
  call('ZREM', DUE, pause_member(window))
  if mark.announce_at > 0 then return end
  call('HSET', SPEND, window.key .. '|told', int(now))
  append_notice(org, window, 'spend.resumed', 'spend.resumed', '', '', now)
end

-- Marks a window that refuses `least` and will have room for it at window.resume. A smaller amount moves the mark's instant, a
-- larger one does not: spending goes on as soon as the least has room. A pause is announced at its first refusal, or at the first one an
-- hour after the window's last notice.
local function note_pause(org, window, least, now)
  local mark = window.mark and mark_of(window.mark)
  if mark and mark.resume <= now then
    end_pause(org, window, mark, now)
    mark = nil
  end
  if not mark then
    local announced_at = tonumber(call('HGET', SPEND, window.key .. '|told') or 0)
    mark = {least = NUMBER_MAX, refused_at = now, announce_at = announced_at + ANNOUNCED_EVERY_MS}
  end
  local resume = window.resume
  if least > mark.least then least, resume = mark.least, mark.resume end
  local moves, is_due = resume ~= mark.resume, mark.announce_at > 0 and now >= mark.announce_at
  if not moves and least == mark.least and not is_due and now - mark.refused_at < REFUSED_NOTED_MS then return end
  if moves then schedule(org, pause_member(window), resume) end
  call('HSET', SPEND, window.key .. '|mark', format('%d %d %d %d %d', resume, least, now, is_due and 0 or mark.announce_at, window.limit))
  if is_due then
    call('HSET', SPEND, window.key .. '|told', int(now))
    append_notice(org, window, 'spend.paused', 'spend.paused', '', format(',"refused_nano_usd":%d,"resumes_at_ms":%d', least, resume), now)
  end
end
