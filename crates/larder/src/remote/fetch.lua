-- What a stream of events has for the instance that follows it: the lease, the gaps, then the messages, in one step. Whatever may
-- have been lost is found before anything is read past it, since reading moves the group on and would hide it.
--
-- KEYS  stream, lease
-- ARGV  group, this instance, number of messages, ms of the lease, identity of this server, whether a restart of it loses nothing
--       ('1'), where to go on claiming or '' to read what is new, ms after which a message counts as abandoned
--
-- The lease is a hash: holder, until (ms), identity of the server, last (the highest id that was there), deleted (a deletion that
-- was made good), gap (why events may have been lost; stays until that was made good), read (how many of all messages that were ever
-- added had been read) and read_to (up to which id that is so). Redis counts for each group, too, but not across a restart.
local stream, lease = KEYS[1], KEYS[2]
local group, me, count = ARGV[1], ARGV[2], tonumber(ARGV[3])
local call = redis.call

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local held = call('HMGET', lease, 'holder', 'until', 'identity', 'last', 'deleted', 'gap', 'read', 'read_to')
if held[1] and held[1] ~= me and tonumber(held[2]) > now then return {'standby', tonumber(held[2]) - now} end
call('HSET', lease, 'holder', me, 'until', string.format('%.0f', now + tonumber(ARGV[4])))
local taken_over = held[1] == me and 0 or 1

local function gap(why)
  call('HSET', lease, 'gap', why)
  return {'gap', why}
end
if held[6] then return {'gap', held[6]} end

local known
if call('EXISTS', stream) == 1 then
  for _, one in ipairs(call('XINFO', 'GROUPS', stream)) do
    local map = fields(one)
    if map['name'] == group then known = map end
  end
end
if not known then return gap('the group is not there: it is followed for the first time, or was lost') end
if held[3] ~= ARGV[5] then
  if not held[3] then return gap('what was known of the stream is not there any more') end
  if ARGV[6] ~= '1' then return gap('the server was restarted, or another one took its place, and may have lost the last messages') end
  call('HSET', lease, 'identity', ARGV[5])
end

local info = fields(call('XINFO', 'STREAM', stream))
local added, deleted = info['entries-added'], info['max-deleted-entry-id']
if not added or not deleted then return {'old'} end
local read_to, last = known['last-delivered-id'], info['last-generated-id']
if held[4] and above(held[4], last) then return gap('the stream was begun anew, or restored') end
if above(deleted, read_to) and deleted ~= held[5] then return gap('messages were deleted before they were read') end
-- Not known where somebody else has read for the group, or messages were deleted; then once all is read again.
local counted = held[8] == read_to and tonumber(held[7]) or nil
local first = info['first-entry'] and info['first-entry'][1]
if above(last, read_to) and (not first or above(first, read_to)) then
  -- All that is there is unread: is that as much as was added and not read?
  if not counted or added - counted > info['length'] then return gap('the stream was trimmed past what was read') end
end
if held[4] ~= last then call('HSET', lease, 'last', last) end

-- Who takes the stream over begins with what others have read and not acknowledged.
local from, idle = ARGV[7], ARGV[8]
if taken_over == 1 then from, idle = '0-0', 0 end

local entries, cursor = {}, ''
if from ~= '' then
  local claimed = call('XAUTOCLAIM', stream, group, me, idle, from, 'COUNT', count)
  cursor, entries = claimed[1], claimed[2]
  if cursor == '0-0' then
    -- Consumers of instances that are gone, and have nothing any more.
    for _, one in ipairs(call('XINFO', 'CONSUMERS', stream, group)) do
      local map = fields(one)
      if map['pending'] == 0 and map['name'] ~= me and string.sub(map['name'], 1, 7) == 'larder-' then
        call('XGROUP', 'DELCONSUMER', stream, group, map['name'])
      end
    end
  end
  if claimed[3] and #claimed[3] > 0 then return gap('messages were removed before they were acknowledged') end
else
  local read = call('XREADGROUP', 'GROUP', group, me, 'COUNT', count, 'STREAMS', stream, '>')
  if read then
    entries = read[1][2]
    read_to = entries[#entries][1]
    counted = counted and counted + #entries
  end
  if read_to == last then counted = added end
  if counted then call('HSET', lease, 'read', counted, 'read_to', read_to) else call('HDEL', lease, 'read') end
end
return {'ok', taken_over, cursor, read_to, entries}
