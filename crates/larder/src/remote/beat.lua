-- The heartbeat: says what this instance has applied, and hears which log is in force.
--
-- KEYS  meta, checkpoint, stream, members
-- ARGV  instance, epoch (hexadecimal), position applied
--
-- Answers epoch, head, the server's ms, whether a restore holds back what it has written, and whether what was said could not be noted.
local call = redis.call
local time = call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- A server that is full can still be followed.
redis.pcall('HSETNX', KEYS[4], ':since', string.format('%.0f', ms))
local noted = redis.pcall('HSET', KEYS[4], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. string.format('%.0f', ms))
local is_unsaid = type(noted) == 'table' and noted.err and 1 or 0
local m = call('HMGET', KEYS[1], 'epoch', 'head', 'checkpoint_parts', 'hold')
local head = tonumber(m[2] or 0)
if not m[1] or not is_there(KEYS[2], m[3], KEYS[3], head) then return {'', 0, ms, 0, is_unsaid} end
return {m[1], head, ms, m[4] and 1 or 0, is_unsaid}
