-- Keeps the answer of a job.
--
-- ARGV[1] id, [2] run, [3] status, [4] the answer's type, [5] the answer, [6] 1 if its client is told.
-- Answers 1; or 0, and the answer is not wanted: the job was cancelled, or another worker has it.

local job = read(ARGV[1], 'state', 'run', 'client', 'priority', 'bytes', 'entry', 'keep', 'until')
if job.state ~= 'running' or job.run ~= ARGV[2] then return 0 end
forget_entry(job.entry)
redis.call('HDEL', job_of(job.id), 'body', 'entry')
redis.call('HSET', job_of(job.id), 'state', 'done', 'status', ARGV[3], 'answer_type', ARGV[4], 'answer', ARGV[5], 'ended', text(now))
redis.call('PEXPIRE', job_of(job.id), text(keep_of(job)))
leave_client(job)
notify(job, ARGV[6])
return 1
