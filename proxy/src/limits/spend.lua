-- Spends all buckets that are asked for, or none.
--
-- KEYS: one per bucket. ARGV: for each, the microseconds per request, how much it holds, how much is wanted, and what
-- its time is written in: the microseconds per request as well or, where that changes from request to request, any that
-- do not. Of a window of the calendar: 0, how much it holds, how much is wanted, and when it ends.
-- Answers 1 (all spent) or 0 (none), then for each bucket how much it would let through at once, and the microseconds
-- until there is one more, or until what is wanted is there.
--
-- A bucket is the time at which it will be full again (GCRA), and what that is written in: written in another, it keeps
-- what was spent. Nothing of a full bucket is kept. A window is how much was spent of it; it is kept for an hour after
-- its end, by the clock here, for proxies whose clocks are behind.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local buckets, refused = {}, false
local after_end = 3600 * 1000

for i, key in ipairs(KEYS) do
  local emission, burst = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local cost, unit = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  local full = emission * burst
  local spent, before = 0, unit
  local kept = redis.call('GET', key)
  local window = emission == 0
  if window then
    emission, full = 1, burst
    spent = tonumber(kept or 0)
    if not spent then
      return redis.error_reply('ERR not a count: ' .. key)
    end
  elseif kept then
    local full_at, interval = string.match(kept, '^(%d+) (%d+)$')
    if not full_at then
      return redis.error_reply('ERR not a bucket: ' .. key)
    end
    spent, before = tonumber(full_at) - now, tonumber(interval)
  end
  if before ~= unit then
    spent = math.ceil(spent / before * unit)
  end
  -- A server whose clock is behind that of the one before, or a lowered limit: empty, and not in debt.
  spent = math.min(math.max(spent, 0), full)
  local after = spent + cost * emission
  refused = refused or after > full
  buckets[i] = {key = key, emission = emission, unit = unit, full = full, spent = spent, after = after, window = window}
end

local answer = {refused and 0 or 1}
for _, bucket in ipairs(buckets) do
  local wait
  if bucket.window then
    wait = math.max(bucket.unit - now, 1)
    if not refused then
      bucket.spent = bucket.after
      local gone = string.format('%.0f', math.ceil(bucket.unit / 1000) + after_end)
      redis.call('SET', bucket.key, string.format('%.0f', bucket.spent), 'PXAT', gone)
    elseif bucket.after <= bucket.full then
      wait = 0
    end
  elseif refused then
    wait = math.max(bucket.after - bucket.full, 0)
  else
    bucket.spent = bucket.after
    if bucket.spent > 0 then
      local value = string.format('%.0f %.0f', now + bucket.spent, bucket.unit)
      redis.call('SET', bucket.key, value, 'PX', string.format('%.0f', math.ceil(bucket.spent / 1000)))
    end
    wait = bucket.emission - (bucket.full - bucket.spent) % bucket.emission
  end
  answer[#answer + 1] = math.floor((bucket.full - bucket.spent) / bucket.emission)
  answer[#answer + 1] = wait
end
return answer
