-- Who does what is due: the rules of election/rules.rs, where instances share them.
--
-- KEYS  the duty (hash), its records (list, the newest first)
-- ARGV  what is asked, then:
--   enrol   terms, instant up to which all is known to be done or 0, token up to which all are known to be given, now by the caller's
--           clock, '1' if it is known to be paused
--   look
--   claim   due, '1' if by schedule, who, ms of the lease
--   renew   token, ms of the lease
--   finish  token, record, records kept, '0' where the token is not looked at, which is for tests
--   pass    instant, record, records kept
--   pause   '1' or '0', now by the caller's clock
--   cancel  token
--
-- The hash: terms, done (up to which instant all is over), token (the last that was given), paused; of a claim: claimed (its token),
-- due, scheduled, by, since and lease (until when, by the server's clock), cancel; tried_due and tried (how often that was begun);
-- newest (the token of the last record).
local duty, records = KEYS[1], KEYS[2]
local call, op = redis.call, ARGV[1]
local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function text(number) return string.format('%.0f', number) end

local names = {'done', 'token', 'paused', 'claimed', 'due', 'scheduled', 'by', 'since', 'lease', 'cancel', 'tried_due', 'tried', 'newest', 'terms'}
local found, s = call('HMGET', duty, unpack(names)), {}
for i, name in ipairs(names) do s[name] = found[i] or nil end
local done, last = tonumber(s.done or 0), tonumber(s.token or 0)
local held = s.claimed and tonumber(s.lease) > now

-- Tokens go on with the clock, so that a server which lost them gives out none that was used before.
local function draw()
  local token = math.max(last + 1, now)
  call('HSET', duty, 'token', text(token))
  return text(token)
end

local function record(token, bytes, kept)
  call('LPUSH', records, token .. ' ' .. bytes)
  call('LTRIM', records, 0, tonumber(kept) - 1)
  call('HSET', duty, 'newest', token)
end

local function give_back()
  call('HDEL', duty, 'claimed', 'due', 'scheduled', 'by', 'since', 'lease', 'cancel')
end

if op == 'enrol' then
  local known = tonumber(ARGV[3])
  if s.terms ~= ARGV[2] and (s.terms or known == 0) then known = tonumber(ARGV[5]) end
  call('HSET', duty, 'terms', ARGV[2], 'done', text(math.max(done, known)), 'token', text(math.max(last, tonumber(ARGV[4]))))
  -- Only where nobody has said anything yet: who remembers that it was paused may not know yet that it was resumed.
  if ARGV[6] == '1' and not s.paused then call('HSET', duty, 'paused', '1') end
  return {'ok'}
elseif op == 'look' then
  local answer = {s.terms and '1' or '0', text(done), s.paused or '0', s.newest or '0'}
  if held then
    for _, value in ipairs({s.claimed, s.due, s.scheduled, s.by, s.since, text(tonumber(s.lease) - now)}) do answer[#answer + 1] = value end
  end
  return answer
elseif op == 'claim' then
  if held then return {'held'} end
  local due, scheduled = tonumber(ARGV[2]), ARGV[3]
  -- Where it was lost what is over, whoever remembers it has to say so first.
  if scheduled == '1' and (not s.terms or due <= done) then return {'over'} end
  if scheduled == '1' and s.paused == '1' then return {'paused'} end
  local tried = 1
  if scheduled == '1' then
    if s.tried_due == ARGV[2] then tried = tonumber(s.tried) + 1 end
    call('HSET', duty, 'tried_due', ARGV[2], 'tried', tried)
  end
  give_back()
  local token = draw()
  call('HSET', duty, 'claimed', token, 'due', ARGV[2], 'scheduled', scheduled, 'by', ARGV[4], 'since', text(now), 'lease', text(now + tonumber(ARGV[5])))
  return {'won', token, tried}
elseif op == 'renew' then
  -- One that ran out is still the newest as long as nobody took it over.
  if s.claimed ~= ARGV[2] then return {'lost'} end
  call('HSET', duty, 'lease', text(now + tonumber(ARGV[3])))
  return {s.cancel == ARGV[2] and 'cancel' or 'kept'}
elseif op == 'finish' then
  local token = ARGV[2]
  if s.claimed == token then
    if s.scheduled == '1' then call('HSET', duty, 'done', text(math.max(done, tonumber(s.due)))) end
    give_back()
  else
    -- It may be asked once more, since the answer was lost.
    for _, known in ipairs(call('LRANGE', records, 0, 9)) do
      if string.sub(known, 1, #token + 1) == token .. ' ' then return {'landed'} end
    end
    if ARGV[5] ~= '0' then return {'lost'} end
  end
  record(token, ARGV[3], ARGV[4])
  return {'landed'}
elseif op == 'pass' then
  if held or not s.terms or tonumber(ARGV[2]) <= done then return {'over'} end
  give_back()
  local token = draw()
  call('HSET', duty, 'done', ARGV[2])
  record(token, ARGV[3], ARGV[4])
  return {'passed', token}
elseif op == 'pause' then
  -- What was due while it was paused was not to be done. Back as well: so a clock that was far ahead once is made good.
  if s.paused == '1' and ARGV[2] == '0' then call('HSET', duty, 'done', ARGV[3]) end
  call('HSET', duty, 'paused', ARGV[2])
  return {'ok'}
elseif op == 'cancel' then
  if not held or s.claimed ~= ARGV[2] then return {'none'} end
  call('HSET', duty, 'cancel', ARGV[2])
  return {'told'}
end
