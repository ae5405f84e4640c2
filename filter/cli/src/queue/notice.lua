-- Takes a notice that is due, and hides it for a while: who takes it may die.
--
-- ARGV[1] for how many ms it is hidden. Answers {id, client, state, kind, when it ended, how often its notice was sent, this time
-- included}, or nothing.

for _, id in ipairs(redis.call('ZRANGEBYSCORE', name('notices'), '-inf', text(now), 'LIMIT', 0, 16)) do
  local job = read(id, 'client', 'state', 'kind', 'ended')
  if job.client then
    redis.call('ZADD', name('notices'), text(now + tonumber(ARGV[1])), id)
    local times = redis.call('HINCRBY', job_of(id), 'notices', 1)
    return { id, job.client, job.state, job.kind or 'job', job.ended or text(now), times }
  end
  redis.call('ZREM', name('notices'), id)
end
return false
