-- Takes the next job.
--
-- ARGV[1] the worker, [2] after how many ms without a sign of life a worker counts as dead, [3] 1 if its jobs are taken over,
-- [4] the most tries, [5] for how many ms dead letters are kept, then clients with a webhook.
-- Answers what became of others on the way, in how many ms the next of those is due that wait for their time, -1 if there is none, whether
-- jobs are taken over, and the job, if there is one: {{word, client, priority, id}…}, ms, 0 or 1, {id, run, entry, client, priority, kind, method, path, headers, body, model, tries}.

-- So many are looked at by one call, so that none takes long.
local MOST = 32
local worker, dead_after, takes_over = ARGV[1], ARGV[2], ARGV[3] == '1'
local tries_max, dead_kept, webhooks = tonumber(ARGV[4]), tonumber(ARGV[5]), told(6)
local events = {}
local function event(word, job) events[#events + 1] = { word, job.client, job.priority, job.id } end

local function group_is_there(answer)
  if not (type(answer) == 'table' and answer.err) then return true end
  if not string.find(answer.err, 'NOGROUP', 1, true) then error(answer.err) end
  redis.call('XGROUP', 'CREATE', stream, GROUP, '0', 'MKSTREAM')
  return false
end

-- Those whose time to wait is over get in line again.
for _, id in ipairs(redis.call('ZRANGEBYSCORE', name('later'), '-inf', text(now), 'LIMIT', 0, MOST)) do
  redis.call('ZREM', name('later'), id)
  local job = read(id, 'state', 'client', 'priority', 'entry')
  if job.state == 'queued' and not job.entry then
    local entry = redis.call('XADD', stream, '*', 'id', id, 'client', job.client, 'priority', job.priority)
    redis.call('HSET', job_of(id), 'entry', entry)
  end
end

local function of_the_dead()
  local from = '0-0'
  repeat
    local found = redis.pcall('XAUTOCLAIM', stream, GROUP, worker, dead_after, from, 'COUNT', 1)
    if not group_is_there(found) then return nil end
    -- An entry that was deleted comes as nothing before Redis 7.
    if found[2][1] then return found[2][1] end
    from = found[1]
  until from == '0-0'
end

local function of_the_line()
  local found = redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', 1, 'STREAMS', stream, '>')
  if not group_is_there(found) then
    found = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', 1, 'STREAMS', stream, '>')
  end
  return found and found[1] and found[1][2][1]
end

for _ = 1, MOST do
  local entry = takes_over and of_the_dead()
  local was_anothers = entry and true
  entry = entry or of_the_line()
  if not entry then break end
  local fields = {}
  for at = 1, #entry[2], 2 do fields[entry[2][at]] = entry[2][at + 1] end
  local job = read(fields.id or '', 'state', 'client', 'priority', 'bytes', 'at', 'until', 'tries', 'run', 'keep', 'entry', 'kind', 'method',
    'path', 'headers', 'body', 'model')
  if job.entry ~= entry[1] or not (job.state == 'queued' or (job.state == 'running' and was_anothers)) then
    -- Its client has cancelled it, or it is gone.
    forget_entry(entry[1])
  elseif tonumber(job['until']) <= now then
    fail(job, 'expired')
    notify(job, webhooks[job.client])
    event('expired', job)
  elseif tonumber(job.tries or 0) >= tries_max then
    bury(job, 'its workers died', dead_kept)
    notify(job, webhooks[job.client])
    event('buried', job)
  else
    if was_anothers then event('taken_over', job) end
    leave_line(job)
    local run, tries = tonumber(job.run or 0) + 1, tonumber(job.tries or 0) + 1
    redis.call('HSET', job_of(job.id), 'state', 'running', 'worker', worker, 'started', text(now), 'run', run, 'tries', tries, 'keep',
      text(keep_of(job)))
    lives(job.id, LIVES_MS)
    return { events, 0, 1, { job.id, run, job.entry, job.client, job.priority, job.kind or '', job.method or '', job.path or '', job.headers or '{}',
      job.body or '', job.model or '', tries } }
  end
end
local next = redis.call('ZRANGE', name('later'), 0, 0, 'WITHSCORES')[2]
return { events, next and math.max(0, next - now) or -1, takes_over and 1 or 0, false }
