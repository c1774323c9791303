-- Finds the epoch in force, or begins one where the log was lost or is in doubt (step 11). Whoever comes first begins it;
-- the others find it.
--
-- KEYS  meta, checkpoint, the one that is being written, stream, members
-- ARGV  identity of this server, epoch to begin (8 bytes), the caller's epoch or '', the highest position the caller knows of it, epochs
--       that must not go on (8 bytes each), version of the layout, field and value of the caller's fence
local meta, checkpoint, unfinished, stream, members = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local call = redis.call
local m = call('HMGET', meta, 'epoch', 'head', 'checkpoint', 'checkpoint_parts', 'identity', 'version', 'after')
if m[1] and m[6] ~= ARGV[6] then return {'version', m[6] or '?'} end

-- Whether all that was appended is in the checkpoint, or in the stream.
local function is_whole()
  local head, upto = tonumber(m[2]), tonumber(m[3])
  if not is_there(checkpoint, m[4], stream, head) then return false end
  if head == 0 then return true end
  if call('XREVRANGE', stream, '+', '-', 'COUNT', 1)[1][1] ~= head .. '-0' then return false end
  if head == upto then return true end
  local next = call('XRANGE', stream, (upto + 1) .. '-0', '+', 'COUNT', 1)[1]
  return next[2][1] == 'f' and tonumber(next[2][2]) <= upto + 1
end

local sound = m[1] and m[5] == ARGV[1] and is_whole()
-- Somebody was told of a position that this log does not have.
if sound and m[1] == ARGV[3] and tonumber(m[2]) < tonumber(ARGV[4]) then sound = false end
for at = 1, #ARGV[5], 8 do
  if m[1] == string.sub(ARGV[5], at, at + 7) then sound = false end
end
-- From here on, what the caller sent before does nothing.
call('HSET', members, ARGV[7], ARGV[8])
if sound then return {'ok', m[1]} end
-- Who had joined before may not be in the list that this server has.
local time = call('TIME')
call('HSET', members, ':since', string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000)))
-- The epochs that end with this step, the last first: whoever is in the new one has nothing of their time. What the caller was in may go
-- on on another server, so it only counts where this one has lost what it had.
local after = string.sub((m[1] or ARGV[3]) .. (m[7] or ''), 1, 16 * 8)
call('UNLINK', meta, checkpoint, unfinished, stream)
call('HSET', meta, 'epoch', ARGV[2], 'head', 0, 'bytes', 0, 'records', 0, 'checkpoint', 0, 'checkpoint_parts', 0, 'identity', ARGV[1], 'version', ARGV[6],
  'after', after)
return {'begun', ARGV[2]}
