-- Puts the hold of a restore in the place of another or of none, or takes it away. It is gone with the epoch, as all that was written
-- under it.
--
-- KEYS  meta
-- ARGV  epoch of the caller, number of the hold that he knows to be in force or '', what that is of or '' if that does not matter, number of
--       the one to come or '', what that is of, '1' where what was written under the one that goes is never to be seen
local m = redis.call('HMGET', KEYS[1], 'epoch', 'hold', 'hold_of', 'given_up')
if m[1] ~= ARGV[1] then return 'epoch' end
if (m[2] or '') ~= ARGV[2] or (ARGV[3] ~= '' and m[3] ~= ARGV[3]) then return 'other' end
if ARGV[6] == '1' then
  -- The last of them: servers that have yet to hear that it was invalidated, too, do so in far less time than as many more take.
  local known, kept = ARGV[2], 1
  for number in string.gmatch(m[4] or '', '%d+') do
    if kept < 64 then known, kept = known .. ' ' .. number, kept + 1 end
  end
  redis.call('HSET', KEYS[1], 'given_up', known)
end
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], 'hold', 'hold_of')
else
  redis.call('HSET', KEYS[1], 'hold', ARGV[4], 'hold_of', ARGV[5])
end
return 'done'
