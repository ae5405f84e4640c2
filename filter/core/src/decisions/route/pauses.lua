-- The pauses that backends have asked for, and the orders of operators, as all Envoys share them. A call says those that it has not
-- said yet, and hears all.
--
-- KEYS[1], a sorted set, each until when it is kept, in us of this server's clock:
--   "high low", a pause, which ends then: the halves of a target's number
--   "o high low said_ms until high low ...", an order: of a model, when it was said, when it ends, and the targets that it names
-- ARGV, for each pause that is new: high low wait_us
--       for each order that is new: o high low said_ms wait_us count, and the halves of so many targets
-- The answer: now, how many pauses, for each: high low until, then for each order: high low said_ms until count high low ...

-- More than one configuration has.
local MOST = 1000
-- No pause is longer, and no order.
local LONGEST = 600000000
local LONGEST_ORDER = 86400000000

local function text(number) return string.format('%.0f', number) end

local TIME = redis.call('TIME')
local now = TIME[1] * 1000000 + TIME[2]
local key = KEYS[1]

-- Of each model the order that was said last, and its member.
local said, member = {}, {}
redis.call('ZREMRANGEBYSCORE', key, '-inf', text(now))
local found = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
for at = 1, #found, 2 do
  local model, said_ms = string.match(found[at], '^o (%d+ %d+) (%d+)')
  if tonumber(found[at + 1]) > now + (model and LONGEST_ORDER or LONGEST) then
    -- Noted before the clock was set back.
    redis.call('ZREM', key, found[at])
  elseif model then
    said[model], member[model] = tonumber(said_ms), found[at]
  end
end

local function keep(name, wait)
  redis.call('ZADD', key, text(now + wait), name)
  redis.call('PEXPIRE', key, LONGEST_ORDER / 1000)
end

local at = 1
while at <= #ARGV do
  if ARGV[at] == 'o' then
    local model, said_ms = ARGV[at + 1] .. ' ' .. ARGV[at + 2], tonumber(ARGV[at + 3])
    local last = at + 5 + 2 * ARGV[at + 5]
    if said_ms > (said[model] or 0) then
      if member[model] then redis.call('ZREM', key, member[model]) end
      local words = { 'o', model, ARGV[at + 3], text(now + math.min(ARGV[at + 4], LONGEST_ORDER)) }
      for word = at + 6, last do words[#words + 1] = ARGV[word] end
      said[model], member[model] = said_ms, table.concat(words, ' ')
      -- As long as any may hold, so that none that was said before it comes back.
      keep(member[model], LONGEST_ORDER)
    end
    at = last + 1
  else
    local target = ARGV[at] .. ' ' .. ARGV[at + 1]
    local wait = math.min(ARGV[at + 2], LONGEST)
    if now + wait > tonumber(redis.call('ZSCORE', key, target) or 0) then keep(target, wait) end
    at = at + 3
  end
end

local answer, orders = { now, 0 }, {}
local all = redis.call('ZRANGE', key, 0, MOST - 1, 'WITHSCORES')
for at = 1, #all, 2 do
  local high, low = string.match(all[at], '^(%d+) (%d+)$')
  if high then
    answer[2] = answer[2] + 1
    for _, number in ipairs({ high, low, all[at + 1] }) do answer[#answer + 1] = tonumber(number) end
  else
    local numbers = {}
    for number in string.gmatch(all[at], '%d+') do numbers[#numbers + 1] = tonumber(number) end
    if #numbers >= 4 then
      local order = { numbers[1], numbers[2], numbers[3], numbers[4], (#numbers - 4) / 2 }
      for number = 5, #numbers do order[#order + 1] = numbers[number] end
      orders[#orders + 1] = order
    end
  end
end
for _, order in ipairs(orders) do
  for _, number in ipairs(order) do answer[#answer + 1] = number end
end
return answer
