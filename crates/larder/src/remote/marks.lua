-- In front of the scripts that append: remembers which events took effect, in the same step.
--
-- The window is a string: how many marks there ever were (8 bytes), then a ring of 65,536 marks of 16 bytes. It is not part of
-- an epoch: whatever an event of an older one killed is stale.
local function remember(window, marks)
  if marks == '' then return end
  local before = redis.call('GETRANGE', window, 0, 7)
  local count = #before == 8 and struct.unpack('<I8', before) or 0
  local at = 1
  while at <= #marks do
    local place = count % 65536
    local part = string.sub(marks, at, at + (65536 - place) * 16 - 1)
    redis.call('SETRANGE', window, 8 + place * 16, part)
    at, count = at + #part, count + #part / 16
  end
  redis.call('SETRANGE', window, 0, struct.pack('<I8', count))
end

