-- Tells a client of a job of its own.
--
-- KEYS as those of enqueue.lua; ARGV[1] id, [2] client, [3] kind
-- The answer: nil if it has no such job of this kind, else state, how many wait before it, and the fields below.

local job = KEYS[2]
local found = redis.call('HMGET', job, 'client', 'state', 'at', 'kind', 'model', 'status', 'answer_type', 'answer', 'why')
if not found[1] or found[1] ~= ARGV[2] or found[4] ~= ARGV[3] then return false end
local before = 0
if found[2] == 'queued' then
  -- Of those that came in the same millisecond, all are before it but itself.
  for at = 6, 8 do before = before + redis.call('ZCOUNT', KEYS[at], '-inf', found[3]) end
  before = math.max(0, before - 1)
end
local answer = { found[2], before }
for at = 3, 9 do answer[at] = found[at] or '' end
return answer
