-- What an operator does to what is used: `tollgate budget give` and `reset`. The record is described in account.lua.
-- KEYS[1]: the record. ARGV: for each limit its id, and how much less is used; nothing for all of it.
-- The answer: for each limit what was used before and is used now; an empty text where there is no such limit.
local version = redis.call('HGET', KEYS[1], 'v')
if version and version ~= '2' then
  return redis.error_reply('VERSION ' .. KEYS[1] .. ' is of version ' .. version .. ', and not of 2')
end
local writes, reply = {}, {}
for at = 1, #ARGV, 2 do
  local field = 'l:' .. ARGV[at]
  local line = redis.call('HGET', KEYS[1], field)
  reply[#reply + 1] = ''
  if line then
    local words = {}
    for word in string.gmatch(line, '%S+') do words[#words + 1] = word end
    local before = tonumber(words[4])
    local used = 0
    if ARGV[at + 1] ~= '' then used = math.max(0, before - ARGV[at + 1]) end
    words[4] = string.format('%.0f', used)
    -- The fraction that has flowed off is of what is used.
    if used == 0 then words[6] = '0' end
    writes[#writes + 1], writes[#writes + 2] = field, table.concat(words, ' ')
    reply[#reply] = string.format('%.0f %.0f', before, used)
  end
end
if #writes > 0 then
  redis.call('HSET', KEYS[1], unpack(writes))
  redis.call('HINCRBY', KEYS[1], 'rev', 1)
end
return reply
