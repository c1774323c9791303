-- Removes what still begins with what the caller saw: entries by their stamp, leases by their token.
--
-- KEYS  the keys
-- ARGV  for each, how its value begins
local removed = 0
for i, key in ipairs(KEYS) do
  if redis.call('GETRANGE', key, 0, #ARGV[i] - 1) == ARGV[i] then removed = removed + redis.call('UNLINK', key) end
end
return removed
