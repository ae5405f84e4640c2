-- The pauses that backends have asked for, as all Envoys share them. A call says those that it has not said yet, and hears all.
--
-- KEYS[1], a sorted set: "high low", the halves of a target's number -> until when, in us of this server's clock
-- ARGV, for each pause that is new: high low wait_us
-- The answer: now, and for each pause: high low until

-- More than one configuration has.
local MOST = 1000
-- No pause is longer.
local LONGEST_MS = 600000

local function text(number) return string.format('%.0f', number) end

local TIME = redis.call('TIME')
local now = TIME[1] * 1000000 + TIME[2]
local last = now + LONGEST_MS * 1000
local pauses = KEYS[1]

redis.call('ZREMRANGEBYSCORE', pauses, '-inf', text(now))
-- Noted before the clock was set back.
redis.call('ZREMRANGEBYSCORE', pauses, '(' .. text(last), '+inf')
for at = 1, #ARGV, 3 do
  local target = ARGV[at] .. ' ' .. ARGV[at + 1]
  local till = math.min(now + ARGV[at + 2], last)
  if till > tonumber(redis.call('ZSCORE', pauses, target) or 0) then
    redis.call('ZADD', pauses, text(till), target)
    redis.call('PEXPIRE', pauses, LONGEST_MS)
  end
end

local answer = { now }
local found = redis.call('ZRANGE', pauses, 0, MOST - 1, 'WITHSCORES')
for at = 1, #found, 2 do
  local high, low = string.match(found[at], '^(%d+) (%d+)$')
  if high then
    for _, number in ipairs({ high, low, found[at + 1] }) do answer[#answer + 1] = tonumber(number) end
  end
end
return answer
