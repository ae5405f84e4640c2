-- Removes a job and all that is kept of it, whatever its state: a worker that has it lets go of it. ARGV[1] id. Answers 1; 0 if there
-- is no such job.

local job = read(ARGV[1], 'client', 'priority', 'bytes', 'entry', 'dead')
if not job.client then
  -- Of a dead letter the store may have kept its entry alone.
  local found = 0
  for _, entry in ipairs(redis.call('XRANGE', name('dead'), '-', '+')) do
    for at = 1, #entry[2], 2 do
      if entry[2][at] == 'id' and entry[2][at + 1] == job.id then found = redis.call('XDEL', name('dead'), entry[1]) end
    end
  end
  return found
end
redis.call('DEL', job_of(job.id))
forget_entry(job.entry)
leave_line(job)
leave_client(job)
redis.call('ZREM', name('notices'), job.id)
if job.dead then redis.call('XDEL', name('dead'), job.dead) end
return 1
