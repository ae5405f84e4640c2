-- One account's limits, as all Envoys share them.
--
-- A holder (one Envoy's process) takes an amount out of a limit before it spends it: its lease. A call reports what the holder
-- has spent of its leases, gives back what it does not need, and asks for more. For every limit holds
--     remainder = size - used - what all holders hold
-- and only a remainder is granted. So whatever is lost, late or dead, no more is spent than there is.
--
-- KEYS[1], a hash:
--   v          the version of this record
--   rev        grows with each change; `base` and `high`: see "what a store forgot" below
--   l:LIMIT    kind span size used at frac held turn short branch told
--              at: of a bucket when that was so, in us; of a window when it begins, in s. frac: what flowed off beyond whole
--              units, in units of 1/span. held: by all holders. turn: counts the windows, for what was held in another one is
--              void; of places, how many of those that are held are idle. short: until when others shall give back what they
--              do not need, in us. branch, told: see below.
--   h:HOLDER   seq, and for each limit: LIMIT held turn; of places, in the place of turn how many of them are idle. A holder
--              that is gone has its seq only.
--   r:HOLDER   the last answer it got; of a holder that is gone its rev only
-- KEYS[2], a sorted set: when each holder was last seen, in us; of one that is gone, less than zero: when that was noticed.
--
-- ARGV: holder seq lease_ms rev_seen, and for each limit
--   id kind size span window ack left give need want shadow used_seen
-- The answer: rev now holders, and for each limit
--   granted kept used held wait window ends recall
-- used: of places, those that are in use. ends: of a window, how long until it ends; of a bucket, until one unit less is used.
--
-- Numbers are doubles: whole below 2^53. Sizes are at most 1e15. All is read first and written at the end, by one HSET before
-- anything else: a store that refuses to write (full, a replica) has changed nothing.

local VERSION = '2'
local SECOND = 1000000
-- The most that `used` can be, so that sums stay whole.
local USED_MAX = 4000000000000000
-- How long others are asked to give back, after a need was not met.
local SHORT = SECOND
-- How long nothing is granted by a record that lacks what others know of: until each has told what it holds, on its tick.
local RETELL = SECOND / 2
-- How long the seq of a holder that is gone is remembered, so that its late repetition is not charged again.
local GONE = 3600 * SECOND
-- Nobody waits for longer, and it is still a whole number: 31 years.
local WAIT_MAX = 1000000000000000
-- How many holders are dealt with in one call.
local SWEEP_MAX = 100
-- A record that nobody touches is forgotten; a month is shorter.
local IDLE_MS = 40 * 86400 * 1000

local floor, max, min = math.floor, math.max, math.min

local TIME = redis.call('TIME')
local now = TIME[1] * SECOND + TIME[2]
local record, seen = KEYS[1], KEYS[2]
local holder, seq, lease, rev_seen = ARGV[1], tonumber(ARGV[2]), ARGV[3] * 1000, tonumber(ARGV[4])

-- Not tostring: that keeps 14 digits.
local function text(number) return string.format('%.0f', number) end

local function words(line)
  local list = {}
  for word in string.gmatch(line, '%S+') do list[#list + 1] = word end
  return list
end

-- The calendar, in UTC. Days since 1970, which began on a Thursday.

-- The first day of the month: years from March on, so that the leap day is the last.
local function month_start(day)
  local z = day + 719468
  local of_era = z % 146097
  local year = floor((of_era - floor(of_era / 1460) + floor(of_era / 36524) - floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + floor(year / 4) - floor(year / 100))
  local month = floor((5 * of_year + 2) / 153)
  return day - (of_year - floor((153 * month + 2) / 5))
end

-- When the window that a second lies in begins and ends.
local function bounds(span, second)
  local day = floor(second / 86400)
  if span == 'hour' then
    local start = second - second % 3600
    return start, start + 3600
  elseif span == 'day' then
    return day * 86400, (day + 1) * 86400
  elseif span == 'week' then
    local monday = day - (day + 3) % 7
    return monday * 86400, (monday + 7) * 86400
  end
  local first = month_start(day)
  return first * 86400, month_start(first + 31) * 86400
end

-- The limits that this call has to do with.

local limits = {}

local function parse(line)
  local w = words(line)
  return {
    kind = w[1], span = w[2], size = tonumber(w[3]), used = tonumber(w[4]), at = tonumber(w[5]),
    frac = tonumber(w[6]), held = tonumber(w[7]), turn = tonumber(w[8]), short = tonumber(w[9]),
    branch = tonumber(w[10]), told = tonumber(w[11]),
  }
end

local function limit(id)
  if limits[id] == nil then
    local line = redis.call('HGET', record, 'l:' .. id)
    limits[id] = line and parse(line) or false
  end
  return limits[id]
end

-- What flows in during less than a span, or in just one: whole units, and what is left over.
local function flown(size, span, time, frac)
  local whole = floor(size / span)
  local parts = (size - whole * span) * time + frac
  local units = floor(parts / span)
  return whole * time + units, parts - units * span
end

-- A bucket: what is used flows off, size units in each span.
local function decay(l, span)
  local time = now - l.at
  if time < -span then
    -- Nobody waits longer than a span because the clock was set back.
    l.used, l.frac, l.at = 0, 0, now
  elseif time > 0 then
    l.at = now
    local spans = floor(time / span)
    if spans >= l.used / l.size then
      l.used, l.frac = 0, 0
      return
    end
    local units, frac = flown(l.size, span, time - spans * span, l.frac)
    l.used = l.used - spans * l.size - units
    l.frac = frac
    if l.used <= 0 then l.used, l.frac = 0, 0 end
  end
end

-- How long until what is used of a bucket has fallen by so much: exact.
local function falling(l, span, units)
  if units <= 0 then return 0 end
  local spans = floor((units - 1) / l.size)
  local rest = units - spans * l.size
  -- The division is right to less than a microsecond.
  local time = max(0, floor(rest / l.size * span - l.frac / l.size) - 1)
  while (flown(l.size, span, time, l.frac)) < rest do time = time + 1 end
  return min(WAIT_MAX, spans * span + time + max(0, l.at - now))
end

-- A window of the calendar: answers when the present one ends.
local function turn(l, span)
  local start, ends = bounds(span, floor(now / SECOND))
  if l.at == ends then
    -- The clock was set back a little: the window that has begun goes on.
    start, ends = bounds(span, ends)
  end
  if l.at ~= start then
    l.used, l.held, l.at, l.turn, l.short, l.told = 0, 0, start, l.turn + 1, 0, 0
  end
  return ends
end

-- What stands there.

local head = redis.call('HMGET', record, 'v', 'rev', 'base', 'high', 'h:' .. holder, 'r:' .. holder)
if head[1] and head[1] ~= VERSION then
  return redis.error_reply('VERSION ' .. record .. ' is of version ' .. head[1] .. ', and not of ' .. VERSION)
end
local asks, fields = {}, {}
for at = 5, #ARGV, 12 do
  local ask = {
    id = ARGV[at], kind = ARGV[at + 1], size = tonumber(ARGV[at + 2]), span = ARGV[at + 3],
    window = tonumber(ARGV[at + 4]), left = tonumber(ARGV[at + 6]), need = tonumber(ARGV[at + 8]),
    want = tonumber(ARGV[at + 9]), shadow = ARGV[at + 10] == '1', used_seen = tonumber(ARGV[at + 11]),
    spent = ARGV[at + 5] - ARGV[at + 6] - ARGV[at + 7],
  }
  asks[#asks + 1] = ask
  fields[#fields + 1] = 'l:' .. ask.id
end

local own = head[5] and words(head[5]) or {}
local last = tonumber(own[1] or 0)
local score = tonumber(redis.call('ZSCORE', seen, holder) or -1)
local alive = head[5] and score >= 0 and now - score <= lease

-- A repeated call changes nothing and is answered as before.

local repeated = seq <= last
local same = #own >= 1 + 3 * #asks
for at, ask in ipairs(asks) do same = same and own[3 * at - 1] == ask.id end
if repeated and alive and same and head[6] then
  redis.call('ZADD', seen, now, holder)
  local reply = words(head[6])
  for at, word in ipairs(reply) do reply[at] = tonumber(word) end
  return reply
end
if repeated then
  -- What it spent was charged then. Its leases have ended since, or are of other limits: it has to ask anew.
  alive = false
  for _, ask in ipairs(asks) do ask.need, ask.want = 0, 0 end
end

if #fields > 0 then
  for at, line in ipairs(redis.call('HMGET', record, unpack(fields))) do
    limits[asks[at].id] = line and parse(line) or false
  end
end

-- While one configuration follows another in a process, each calls for the limits that it has. What the process holds of the
-- others it goes on holding.

local elsewhere = {}
if alive then
  local asked = {}
  for _, ask in ipairs(asks) do asked[ask.id] = true end
  for at = #own - 2, 2, -3 do
    if not asked[own[at]] then
      for _ = 1, 3 do elsewhere[#elsewhere + 1] = table.remove(own, at) end
    end
  end
end

-- Holders that are gone.

local writes, removed, scores, forgotten = {}, {}, {}, {}

-- What a holder holds goes back. What it held of a window that is over is gone with that.
local function release(entry)
  for at = 2, #entry, 3 do
    local l = limit(entry[at])
    if l and l.kind == 's' then
      l.held, l.turn = l.held - entry[at + 1], l.turn - entry[at + 2]
    elseif l and l.turn == tonumber(entry[at + 2]) then
      l.held = l.held - entry[at + 1]
    end
  end
end

local function sweep(from, to) return redis.call('ZRANGEBYSCORE', seen, from, to, 'LIMIT', 0, SWEEP_MAX) end

for _, other in ipairs(sweep('0', '(' .. text(now - lease))) do
  if other ~= holder then
    local stood = redis.call('HMGET', record, 'h:' .. other, 'r:' .. other)
    local entry = words(stood[1] or '0')
    release(entry)
    writes[#writes + 1], writes[#writes + 2] = 'h:' .. other, entry[1]
    -- A fail-over may take longer than a lease, and who comes back after it has to find what it was told.
    if stood[2] then writes[#writes + 1], writes[#writes + 2] = 'r:' .. other, string.match(stood[2], '%d+') end
    scores[#scores + 1], scores[#scores + 2] = text(-now), other
  end
end
for _, other in ipairs(sweep('(' .. text(GONE - now), '(0')) do
  if other ~= holder then
    removed[#removed + 1], removed[#removed + 2] = 'h:' .. other, 'r:' .. other
    forgotten[#forgotten + 1] = other
  end
end
-- The clock was set back: nobody stays longer because of that.
for _, other in ipairs(sweep('(' .. text(now + lease), '+inf')) do
  scores[#scores + 1], scores[#scores + 2] = text(now), other
end
release(own)
local present = redis.call('ZCOUNT', seen, text(max(0, now - lease)), '+inf')
if score < 0 or now - score > lease then present = present + 1 end

-- What a store forgot.
--
-- After a fail-over or a FLUSHALL a holder has seen changes that are not there. A record begins anew at `base`, which is the time:
-- above all numbers of before. Who has seen a number below it, and above `high`, knows of what was forgotten: of windows `used` gets
-- what he was told beyond what others have told already. So does a holder whose own last answer here is older than the one that it
-- had: so a loss is noticed however many changes others have made since.

local rev, base, high = tonumber(head[2] or 0), tonumber(head[3] or 0), tonumber(head[4] or 0)
local answered = head[6] and tonumber(string.match(head[6], '%d+')) or rev_seen
local forgot_own = rev_seen > answered
if not head[2] then
  base = now
  rev = base
elseif rev_seen > rev or (forgot_own and rev_seen >= base) then
  base, high = max(now, rev_seen + 1, rev + 1), rev
  rev = base
end
local knows = forgot_own or (rev_seen > high and rev_seen < base)
if knows then high = max(high, rev_seen) end
rev = rev + 1
-- What others hold is not known either, before they have called.
local retells = high > 0 and now >= base and now - base < RETELL

-- Each limit: time passes, and what was spent is charged.

for _, ask in ipairs(asks) do
  local l = limits[ask.id]
  if not l then
    l = { used = 0, at = 0, frac = 0, held = 0, turn = 0, short = 0, branch = 0, told = 0 }
    if ask.kind == 'b' then l.at = now elseif ask.kind == 'w' then l.at = -1 end
    limits[ask.id] = l
  end
  l.kind, l.size, l.span = ask.kind, ask.size, ask.span
  ask.limit, ask.ends = l, 0
  ask.kept = alive and max(ask.left, 0) or 0
  local charged = not repeated
  if ask.kind == 'b' then
    decay(l, tonumber(ask.span))
  elseif ask.kind == 'w' then
    ask.ends = turn(l, ask.span)
    if ask.window ~= l.at then
      charged, ask.kept = false, 0
    elseif knows then
      if l.branch ~= base then
        l.used, l.branch, l.told = max(l.used, ask.used_seen), base, ask.used_seen
      elseif ask.used_seen > l.told then
        l.used, l.told = l.used + ask.used_seen - l.told, ask.used_seen
      end
    end
  end
  ask.others, ask.in_use = l.held, 0
  if ask.kind == 's' then
    ask.in_use = max(0, ask.spent)
  elseif charged then
    l.used = l.used + ask.spent
    if l.used <= 0 then
      -- What flowed off by itself cannot be given back as well.
      ask.kept = max(0, ask.kept + l.used)
      l.used, l.frac = 0, 0
    end
  end
  l.used = min(l.used, USED_MAX)
  if l.short > now + SHORT then l.short = 0 end
  ask.rest = l.size - l.used - ask.others - ask.in_use - ask.kept
end

-- All needs that count are met, or none is.

local all_fit = true
for _, ask in ipairs(asks) do
  ask.fits = ask.need <= ask.rest and not retells
  if ask.need > 0 and not ask.fits then
    ask.limit.short = now + SHORT
    all_fit = all_fit and ask.shadow
  end
end

local reply = { rev, now, present }
local entry = { text(max(seq, last)) }
for _, ask in ipairs(asks) do
  local l, granted, wait = ask.limit, 0, 0
  local is_met = ask.need <= 0 or (ask.fits and (ask.shadow or all_fit))
  if is_met then
    granted = max(ask.need, 0)
    local rest = retells and 0 or ask.rest - granted
    if rest > 0 and l.short > now then
      -- For those who wait as well, and nothing ahead.
      if ask.need > 0 then granted = granted + min(rest, max(ask.want, 0)) end
    elseif rest > 0 and (ask.need > 0 or ask.want > 0) then
      granted = granted + min(rest, max(ask.want, floor(rest / (4 * present))))
    end
  elseif ask.kind == 'b' then
    wait = falling(l, tonumber(ask.span), ask.need - ask.rest - ask.others)
  elseif ask.kind == 'w' then
    wait = ask.need > ask.rest + ask.others and ask.ends * SECOND - now or 0
  else
    wait = ask.need <= ask.rest + l.turn and 0 or SECOND
  end
  local idle = ask.kept + granted
  local holds = ask.in_use + idle
  l.held = ask.others + holds
  local used, turned, window, ends = l.used, l.turn, 0, 0
  if ask.kind == 's' then
    l.turn = l.turn + idle
    used, turned = l.held - l.turn, idle
  elseif ask.kind == 'w' then
    window, ends = l.at, ask.ends * SECOND - now
  elseif used > 0 then
    ends = falling(l, tonumber(ask.span), 1)
  end
  for _, part in ipairs({ ask.id, text(holds), text(turned) }) do entry[#entry + 1] = part end
  local told = { granted, ask.kept, used, l.held, wait, window, ends, l.short > now and 1 or 0 }
  for _, number in ipairs(told) do reply[#reply + 1] = number end
end

for _, part in ipairs(elsewhere) do entry[#entry + 1] = part end

-- All is known: now it is written.

local function write(field, value) writes[#writes + 1], writes[#writes + 2] = field, value end

write('v', VERSION)
write('rev', text(rev))
write('base', text(base))
write('high', text(high))
for id, l in pairs(limits) do
  if l then
    local numbers = { l.size, l.used, l.at, l.frac, l.held, l.turn, l.short, l.branch, l.told }
    for at, number in ipairs(numbers) do numbers[at] = text(number) end
    write('l:' .. id, l.kind .. ' ' .. l.span .. ' ' .. table.concat(numbers, ' '))
  end
end
write('h:' .. holder, table.concat(entry, ' '))
local answer = {}
for at, number in ipairs(reply) do answer[at] = text(number) end
write('r:' .. holder, table.concat(answer, ' '))
redis.call('HSET', record, unpack(writes))
scores[#scores + 1], scores[#scores + 2] = text(now), holder
redis.call('ZADD', seen, unpack(scores))
if #removed > 0 then redis.call('HDEL', record, unpack(removed)) end
if #forgotten > 0 then redis.call('ZREM', seen, unpack(forgotten)) end
redis.call('PEXPIRE', record, IDLE_MS)
redis.call('PEXPIRE', seen, IDLE_MS)
return reply
