-- What all scripts of the queue begin with.
--
-- KEYS[1] is the stream, with whose name all keys of the queue begin: they share a slot of a cluster. The first write of each script
-- is one that a full store allows, or its only one, so that no change is ever half done.

local stream = KEYS[1]
local GROUP = 'workers'
local PRIORITIES = { 'high', 'normal', 'low' }
-- A job that a worker has lives at least so long, however late it was begun.
local LIVES_MS = 600000
local KEPT_MS = 3600000

local TIME = redis.call('TIME')
local now = TIME[1] * 1000 + math.floor(TIME[2] / 1000)

local function text(number) return string.format('%.0f', number) end
local function name(what) return stream .. ':' .. what end
local function job_of(id) return name('job:' .. id) end

local function read(id, ...)
  local names, job = { ... }, { id = id }
  local values = redis.call('HMGET', job_of(id), ...)
  for at, field in ipairs(names) do job[field] = values[at] or nil end
  return job
end

local function life(id) return redis.call('PTTL', job_of(id)) end

local function lives(id, ms)
  if life(id) < ms then redis.call('PEXPIRE', job_of(id), text(ms)) end
end

-- How long its answer is kept: what the store keeps it beyond the time that it may wait, and the first take notes.
local function keep_of(job)
  return tonumber(job.keep) or math.max(life(job.id) - (tonumber(job['until']) - now), KEPT_MS / 60)
end

local function forget_entry(entry)
  if not entry then return end
  -- Where nobody has taken anything yet there is no group.
  redis.pcall('XACK', stream, GROUP, entry)
  redis.call('XDEL', stream, entry)
end

local function leave_line(job)
  redis.call('ZREM', name('waiting:' .. job.priority), job.id)
  redis.call('ZREM', name('later'), job.id)
end

local function leave_client(job)
  local own, bytes = name('of:' .. job.client), name('bytes')
  if redis.call('ZREM', own, job.id) == 0 then return end
  if redis.call('ZCARD', own) == 0 then
    redis.call('SREM', name('clients'), job.client)
    redis.call('HDEL', bytes, job.client)
  elseif redis.call('HINCRBY', bytes, job.client, -(job.bytes or 0)) <= 0 then
    redis.call('HDEL', bytes, job.client)
  end
end

-- Ends it without an answer: nothing of what it asked is kept.
local function fail(job, why)
  forget_entry(job.entry)
  leave_line(job)
  leave_client(job)
  redis.call('HDEL', job_of(job.id), 'body', 'entry')
  redis.call('HSET', job_of(job.id), 'state', 'failed', 'why', why, 'ended', text(now))
  redis.call('PEXPIRE', job_of(job.id), text(keep_of(job)))
end

-- Puts it among the dead letters, with what it asked: an operator may queue it again.
local function bury(job, why, kept)
  forget_entry(job.entry)
  leave_line(job)
  leave_client(job)
  redis.call('HDEL', job_of(job.id), 'entry')
  local dead = redis.call('XADD', name('dead'), '*', 'id', job.id, 'client', job.client, 'priority', job.priority, 'why', why)
  redis.call('HSET', job_of(job.id), 'state', 'failed', 'why', why, 'ended', text(now), 'dead', dead)
  redis.call('PEXPIRE', job_of(job.id), text(math.max(kept, keep_of(job))))
end

local function notify(job, wanted)
  if wanted == '1' then redis.call('ZADD', name('notices'), text(now), job.id) end
end

-- Clients that are told of the end of their jobs, as the last arguments.
local function told(from)
  local clients = {}
  for at = from, #ARGV do clients[ARGV[at]] = '1' end
  return clients
end
