-- The heartbeat: says what this instance has applied, and hears which log is in force.
--
-- KEYS  meta, table, members
-- ARGV  instance, epoch (hexadecimal), position applied
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- A server that is full can still be followed.
redis.pcall('HSETNX', KEYS[3], ':since', string.format('%.0f', ms))
redis.pcall('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. ARGV[3] .. ' ' .. string.format('%.0f', ms))
local m = redis.call('HMGET', KEYS[1], 'epoch', 'head', 'lines')
if not m[1] or redis.call('STRLEN', KEYS[2]) ~= tonumber(m[3]) * 64 then return {'', 0, ms} end
return {m[1], tonumber(m[2]), ms}
