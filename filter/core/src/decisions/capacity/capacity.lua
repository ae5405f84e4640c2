-- What all Envoys have lately used of the capacity that backends declare. A call says what its Envoy has used of each capacity within
-- its window, and hears what the others have.
--
-- KEYS[1], a hash: "high low", the halves of a capacity's number -> what all Envoys use; "high low holder" -> what one Envoy uses
-- KEYS[2], a sorted set: "high low holder" -> until when that counts, in us of this server's clock
-- ARGV: holder, and for each capacity: high low used window_ms
-- The answer, for each capacity: what the others use
--
-- Each call says the whole, so one that is lost or repeated does no harm. Who stops calling counts for one window more.

-- No window is longer.
local LONGEST_MS = 60000
-- Envoys that are forgotten by one call.
local MOST = 1000

local function text(number) return string.format('%.0f', number) end

local TIME = redis.call('TIME')
local now = TIME[1] * 1000000 + TIME[2]
local uses, ends = KEYS[1], KEYS[2]

local function used(field) return tonumber(redis.call('HGET', uses, field) or 0) end

-- The sum is written first, or with the part: where the server refuses to write, nothing has changed.
local function note(capacity, part, amount)
  local sum = used(capacity) - used(part) + amount
  if amount > 0 then
    redis.call('HSET', uses, capacity, text(sum), part, text(amount))
  else
    if sum > 0 then redis.call('HSET', uses, capacity, text(sum)) else redis.call('HDEL', uses, capacity) end
    redis.call('HDEL', uses, part)
  end
end

local function forget(from, to)
  for _, part in ipairs(redis.call('ZRANGEBYSCORE', ends, from, to, 'LIMIT', 0, MOST)) do
    note(string.match(part, '^%d+ %d+'), part, 0)
    redis.call('ZREM', ends, part)
  end
end

forget('-inf', text(now))
-- Noted before the clock was set back.
forget('(' .. text(now + LONGEST_MS * 1000), '+inf')

local answer = {}
for at = 2, #ARGV, 4 do
  local capacity = ARGV[at] .. ' ' .. ARGV[at + 1]
  local part, amount = capacity .. ' ' .. ARGV[1], tonumber(ARGV[at + 2])
  if amount > 0 then
    note(capacity, part, amount)
    redis.call('ZADD', ends, text(now + math.min(ARGV[at + 3], LONGEST_MS) * 1000), part)
  elseif used(part) > 0 then
    note(capacity, part, 0)
    redis.call('ZREM', ends, part)
  end
  answer[#answer + 1] = used(capacity) - amount
end
redis.call('PEXPIRE', uses, LONGEST_MS * 2)
redis.call('PEXPIRE', ends, LONGEST_MS * 2)
return answer
