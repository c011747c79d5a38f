-- Decides the claims of one request, and books them if it is admitted.
-- KEYS: for each claim its counter, and what is held of it (a hash: until when -> how much).
-- ARGV: now; then for each claim limit, charge, hold, due, manner, vote, seconds to live.
local now = tonumber(ARGV[1])
local claims, out = {}, {}
local any, one, admitted = false, false, true
for i = 1, #KEYS / 2 do
    local at = 2 + (i - 1) * 7
    local claim = {
        counter = KEYS[2 * i - 1], holds = KEYS[2 * i],
        limit = tonumber(ARGV[at]), charge = tonumber(ARGV[at + 1]), hold = tonumber(ARGV[at + 2]),
        due = ARGV[at + 3], reserves = ARGV[at + 4] == 'reserve', vote = ARGV[at + 5], ttl = ARGV[at + 6],
        held = 0,
    }
    claim.used = tonumber(redis.call('GET', claim.counter) or '0')
    if claim.reserves then
        local fields = redis.call('HGETALL', claim.holds)
        for field = 1, #fields, 2 do
            if tonumber(fields[field]) <= now then
                redis.call('HDEL', claim.holds, fields[field])
            else
                claim.held = claim.held + tonumber(fields[field + 1])
            end
        end
    end
    local after = claim.used + claim.charge
    if claim.reserves then
        after = after + claim.held + claim.hold
    end
    claim.over = after > claim.limit
    if claim.vote == 'any' then
        any = true
        one = one or not claim.over
    elseif claim.vote == 'must' and claim.over then
        admitted = false
    end
    claims[i] = claim
end
admitted = admitted and (one or not any)
for i, claim in ipairs(claims) do
    if admitted or not claim.reserves then
        if claim.charge > 0 then
            claim.used = redis.call('INCRBY', claim.counter, string.format('%d', claim.charge))
            redis.call('EXPIRE', claim.counter, claim.ttl)
        end
        if admitted and claim.hold > 0 then
            redis.call('HINCRBY', claim.holds, claim.due, string.format('%d', claim.hold))
            redis.call('EXPIREAT', claim.holds, claim.due)
            claim.held = claim.held + claim.hold
        end
    end
    out[3 * i - 2] = claim.used
    out[3 * i - 1] = claim.held
    out[3 * i] = claim.over and 1 or 0
end
return out
