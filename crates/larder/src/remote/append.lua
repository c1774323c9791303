-- One group of appends to the log, and the entries that are written with them.
--
-- KEYS  meta, checkpoint, stream, members, marks, then the key of each entry
-- ARGV  epoch (8 bytes), deadline in the server's ms or 0, number of appends, bytes that records may have since the checkpoint or 0,
--       what the stream gets: the names in full, the single names (u16 append, u64 hash each), the patterns (u16 append, u64 shape or 0,
--       u64 hash each); number of guards, of entries kept, what is to be done with entries (u16 append, u8 kept, each); then the guards, for
--       each entry kept its life in ms or 0, and its value; the marks of events, and the field and value of the caller's fence
--
-- Whether something that an entry depends on was invalidated is answered by the stream: the caller has looked for itself at all up to a
-- position that the guard names, and what came after that is here.
local meta, checkpoint, stream = KEYS[1], KEYS[2], KEYS[3]
local call, read, sub, find = redis.call, struct.unpack, string.sub, string.find

local m = call('HMGET', meta, 'epoch', 'head', 'bytes', 'records', 'checkpoint_parts', 'checkpoint')
if m[1] ~= ARGV[1] then return {'epoch'} end
local head, count, bytes, records = tonumber(m[2]), tonumber(ARGV[3]), tonumber(m[3]), tonumber(m[4]) + 1
if not is_there(checkpoint, m[5], stream, head) then return {'lost'} end
local deadline = tonumber(ARGV[2])
if deadline > 0 then
  local time = call('TIME')
  if time[1] * 1000 + time[2] / 1000 > deadline then return {'late'} end
end
-- Sent before its caller took the log up again: the caller was told something else by now.
if ARGV[#ARGV] ~= '0' and call('HGET', KEYS[4], ARGV[#ARGV - 1]) ~= ARGV[#ARGV] then return {'fenced'} end
if head + count > 1099511627775 then return {'full'} end
if ARGV[4] ~= '0' and bytes > tonumber(ARGV[4]) then return {'behind'} end

local guards, kept, todo = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[10]
-- The names, the single ones, the patterns, and how much was cut out of each.
local parts, cut = {ARGV[5], ARGV[6], ARGV[7]}, {0, 0, 0}
local conflicted, refused, conflicting = {}, {}, {}

if guards > 0 then
  -- More is not gone through: the caller is far behind, and told that there is a conflict.
  local RECORDS_MAX, BYTES_MAX, WORK_MAX = 1024, 4194304, 67108864
  local work = 0

  local function understood(guard)
    local g, at = {hashes = {}, shapes = {}, ranges = {}}, nil
    g.append, g.upto, at = read('<I2I5', guard)
    for part = 1, 3 do
      local from, length
      from, length, at = read('<I4I4', guard, at)
      g.ranges[part] = {from, length}
    end
    local n
    n, at = read('<I2', guard, at)
    for i = 1, n do g.hashes[i], at = read('<c8', guard, at) end
    n, at = read('<I2', guard, at)
    for _ = 1, n do
      local shape, fits, hash
      shape, fits, hash, at = read('<c8I1c8', guard, at)
      g.shapes[shape] = g.shapes[shape] or {}
      if fits == 1 then g.shapes[shape][hash] = true end
    end
    return g
  end

  -- Whether a name of a record, of an append before `limit`, invalidates what a guard depends on.
  local function hits(g, first, singles, patterns, limit)
    for _, hash in ipairs(g.hashes) do
      work = work + #singles + 256
      if work > WORK_MAX then return true end
      local at = find(singles, hash, 1, true)
      while at do
        local i = at % 10 == 3 and read('<I2', singles, at - 2)
        if i and i < limit and first + i > g.upto then return true end
        at = find(singles, hash, at + 1, true)
      end
    end
    work = work + #patterns * 32
    if work > WORK_MAX then return true end
    for at = 1, #patterns, 18 do
      local i, shape, hash = read('<I2c8c8', patterns, at)
      if i < limit and first + i > g.upto then
        local fitting = g.shapes[shape]
        -- With a shape that the caller did not know yet, whether it hits the entry cannot be told here.
        if not fitting or fitting[hash] then return true end
      end
    end
    return false
  end

  local asked, from = {}, head + 1
  for g = 1, guards do
    asked[g] = understood(ARGV[10 + g])
    from = math.min(from, asked[g].upto + 1)
  end
  -- What stands after `gone`, up to `seen`.
  local since, gone, seen, looked = {}, from - 1, from - 1, 0
  while seen < head and #since < RECORDS_MAX and looked < BYTES_MAX do
    local found = call('XRANGE', stream, (seen + 1) .. '-0', '+', 'COUNT', 16)
    if #found == 0 then return {'lost'} end
    for _, entry in ipairs(found) do
      local r = {}
      for at = 1, #entry[2], 2 do r[entry[2][at]] = entry[2][at + 1] end
      local first = tonumber(r.f)
      if first > seen + 1 then
        -- Trimmed, since a checkpoint has it; else it is lost.
        if #since > 0 or first > m[6] + 1 then return {'lost'} end
        gone = first - 1
      end
      r.p = r.p or ''
      looked = looked + #r.d + #r.h + #r.p
      since[#since + 1] = {first, r.h, r.p}
      seen = tonumber(string.match(entry[1], '^%d+'))
    end
  end
  for _, g in ipairs(asked) do
    local conflicts = seen < head or g.upto < gone or hits(g, head + 1, parts[2], parts[3], g.append)
    for at = 1, #since do
      conflicts = conflicts or hits(g, since[at][1], since[at][2], since[at][3], 65536)
    end
    if conflicts then
      conflicted[g.append] = true
      conflicting[#conflicting + 1] = g.append
      if g.ranges[1][2] > 0 then
        -- Its position stays, and nothing happened there.
        refused[g.append] = true
        for part, range in ipairs(g.ranges) do
          local at, instead = range[1] - cut[part], part == 1 and '\0\0\0\0' or ''
          parts[part] = sub(parts[part], 1, at) .. instead .. sub(parts[part], at + range[2] + 1)
          cut[part] = cut[part] + range[2] - #instead
        end
      end
    end
  end
end

local after = head + count
local marks = ARGV[#ARGV - 2]
bytes = bytes + #parts[1] + #parts[2] + #parts[3] + #marks + 64
call('HSET', meta, 'head', after, 'bytes', bytes, 'records', records)
local record = {'f', head + 1, 'd', parts[1], 'h', parts[2]}
if parts[3] ~= '' then record[7], record[8] = 'p', parts[3] end
if marks ~= '' then record[#record + 1], record[#record + 2] = 'm', marks end
call('XADD', stream, after .. '-0', unpack(record))
remember(KEYS[5], marks)

local value_at = 10 + guards
-- The value of the next entry that is kept, with its stamp, and its life.
local function stamped(i)
  value_at = value_at + 2
  return ARGV[1] .. struct.pack('<I8', head + 1 + i) .. ARGV[value_at], ARGV[value_at - 1]
end
if guards == 0 then
  -- No key is there twice: those that are kept, and then those that are not. As many at once as the interpreter's stack takes with ease.
  local sets = {}
  for w = 1, kept do
    local value, life = stamped(read('<I2', todo, w * 3 - 2))
    if life == '0' then
      sets[#sets + 1], sets[#sets + 2] = KEYS[5 + w], value
    else
      call('SET', KEYS[5 + w], value, 'PX', life)
    end
  end
  for at = 1, #sets, 1000 do call('MSET', unpack(sets, at, math.min(at + 999, #sets))) end
  for at = 6 + kept, #KEYS, 1000 do call('UNLINK', unpack(KEYS, at, math.min(at + 999, #KEYS))) end
else
  for w = 1, #KEYS - 5 do
    local i, keep = read('<I2I1', todo, w * 3 - 2)
    local key, value, life = KEYS[5 + w], nil, nil
    if keep == 1 then value, life = stamped(i) end
    if refused[i] then
      -- What is there stays.
    elseif not value then
      call('UNLINK', key)
    elseif conflicted[i] then
      -- Nor is it known to be what this append says.
    elseif life == '0' then
      call('SET', key, value)
    else
      call('SET', key, value, 'PX', life)
    end
  end
end
return {'ok', head + 1, conflicting, bytes, records}
