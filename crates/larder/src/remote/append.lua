-- One group of appends to the log, and the entries that are written with them.
--
-- KEYS  meta, table, stream, members, marks, then the key of each entry
-- ARGV  epoch (8 bytes), deadline in the server's ms or 0, number of appends, what the stream gets, single names
--       (u16 append, u24 fingerprint, u40 line, each), length of the stream, then the numbers of the lists that follow:
--       other names, guards, writes; those lists; the marks of events; and the field and value of the caller's fence
--
-- Positions are given in the order of the appends. The table obeys the rule of freshness.rs: a name takes its own pair, a
-- free one, or the oldest, whose position goes into the floor.
local meta, tbl, stream = KEYS[1], KEYS[2], KEYS[3]
local call, unpack, pack, sub = redis.call, struct.unpack, struct.pack, string.sub

local m = call('HMGET', meta, 'epoch', 'head', 'lines')
if m[1] ~= ARGV[1] then return {'epoch'} end
local lines = tonumber(m[3])
if call('STRLEN', tbl) ~= lines * 64 then return {'lost'} end
local deadline = tonumber(ARGV[2])
if deadline > 0 then
  local time = call('TIME')
  if time[1] * 1000 + time[2] / 1000 > deadline then return {'late'} end
end
-- Sent before its caller took the log up again: the caller was told something else by now.
if tonumber(ARGV[9]) > 0 and call('HGET', KEYS[4], ARGV[#ARGV - 1]) ~= ARGV[#ARGV] then return {'fenced'} end
local head, count = tonumber(m[2]), tonumber(ARGV[3])
if head + count > 1099511627775 then return {'full'} end

local PAIRS = '<I5I3I5I3I5I3I5I3I5I3I5I3I5I3I8'

local function raise(seq, fp, line)
  local off = line % lines * 64
  local a, fa, b, fb, c, fc, d, fd, e, fe, f, ff, g, fg, floor = unpack(PAIRS, call('GETRANGE', tbl, off, off + 63))
  local slot
  if fa == fp and a > 0 then slot = 0
  elseif fb == fp and b > 0 then slot = 8
  elseif fc == fp and c > 0 then slot = 16
  elseif fd == fp and d > 0 then slot = 24
  elseif fe == fp and e > 0 then slot = 32
  elseif ff == fp and f > 0 then slot = 40
  elseif fg == fp and g > 0 then slot = 48
  else
    local oldest = a
    slot = 0
    if b < oldest then slot, oldest = 8, b end
    if c < oldest then slot, oldest = 16, c end
    if d < oldest then slot, oldest = 24, d end
    if e < oldest then slot, oldest = 32, e end
    if f < oldest then slot, oldest = 40, f end
    if g < oldest then slot, oldest = 48, g end
    if oldest > floor then call('SETRANGE', tbl, off + 56, pack('<I8', oldest)) end
  end
  call('SETRANGE', tbl, off + slot, pack('<I5I3', seq, fp))
end

-- The last position of a name, or a later one.
local function last(fp, line)
  local off = line % lines * 64
  local words = {unpack(PAIRS, call('GETRANGE', tbl, off, off + 63))}
  for i = 1, 13, 2 do
    if words[i + 1] == fp and words[i] > 0 then return words[i] end
  end
  return words[15]
end

local function join_shapes(shape, widest)
  local shapes = call('HGET', meta, 'shapes') or ''
  for i = 1, #shapes, 8 do
    if sub(shapes, i, i + 7) == shape then return true end
  end
  if #shapes / 8 >= (widest and 64 or 60) then return false end
  call('HSET', meta, 'shapes', shapes .. shape)
  return true
end

local function everything(seq)
  call('HSET', meta, 'everything', seq)
end

-- The first of a pattern's shapes that there is room for, from its own to broader ones; else everything.
local function raise_pattern(seq, op, at)
  local n, at = unpack('<I1', op, at)
  for i = 1, n do
    local widest, shape, fp, line
    widest, shape, fp, line, at = unpack('<I1c8I3I5', op, at)
    if join_shapes(shape, widest == 1) then
      raise(seq, fp, line)
      return i > 1
    end
  end
  everything(seq)
  return true
end

local function raise_glob(seq, text)
  local field = 'g:' .. text
  if call('HEXISTS', meta, field) == 0 then
    if call('HINCRBY', meta, 'globs', 0) >= 1024 then return false end
    call('HINCRBY', meta, 'globs', 1)
  end
  call('HSET', meta, field, seq, 'glob_latest', seq)
  return true
end

local record, cut = ARGV[4], 0
local refused = {}

-- Takes the names of an append out of the record: its position stays, and nothing happened there.
local function leave_out(from, length)
  record = sub(record, 1, from - cut) .. '\0\0\0\0' .. sub(record, from - cut + length + 1)
  cut = cut + length - 4
end

local singles, single_at, single_end = ARGV[5], 1, #ARGV[5]
local others, guards, writes = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local other, widened = 1, {}

-- Enters the names of all appends before this one.
local function enter_before(limit)
  while single_at <= single_end do
    local i, fp, line = unpack('<I2I3I5', singles, single_at)
    if i >= limit then break end
    if not refused[i] then raise(head + 1 + i, fp, line) end
    single_at = single_at + 10
  end
  while other <= others do
    local op = ARGV[9 + other]
    local i, kind, at = unpack('<I2I1', op)
    if i >= limit then break end
    local seq = head + 1 + i
    if refused[i] then
      -- Nothing happens at its position.
    elseif kind == 0 then
      everything(seq)
    elseif kind == 1 then
      if raise_pattern(seq, op, at) then widened[#widened + 1] = i end
    else
      local length, text_at = unpack('<I2', op, at)
      if not raise_glob(seq, sub(op, text_at, text_at + length - 1)) then
        raise_pattern(seq, op, text_at + length)
        widened[#widened + 1] = i
      end
    end
    other = other + 1
  end
end

-- Whether anything that an entry depends on was invalidated after a position.
local function conflicts(guard, since, n, at)
  local fp, line
  for _ = 1, n do
    fp, line, at = unpack('<I3I5', guard, at)
    if last(fp, line) > since then return true end
  end
  local more = call('HMGET', meta, 'everything', 'glob_latest', 'shapes')
  if tonumber(more[1] or 0) > since or tonumber(more[2] or 0) > since then return true end
  local known, shape, fits = {}, nil, nil
  n, at = unpack('<I2', guard, at)
  for _ = 1, n do
    shape, fits, fp, line, at = unpack('<c8I1I3I5', guard, at)
    known[shape] = true
    if fits == 1 and last(fp, line) > since then return true end
  end
  -- A shape that the caller did not know yet: whether it hits the entry cannot be told here.
  local shapes = more[3] or ''
  for i = 1, #shapes, 8 do
    if not known[sub(shapes, i, i + 7)] then return true end
  end
  return false
end

local conflicted, conflicting = {}, {}
for g = 1, guards do
  local guard = ARGV[9 + others + g]
  local i, from, length, since, n, at = unpack('<I2I4I4I5I2', guard)
  enter_before(i)
  if conflicts(guard, since, n, at) then
    conflicted[i] = true
    if length > 0 then
      refused[i] = true
      leave_out(from, length)
    end
    conflicting[#conflicting + 1] = i
  end
end
enter_before(count)

local after = head + count
call('HSET', meta, 'head', after)
local marks = ARGV[#ARGV - 2]
if marks == '' then
  call('XADD', stream, 'MAXLEN', '~', ARGV[6], after .. '-0', 'f', head + 1, 'd', record)
else
  call('XADD', stream, 'MAXLEN', '~', ARGV[6], after .. '-0', 'f', head + 1, 'd', record, 'm', marks)
  remember(KEYS[5], marks)
end

local at = 9 + others + guards
for w = 1, writes do
  local i, kind, px = unpack('<I2I1I8', ARGV[at + 1])
  local key, value = KEYS[5 + w], ARGV[at + 2]
  if refused[i] then
    -- What is there stays.
  elseif kind == 0 then
    call('UNLINK', key)
  elseif not conflicted[i] then
    value = ARGV[1] .. pack('<I8', head + 1 + i) .. value
    if px > 0 then call('SET', key, value, 'PX', px) else call('SET', key, value) end
  end
  at = at + 2
end
return {'ok', head + 1, conflicting, widened}
