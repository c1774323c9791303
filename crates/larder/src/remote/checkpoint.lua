-- Writes a checkpoint: a copy of the index of one instance, at a position that it had applied, by which the stream needs to have only what
-- came after. It is written beside the one in force and takes its place in one step; of several that write one, whoever began last does.
--
-- KEYS  meta, checkpoint, the one that is being written, stream
-- ARGV  epoch (8 bytes), token of the writer, ms that it may take for a step, what is asked, then:
--   begin   position of the checkpoint, bytes and records since the last by which one is due
--   part    how many there are before it, its bytes
--   finish  position of the checkpoint, how many parts there are, what comes in front of them
--   abandon
local meta, checkpoint, unfinished, stream = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local call, token, asked = redis.call, ARGV[2], ARGV[4]

local m = call('HMGET', meta, 'epoch', 'checkpoint', 'writer', 'writer_until', 'bytes', 'records', 'writer_bytes', 'writer_records', 'head')
if m[1] ~= ARGV[1] then return 'epoch' end
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end

if asked == 'begin' then
  -- A clock that was set back must not keep a writer that is gone.
  if m[3] and tonumber(m[4]) > now and tonumber(m[4]) <= now + 2 * ARGV[3] then return 'held' end
  if tonumber(ARGV[5]) <= tonumber(m[2]) then return 'done' end
  if tonumber(m[5]) < tonumber(ARGV[6]) and tonumber(m[6]) < tonumber(ARGV[7]) then return 'done' end
  -- One that has less than half of what came since would hardly make room.
  if ARGV[5] - m[2] < (m[9] - m[2]) / 2 then return 'lags' end
  -- Before anything is written, which a server that is full refuses.
  call('UNLINK', unfinished)
  call('HSET', meta, 'writer', token, 'writer_until', text(now + ARGV[3]), 'writer_bytes', m[5], 'writer_records', m[6])
  return 'ok'
end

if m[3] ~= token then return 'held' end
if asked == 'abandon' then
  call('UNLINK', unfinished)
  call('HDEL', meta, 'writer', 'writer_until', 'writer_bytes', 'writer_records')
  return 'ok'
end
call('HSET', meta, 'writer_until', text(now + ARGV[3]))
if asked == 'part' then
  -- They may have been evicted in between.
  if call('LLEN', unfinished) ~= tonumber(ARGV[5]) then return 'lost' end
  call('RPUSH', unfinished, ARGV[6])
  return 'ok'
end

if call('LLEN', unfinished) ~= tonumber(ARGV[6]) then return 'lost' end
call('LPUSH', unfinished, ARGV[7])
-- Megabytes, which are given back behind the scenes.
call('UNLINK', checkpoint)
call('RENAME', unfinished, checkpoint)
call('HSET', meta, 'checkpoint', ARGV[5], 'checkpoint_parts', ARGV[6] + 1, 'bytes', m[5] - m[7], 'records', m[6] - m[8])
call('HDEL', meta, 'writer', 'writer_until', 'writer_bytes', 'writer_records')
-- Up to the checkpoint before: so who is a little behind need not read all of this one.
call('XTRIM', stream, 'MINID', (m[2] + 1) .. '-0')
return 'ok'
