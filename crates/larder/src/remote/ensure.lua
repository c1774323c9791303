-- Finds the epoch in force, or begins one where the log was lost or is in doubt (step 11). Whoever comes first begins it;
-- the others find it.
--
-- KEYS  meta, table, stream, members
-- ARGV  identity of this server, epoch to begin (8 bytes), lines of its table, the caller's epoch or '', the highest position
--       the caller knows of it, epochs that must not go on (8 bytes each), version of the layout, field and value of the
--       caller's fence
local meta, tbl, stream = KEYS[1], KEYS[2], KEYS[3]
local m = redis.call('HMGET', meta, 'epoch', 'head', 'lines', 'identity', 'version', 'after')
if m[1] and m[5] ~= ARGV[7] then return {'version', m[5] or '?'} end
local sound = m[1] and m[4] == ARGV[1] and redis.call('STRLEN', tbl) == tonumber(m[3] or 0) * 64
-- Somebody was told of a position that this log does not have.
if sound and m[1] == ARGV[4] and tonumber(m[2]) < tonumber(ARGV[5]) then sound = false end
for at = 1, #ARGV[6], 8 do
  if m[1] == string.sub(ARGV[6], at, at + 7) then sound = false end
end
-- From here on, what the caller sent before writes no entries.
redis.call('HSET', KEYS[4], ARGV[8], ARGV[9])
if sound then return {'ok', m[1], tonumber(m[2]), tonumber(m[3])} end
-- Who had joined before may not be in the list that this server has.
local time = redis.call('TIME')
redis.call('HSET', KEYS[4], ':since', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
-- The epochs that end with this step, the last first: whoever is in the new one has nothing of their time. What the caller was in may go
-- on on another server, so it only counts where this one has lost what it had.
local after = string.sub((m[1] or ARGV[4]) .. (m[6] or ''), 1, 16 * 8)
redis.call('UNLINK', meta, tbl, stream)
redis.call('SETRANGE', tbl, tonumber(ARGV[3]) * 64 - 1, '\0')
redis.call('HSET', meta, 'epoch', ARGV[2], 'head', 0, 'lines', ARGV[3], 'identity', ARGV[1], 'version', ARGV[7], 'everything', 0, 'after', after)
return {'begun', ARGV[2], 0, tonumber(ARGV[3])}
