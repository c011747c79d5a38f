-- Decides the claims of one request, and books them if it is admitted.
-- KEYS: for each claim its counter, and what is held of it (a hash: until when -> how much); where windows slide, the
-- same of the window before.
-- ARGV: now, and one part in how many of what is left may be held ahead; then for each claim limit, charge, hold, due,
-- ahead, manner, vote, seconds to live, seconds of the window, and how many of them are left; these are 0 where
-- windows do not slide.
local now, part = tonumber(ARGV[1]), tonumber(ARGV[2])
local claims, out = {}, {}
local any, one, admitted = false, false, true

-- Returns what is held, and until when the last of it.
local function held(key)
    local sum, last, fields = 0, 0, redis.call('HGETALL', key)
    for field = 1, #fields, 2 do
        local due = tonumber(fields[field])
        if due <= now then
            redis.call('HDEL', key, fields[field])
        else
            sum, last = sum + tonumber(fields[field + 1]), math.max(last, due)
        end
    end
    return sum, last
end

local key = 1
for at = 3, #ARGV, 10 do
    local claim = {
        counter = KEYS[key], holds = KEYS[key + 1],
        limit = tonumber(ARGV[at]), charge = tonumber(ARGV[at + 1]), hold = tonumber(ARGV[at + 2]),
        due = ARGV[at + 3], ahead = tonumber(ARGV[at + 4]), reserves = ARGV[at + 5] == 'reserve',
        vote = ARGV[at + 6], ttl = ARGV[at + 7], held = 0, last = 0, before = 0, granted = 0,
    }
    key = key + 2
    claim.used = tonumber(redis.call('GET', claim.counter) or '0')
    if claim.reserves then
        claim.held, claim.last = held(claim.holds)
    end
    claim.after = claim.used + claim.charge + claim.held + claim.hold
    local seconds, left = tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
    if seconds > 0 then
        claim.before = tonumber(redis.call('GET', KEYS[key]) or '0') + (held(KEYS[key + 1]))
        claim.after = claim.after + math.floor(claim.before * left / seconds)
        key = key + 2
    end
    claim.over = claim.after > claim.limit
    if claim.vote == 'any' then
        any = true
        one = one or not claim.over
    elseif claim.vote == 'must' and claim.over then
        admitted = false
    end
    claims[#claims + 1] = claim
end
admitted = admitted and (one or not any)
for i, claim in ipairs(claims) do
    if admitted or not claim.reserves then
        if claim.charge > 0 then
            claim.used = redis.call('INCRBY', claim.counter, string.format('%d', claim.charge))
            redis.call('EXPIRE', claim.counter, claim.ttl)
        end
        if admitted and claim.charge + claim.hold > 0 then
            local granted = math.min(claim.ahead, math.floor((claim.limit - claim.after) / part))
            if granted >= claim.charge + claim.hold then
                claim.granted = granted
            end
        end
        local hold = claim.hold + claim.granted
        if admitted and hold > 0 then
            redis.call('HINCRBY', claim.holds, claim.due, string.format('%d', hold))
            -- Others may hold for longer.
            redis.call('EXPIREAT', claim.holds, string.format('%d', math.max(claim.last, tonumber(claim.due))))
            claim.held = claim.held + hold
        end
    end
    out[5 * i - 4] = claim.used
    out[5 * i - 3] = claim.held
    out[5 * i - 2] = claim.before
    out[5 * i - 1] = claim.granted
    out[5 * i] = claim.over and 1 or 0
end
return out
