-- Queues a dead letter again, as if it had just come. ARGV[1] id. Answers 1; 0 if there is no such dead letter.

local job = read(ARGV[1], 'state', 'client', 'priority', 'bytes', 'at', 'until', 'dead', 'keep', 'body')
if job.state ~= 'failed' or not job.dead or not job.body then return 0 end
local age = tonumber(job['until']) - tonumber(job.at)
redis.call('XDEL', name('dead'), job.dead)
redis.call('HDEL', job_of(job.id), 'dead', 'why', 'ended', 'worker', 'started', 'notices')
-- What was to be told of its first end is not so any more.
redis.call('ZREM', name('notices'), job.id)
local entry = redis.call('XADD', stream, '*', 'id', job.id, 'client', job.client, 'priority', job.priority)
redis.call('HSET', job_of(job.id), 'state', 'queued', 'tries', '0', 'at', text(now), 'until', text(now + age), 'entry', entry)
redis.call('PEXPIRE', job_of(job.id), text(age + keep_of(job)))
redis.call('ZADD', name('waiting:' .. job.priority), text(now), job.id)
redis.call('ZADD', name('of:' .. job.client), text(now), job.id)
redis.call('HINCRBY', name('bytes'), job.client, job.bytes or 0)
redis.call('SADD', name('clients'), job.client)
return 1
