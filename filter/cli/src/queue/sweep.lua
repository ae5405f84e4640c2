-- Ends what has waited too long, and clears away what is left of jobs that the store has forgotten.
--
-- ARGV[1] for how many ms dead letters are kept, [2] how many of them, then clients with a webhook. Answers as take.lua: {{word, client, priority, id}…}.

local MOST = 100
local LETTERS_MOST = 1000
-- A worker that ended without a word is forgotten after this.
local IDLE_MS = 3600000
local events, webhooks = {}, told(3)

for _, priority in ipairs(PRIORITIES) do
  local line = name('waiting:' .. priority)
  for _, id in ipairs(redis.call('ZRANGE', line, 0, MOST - 1)) do
    local job = read(id, 'state', 'client', 'priority', 'bytes', 'until', 'entry', 'keep')
    if job.state ~= 'queued' then
      redis.call('ZREM', line, id)
      redis.call('ZREM', name('later'), id)
    elseif tonumber(job['until']) <= now then
      fail(job, 'expired')
      notify(job, webhooks[job.client])
      events[#events + 1] = { 'expired', job.client, job.priority, id }
    end
  end
end

for _, client in ipairs(redis.call('SMEMBERS', name('clients'))) do
  local own, has_lost = name('of:' .. client), false
  for _, id in ipairs(redis.call('ZRANGE', own, 0, MOST - 1)) do
    if redis.call('EXISTS', job_of(id)) == 0 then
      redis.call('ZREM', own, id)
      has_lost = true
    end
  end
  if redis.call('ZCARD', own) == 0 then
    redis.call('SREM', name('clients'), client)
    redis.call('HDEL', name('bytes'), client)
  elseif has_lost then
    -- How long those were that are gone, nobody knows any more.
    local bytes = 0
    for _, id in ipairs(redis.call('ZRANGE', own, 0, -1)) do
      bytes = bytes + (redis.call('HGET', job_of(id), 'bytes') or 0)
    end
    redis.call('HSET', name('bytes'), client, text(bytes))
  end
end

redis.call('XTRIM', name('dead'), 'MINID', text(math.max(0, now - tonumber(ARGV[1]))))
local over = redis.call('XLEN', name('dead')) - tonumber(ARGV[2])
if over > 0 then
  for _, letter in ipairs(redis.call('XRANGE', name('dead'), '-', '+', 'COUNT', math.min(over, LETTERS_MOST))) do
    local of = {}
    for at = 1, #letter[2], 2 do of[letter[2][at]] = letter[2][at + 1] end
    redis.call('XDEL', name('dead'), letter[1])
    local job = read(of.id, 'dead', 'keep', 'until', 'ended')
    if job.dead == letter[1] then
      -- Its client is told that it has failed as long as of any other.
      redis.call('HDEL', job_of(of.id), 'body', 'dead')
      redis.call('PEXPIRE', job_of(of.id), text(math.max(1, job.ended + keep_of(job) - now)))
    end
    events[#events + 1] = { 'dropped', of.client, of.priority, of.id }
  end
end
local consumers = redis.pcall('XINFO', 'CONSUMERS', stream, GROUP)
for _, consumer in ipairs(consumers.err and {} or consumers) do
  local of = {}
  for at = 1, #consumer, 2 do of[consumer[at]] = consumer[at + 1] end
  if of.pending == 0 and of.idle > IDLE_MS then redis.call('XGROUP', 'DELCONSUMER', stream, GROUP, of.name) end
end
return events
