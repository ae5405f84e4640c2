-- The pauses that backends want, as all Envoys share them. A call says those that it has not said yet, and hears all.
--
-- KEYS[1], a sorted set: "high low guessed" -> until when, in us of this server's clock. high and low are the halves of a target's
-- number; guessed is 1 where the backend did not say how long.
-- ARGV, for each pause that is new: high low wait_us guessed
-- The answer: now, and for each pause: high low until guessed

-- More than one configuration has.
local MOST = 1000
-- No pause is longer.
local LONGEST_MS = 600000

local TIME = redis.call('TIME')
local now = TIME[1] * 1000000 + TIME[2]
local pauses = KEYS[1]

redis.call('ZREMRANGEBYSCORE', pauses, '-inf', string.format('%.0f', now))
for at = 1, #ARGV, 4 do
  local target = ARGV[at] .. ' ' .. ARGV[at + 1] .. ' ' .. ARGV[at + 3]
  local till = now + math.min(ARGV[at + 2], LONGEST_MS * 1000)
  if till > tonumber(redis.call('ZSCORE', pauses, target) or 0) then
    redis.call('ZADD', pauses, string.format('%.0f', till), target)
    redis.call('PEXPIRE', pauses, LONGEST_MS)
  end
end

local answer = { now }
local found = redis.call('ZRANGE', pauses, 0, MOST - 1, 'WITHSCORES')
for at = 1, #found, 2 do
  local high, low, guessed = string.match(found[at], '^(%d+) (%d+) ([01])$')
  if high then
    for _, number in ipairs({ high, low, found[at + 1], guessed }) do answer[#answer + 1] = tonumber(number) end
  end
end
return answer
