-- Ends a job of a client, while it waits and while it runs: its worker sees that when it next tells that it is alive.
--
-- KEYS as those of enqueue.lua; ARGV[1] id, [2] client, [3] how long it is still told of, in ms, [4] 'cancel'; 'end', and it is
-- forgotten if it is over already; 'delete', and it is forgotten
-- The answer: nil if the client has no such job, else what it was, as read.lua answers.

local WAITING = { high = KEYS[6], normal = KEYS[7], low = KEYS[8] }

local stream, job, own, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, client, keep, how = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local function text(number) return string.format('%.0f', number) end

local found = redis.call('HMGET', job, 'client', 'state', 'at', 'kind', 'model', 'status', 'answer_type', 'answer', 'why', 'bytes',
  'priority', 'entry')
if not found[1] or found[1] ~= client then return false end
local state = found[2]
local TIME = redis.call('TIME')
local now = TIME[1] * 1000 + math.floor(TIME[2] / 1000)

local is_over = state ~= 'queued' and state ~= 'running'
if not is_over then
  redis.call('HSET', job, 'state', 'cancelled', 'ended', text(now), 'body', '')
  redis.call('PEXPIREAT', job, text(now + keep))
  if redis.call('ZREM', own, id) == 1 then
    local held = (redis.call('HGET', bytes, client) or 0) - (found[10] or 0)
    if held > 0 then redis.call('HSET', bytes, client, text(held)) else redis.call('HDEL', bytes, client) end
  end
  redis.call('ZREM', WAITING[found[11]], id)
  if found[12] then
    redis.pcall('XACK', stream, 'workers', found[12])
    redis.call('XDEL', stream, found[12])
  end
end
if how == 'delete' or (how == 'end' and is_over) then redis.call('DEL', job) end
local answer = { state, 0 }
for at = 3, 9 do answer[at] = found[at] or '' end
return answer
