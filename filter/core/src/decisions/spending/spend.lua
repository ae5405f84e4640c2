-- What was spent on one day, as all Envoys add it up.
--
-- KEYS[1], a hash: "r<GAP>client<GAP>group<GAP>model<GAP>backend<GAP>tier" -> its numbers, with a space between two; "h<GAP>HOLDER" -> the number of
--   the last call of that Envoy which was added; v: the version of this record
-- ARGV: holder seq keep_ms rows_max, and for each row its words with gaps between, and its numbers
-- The answer: 0 if it had been added before; else 1, and how many rows had no room but in the one that is `other` in all its words.
--
-- Numbers are doubles: whole below 2^53. All is read first and written by one HSET: a store that refuses to write has changed nothing, and
-- a call that is repeated adds nothing.

local VERSION = '1'
local GAP = '\31'
-- A sum that would be more stays there.
local MOST = 9007199254740991
local NUMBERS = 14
local OTHER = table.concat({ 'r', 'other', 'other', 'other', 'other', 'other' }, GAP)

local function text(number) return string.format('%.0f', number) end

local day, holder, seq = KEYS[1], 'h' .. GAP .. ARGV[1], tonumber(ARGV[2])
local head = redis.call('HMGET', day, 'v', holder)
if head[1] and head[1] ~= VERSION then
  return redis.error_reply('VERSION ' .. day .. ' is of version ' .. head[1] .. ', and not of ' .. VERSION)
end
if seq <= tonumber(head[2] or 0) then return { 0 } end

local rows, room, merged = {}, ARGV[4] - redis.call('HLEN', day), 0
for at = 5, #ARGV, NUMBERS + 1 do
  local field = 'r' .. GAP .. ARGV[at]
  local line = not rows[field] and redis.call('HGET', day, field)
  if not rows[field] and not line then
    if room <= 0 and field ~= OTHER then
      field, merged = OTHER, merged + 1
      line = not rows[field] and redis.call('HGET', day, field)
    end
    room = room - 1
  end
  local sums = rows[field]
  if not sums then
    sums = {}
    for number in string.gmatch(line or '', '%d+') do sums[#sums + 1] = tonumber(number) end
    rows[field] = sums
  end
  for number = 1, NUMBERS do sums[number] = (sums[number] or 0) + ARGV[at + number] end
end

local writes = { 'v', VERSION, holder, ARGV[2] }
for field, sums in pairs(rows) do
  for at, number in ipairs(sums) do sums[at] = text(math.min(number, MOST)) end
  writes[#writes + 1], writes[#writes + 2] = field, table.concat(sums, ' ')
end
redis.call('HSET', day, unpack(writes))
redis.call('PEXPIRE', day, ARGV[3])
return { 1, merged }
