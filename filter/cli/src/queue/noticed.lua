-- Says when a notice is to be sent again. ARGV[1] id, [2] in how many ms; 0: never, it has arrived or nobody wants it.

if ARGV[2] == '0' then return redis.call('ZREM', name('notices'), ARGV[1]) end
return redis.call('ZADD', name('notices'), 'XX', text(now + tonumber(ARGV[2])), ARGV[1])
