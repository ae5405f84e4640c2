-- Tells how the queue stands.
--
-- Answers {dead letters, that run, that wait for their time, {priority, how many wait, since how many ms the oldest does}…,
-- {client, how many wait or run, since how many ms the oldest is there}…}.

local function line(key)
  local oldest = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  return redis.call('ZCARD', key), oldest and math.max(0, now - oldest) or 0
end

local priorities, clients = {}, {}
for at, priority in ipairs(PRIORITIES) do priorities[at] = { priority, line(name('waiting:' .. priority)) } end
for at, client in ipairs(redis.call('SMEMBERS', name('clients'))) do clients[at] = { client, line(name('of:' .. client)) } end
local pending = redis.pcall('XPENDING', stream, GROUP)
return { redis.call('XLEN', name('dead')), pending.err and 0 or pending[1], redis.call('ZCARD', name('later')), priorities, clients }
