-- In front of the scripts that rely on the log.

-- Whether what it consists of is there: each key may have been evicted or deleted.
local function is_there(checkpoint, parts, stream, head)
  return redis.call('LLEN', checkpoint) == tonumber(parts) and (head == 0 or redis.call('XLEN', stream) > 0)
end

