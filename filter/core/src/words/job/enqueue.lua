-- Puts a request into the queue, if its client may have one more.
--
-- KEYS[1] the stream, [2] the job, [3] the jobs of its client, [4] the bytes of each client, [5] the names of all clients,
-- [6] [7] [8] what waits with priority high, normal, low
-- ARGV[1] id, [2] client, [3] priority, [4] the most jobs, [5] the most bytes, [6] how long it may wait and [7] how long its answer
-- is kept, in ms, [8] the length of its body, then names and values of its other fields
-- The answer: {1, how many wait before it}, or {0, ms until the client's oldest is over} if its part of the queue is full.

-- What was put there once is not put there again: the same call may come twice.
if redis.call('EXISTS', KEYS[2]) == 1 then return { 1, 0 } end

-- So many that nobody has swept are cleared away by one call.
local STALE_MOST = 16
local WAITING = { high = KEYS[6], normal = KEYS[7], low = KEYS[8] }

local stream, job, own, bytes, clients = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local id, client, priority = ARGV[1], ARGV[2], ARGV[3]
local age, keep, length = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local function text(number) return string.format('%.0f', number) end

local TIME = redis.call('TIME')
local now = TIME[1] * 1000 + math.floor(TIME[2] / 1000)

-- What has expired is in no queue any more.
local stale = {}
local job_of = string.sub(job, 1, -1 - #id)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', own, '-inf', text(now - age - keep), 'LIMIT', 0, STALE_MOST)) do
  if redis.call('EXISTS', job_of .. old) == 0 then stale[#stale + 1] = old end
end
local count = redis.call('ZCARD', own) - #stale
local held = count > 0 and tonumber(redis.call('HGET', bytes, client) or 0) or 0
if #stale > 0 then
  -- Nobody has given back the bytes of those, and nobody knows any more how many they were.
  held = 0
  for _, other in ipairs(redis.call('ZRANGE', own, 0, -1)) do
    held = held + tonumber(redis.call('HGET', job_of .. other, 'bytes') or 0)
  end
end
if count >= tonumber(ARGV[4]) or held + length > tonumber(ARGV[5]) then
  local oldest = redis.call('ZRANGE', own, #stale, #stale, 'WITHSCORES')[2]
  return { 0, oldest and math.max(0, oldest + age - now) or 0 }
end

local fields = { 'id', id, 'client', client, 'priority', priority, 'state', 'queued', 'at', text(now), 'until', text(now + age),
  'tries', '0', 'bytes', text(length) }
for at = 9, #ARGV do fields[#fields + 1] = ARGV[at] end
-- A store that is full, or a replica, refuses here: nothing has been written yet.
redis.call('HSET', job, unpack(fields))
redis.call('PEXPIREAT', job, text(now + age + keep))
if #stale > 0 then
  redis.call('ZREM', own, unpack(stale))
  for _, waiting in pairs(WAITING) do redis.call('ZREM', waiting, unpack(stale)) end
end
redis.call('ZADD', own, text(now), id)
redis.call('HSET', bytes, client, text(held + length))
redis.call('SADD', clients, client)
redis.call('ZADD', WAITING[priority], text(now), id)
local entry = redis.call('XADD', stream, '*', 'id', id, 'client', client, 'priority', priority)
redis.call('HSET', job, 'entry', entry)
local before = -1
for _, waiting in pairs(WAITING) do before = before + redis.call('ZCARD', waiting) end
return { 1, before }
