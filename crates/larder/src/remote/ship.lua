-- Puts parcels where other instances look for them, over those of the same name; of all that a sender has, the oldest go.
--
-- KEYS  senders, the sender's parcels, their order
-- ARGV  sender, parcels kept at most, life in ms, then for each its name and its bytes
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
local text = function(number) return string.format('%.0f', number) end
-- Numbers go on with the clock, so that those of a list that was lost are not told anew.
local last = redis.call('ZREVRANGE', KEYS[3], 0, 0, 'WITHSCORES')[2]
local number = math.max(time[1] * 1000000 + time[2], last and tonumber(last) + 1 or 0)
for i = 4, #ARGV, 2 do
  redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1])
  redis.call('ZADD', KEYS[3], text(number), ARGV[i])
  number = number + 1
end
local over = redis.call('ZCARD', KEYS[3]) - tonumber(ARGV[2])
if over > 0 then
  for _, name in ipairs(redis.call('ZRANGE', KEYS[3], 0, over - 1)) do
    redis.call('HDEL', KEYS[2], name)
    redis.call('ZREM', KEYS[3], name)
  end
end
redis.call('ZADD', KEYS[1], text(ms), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', '(' .. text(ms - tonumber(ARGV[3])))
for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[3]) end
return 1
