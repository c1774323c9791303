-- One group of appends whose caller knew where it would stand, and has worked out what the table becomes: no line is read
-- here. Of single names alone, without a guard.
--
-- A group may be sent while the one before it is on its way. That the head is where it was thought to be does not say then
-- that this group is the one it was worked out after: another instance may have appended as many. So each is signed.
--
-- KEYS  meta, table, stream, members, marks, then the entries to keep, then those to take out
-- ARGV  epoch (8 bytes), deadline in the server's ms or 0, the head before, the number of lines, the head after, what the
--       stream gets, its length, the signature of the group before or '', this group's; then how many lines change, how many
--       entries are kept; and for each line its offset and its 64 bytes, for each entry kept its life in ms or 0 and its value;
--       then the marks of events, and the field and value of the caller's fence
local meta, tbl, stream = KEYS[1], KEYS[2], KEYS[3]
local call = redis.call

local m = call('HMGET', meta, 'epoch', 'head', 'lines', 'signed')
if m[1] ~= ARGV[1] then return {'epoch'} end
if call('STRLEN', tbl) ~= tonumber(m[3]) * 64 then return {'lost'} end
if m[2] ~= ARGV[3] or m[3] ~= ARGV[4] then return {'elsewhere'} end
if ARGV[8] ~= '' and m[4] ~= ARGV[8] then return {'elsewhere'} end
local deadline = tonumber(ARGV[2])
if deadline > 0 then
  local time = call('TIME')
  if time[1] * 1000 + time[2] / 1000 > deadline then return {'late'} end
end

-- Sent before its caller took the log up again: the caller was told something else by now.
if #KEYS > 5 and call('HGET', KEYS[4], ARGV[#ARGV - 1]) ~= ARGV[#ARGV] then return {'fenced'} end

local changed, kept, at = tonumber(ARGV[10]), tonumber(ARGV[11]), 12
for _ = 1, changed do
  call('SETRANGE', tbl, ARGV[at], ARGV[at + 1])
  at = at + 2
end

call('HSET', meta, 'head', ARGV[5], 'signed', ARGV[9])
local marks = ARGV[#ARGV - 2]
if marks == '' then
  call('XADD', stream, 'MAXLEN', '~', ARGV[7], ARGV[5] .. '-0', 'f', m[2] + 1, 'd', ARGV[6])
else
  call('XADD', stream, 'MAXLEN', '~', ARGV[7], ARGV[5] .. '-0', 'f', m[2] + 1, 'd', ARGV[6], 'm', marks)
  remember(KEYS[5], marks)
end

for i = 6, 5 + kept do
  local px = ARGV[at]
  if px == '0' then call('SET', KEYS[i], ARGV[at + 1]) else call('SET', KEYS[i], ARGV[at + 1], 'PX', px) end
  at = at + 2
end
-- As many at once as the interpreter's stack takes with ease.
for i = 6 + kept, #KEYS, 1000 do
  call('UNLINK', unpack(KEYS, i, math.min(i + 999, #KEYS)))
end
return {'ok', m[2] + 1, {}, {}}
