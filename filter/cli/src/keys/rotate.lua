-- KEYS[1]: the keys. ARGV: a new one's hash and entry; then for each old one its hash, its entry as it was read, and as it becomes.
-- Answers 1, or 0 and has changed nothing: another operator was faster.
for at = 3, #ARGV, 3 do
  if redis.call('HGET', KEYS[1], ARGV[at]) ~= ARGV[at + 1] then return 0 end
end
local change = { ARGV[1], ARGV[2] }
for at = 3, #ARGV, 3 do
  change[#change + 1] = ARGV[at]
  change[#change + 1] = ARGV[at + 2]
end
for at = 1, #change, 2 do
  redis.call('HSET', KEYS[1], change[at], change[at + 1])
end
return 1
