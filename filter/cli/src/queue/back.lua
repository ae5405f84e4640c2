-- Puts a job back that has no answer, or among the dead letters.
--
-- ARGV[1] id, [2] run, [3] in how many ms it may be taken again, [4] 1 if that was a try, [5] the most tries, [6] what it met,
-- [7] for how many ms a dead letter is kept, 0: nothing of it is, [8] 1 if its client is told.
-- Answers 'later', 'buried', 'failed', or 'lost': the job was cancelled, or another worker has it.

local job = read(ARGV[1], 'state', 'run', 'client', 'priority', 'bytes', 'entry', 'keep', 'at', 'until', 'tries')
if job.state ~= 'running' or job.run ~= ARGV[2] then return 'lost' end
local was_try = ARGV[4] == '1'
if was_try and tonumber(job.tries) >= tonumber(ARGV[5]) then
  local kept = tonumber(ARGV[7])
  if kept > 0 then bury(job, ARGV[6], kept) else fail(job, ARGV[6]) end
  notify(job, ARGV[8])
  return kept > 0 and 'buried' or 'failed'
end
forget_entry(job.entry)
redis.call('HDEL', job_of(job.id), 'entry', 'worker', 'started')
redis.call('HSET', job_of(job.id), 'state', 'queued')
if not was_try then redis.call('HINCRBY', job_of(job.id), 'tries', -1) end
-- It expires in time, however long it was to wait.
local due = math.max(now, math.min(now + tonumber(ARGV[3]), tonumber(job['until'])))
redis.call('ZADD', name('later'), text(due), job.id)
redis.call('ZADD', name('waiting:' .. job.priority), job.at, job.id)
lives(job.id, due - now + LIVES_MS)
return 'later'
