-- Puts the hold of a restore in the place of another or of none, or takes it away. It is gone with the epoch, as all that was written
-- under it.
--
-- KEYS  meta
-- ARGV  epoch of the caller, number of the hold that he knows to be in force or '', what that is of or '' if that does not matter, number of
--       the one to come or '', what that is of
local m = redis.call('HMGET', KEYS[1], 'epoch', 'hold', 'hold_of')
if m[1] ~= ARGV[1] then return 'epoch' end
if (m[2] or '') ~= ARGV[2] or (ARGV[3] ~= '' and m[3] ~= ARGV[3]) then return 'other' end
if ARGV[4] == '' then
  redis.call('HDEL', KEYS[1], 'hold', 'hold_of')
else
  redis.call('HSET', KEYS[1], 'hold', ARGV[4], 'hold_of', ARGV[5])
end
return 'done'
