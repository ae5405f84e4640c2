-- Tells that a worker lives and still has its jobs, and asks which of them are not its own any more.
--
-- ARGV[1] the worker, then for each of its jobs: id, run, entry. Answers the ids of those that it is to let go of.

local gone = {}
for at = 2, #ARGV, 3 do
  local job = read(ARGV[at], 'state', 'run')
  if job.state == 'running' and job.run == ARGV[at + 1] then
    redis.call('XCLAIM', stream, GROUP, ARGV[1], 0, ARGV[at + 2], 'JUSTID')
    lives(job.id, LIVES_MS)
  else
    gone[#gone + 1] = job.id
  end
end
return gone
