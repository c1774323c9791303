-- Writes and removes entries, unless the one in place is of the same epoch and has a higher stamp.
--
-- KEYS  the entries
-- ARGV  for each: life in ms or 0, the value, and a stamp to compare with in the place of its own or ''; a stamp alone as a value removes
--       what is not past it, '' removes whatever is there
local unpack, sub = struct.unpack, string.sub
local outranked = 0
for i, key in ipairs(KEYS) do
  local px, value, upto = tonumber(ARGV[3 * i - 2]), ARGV[3 * i - 1], ARGV[3 * i]
  if value == '' then
    redis.call('UNLINK', key)
  else
    local old, stamp = redis.call('GETRANGE', key, 0, 15), upto ~= '' and upto or value
    if #old == 16 and sub(old, 1, 8) == sub(stamp, 1, 8) and unpack('<I8', old, 9) > unpack('<I8', stamp, 9) then
      outranked = outranked + 1
    elseif #value == 16 then
      redis.call('UNLINK', key)
    elseif px > 0 then
      redis.call('SET', key, value, 'PX', px)
    else
      redis.call('SET', key, value)
    end
  end
end
return outranked
