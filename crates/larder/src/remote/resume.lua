-- What was lost of a stream of events has been made good: the group goes on with what is there. See fetch.lua.
--
-- KEYS  stream, lease
-- ARGV  group, this instance, identity of this server
local stream, lease = KEYS[1], KEYS[2]
local group, call = ARGV[1], redis.call

if call('HGET', lease, 'holder') ~= ARGV[2] then return {'standby'} end

local info, known = nil, nil
if call('EXISTS', stream) == 1 then
  info = fields(call('XINFO', 'STREAM', stream))
  for _, one in ipairs(call('XINFO', 'GROUPS', stream)) do
    local map = fields(one)
    if map['name'] == group then known = map end
  end
end
if info and not info['entries-added'] then return {'old'} end

-- All that is there and was not read will be read, and counts as unread; all else counts as read.
local read, read_to
if not known then
  read, read_to = info and info['entries-added'] - info['length'] or 0, '0-0'
  call('XGROUP', 'CREATE', stream, group, read_to, 'MKSTREAM', 'ENTRIESREAD', read)
else
  local first = info['first-entry'] and info['first-entry'][1]
  read_to = known['last-delivered-id']
  if not first then
    read, read_to = info['entries-added'], info['last-generated-id']
    call('XGROUP', 'SETID', stream, group, read_to, 'ENTRIESREAD', read)
  elseif above(first, read_to) or above(read_to, info['last-generated-id']) then
    read, read_to = info['entries-added'] - info['length'], '0-0'
    call('XGROUP', 'SETID', stream, group, read_to, 'ENTRIESREAD', read)
  end
end
info = fields(call('XINFO', 'STREAM', stream))
call('HSET', lease, 'identity', ARGV[3], 'last', info['last-generated-id'], 'deleted', info['max-deleted-entry-id'], 'read_to', read_to)
if read then call('HSET', lease, 'read', read) else call('HDEL', lease, 'read') end
call('HDEL', lease, 'gap')
return {'ok'}
