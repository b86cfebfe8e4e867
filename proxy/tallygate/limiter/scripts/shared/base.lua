-- base.lua: what every script uses: short names of Lua's own functions, whole numbers as text, and the time.
--
-- ARGV   1 the time in ms, in tests only; else empty, and the server's TIME is read, once

local call, floor, ceil, max, min = redis.call, math.floor, math.ceil, math.max, math.min
local NUMBER_MAX = 9007199254740991
local AHEAD_MS = 600000  -- by which what was written may be ahead of the clock, as clocks of servers differ

-- A whole number as text: Lua's own conversion drops digits above the 14th, prints a negative zero, and takes twice as long. A command
-- takes a number as it is (redis.call writes 17 digits, but a negative zero, too). A text of digits becomes a number where 0 is added to
-- it, in half the time of `tonumber`, which reads it twice.
local format = string.format
local function int(n) return format('%d', n) end

local clock = ARGV[1] == '' and call('TIME')
local now = clock and clock[1] * 1000 + floor(clock[2] / 1000) or ARGV[1] + 0
