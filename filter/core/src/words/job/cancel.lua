-- Ends a job of a client, while it waits and while it runs: its worker sees that when it next tells that it is alive.
--
-- KEYS as those of enqueue.lua; ARGV[1] id, [2] client, [3] kind, [4] how long it is still told of, in ms, [5] 'cancel'; 'end', and
-- it is forgotten if it is over already; 'delete', and it is forgotten
-- The answer: nil if the client has no such job of this kind, else what it was, as read.lua answers.

local WAITING = { high = KEYS[6], normal = KEYS[7], low = KEYS[8] }

local stream, job, own, bytes = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local id, client, kind, keep, how = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5]
local function text(number) return string.format('%.0f', number) end

local found = redis.call('HMGET', job, 'client', 'state', 'at', 'kind', 'model', 'status', 'answer_type', 'answer', 'why', 'bytes',
  'priority', 'entry', 'dead')
if not found[1] or found[1] ~= client or found[4] ~= kind then return false end
local state = found[2]
local TIME = redis.call('TIME')
local now = TIME[1] * 1000 + math.floor(TIME[2] / 1000)

local is_over = state ~= 'queued' and state ~= 'running'
if not is_over then
  -- First what a full store allows: it takes the rest then, too.
  redis.call('HDEL', job, 'body')
  redis.call('HSET', job, 'state', 'cancelled', 'ended', text(now))
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
if how == 'delete' or (how == 'end' and is_over) then
  redis.call('DEL', job)
  -- As a dead letter it has an entry of its own.
  if found[13] then redis.call('XDEL', stream .. ':dead', found[13]) end
end
local answer = { state, 0 }
for at = 3, 9 do answer[at] = found[at] or '' end
return answer
