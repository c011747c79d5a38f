-- Books what requests have cost in the end, once: a batch that is sent again changes nothing.
-- KEYS: the batch; then for each settlement its counter, and what is held of it.
-- ARGV: seconds for which the batch is remembered; then for each settlement charge, release, due, seconds to live.
-- Returns how many counters could not be booked on: what is no counter must not keep the others from being booked.
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then
    return 0
end
local refused = 0
for i = 1, (#KEYS - 1) / 2 do
    local counter, holds, at = KEYS[2 * i], KEYS[2 * i + 1], 2 + (i - 1) * 4
    local charge, release, due = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), ARGV[at + 2]
    if charge > 0 then
        local booked = redis.pcall('INCRBY', counter, string.format('%d', charge))
        if type(booked) == 'table' then
            refused = refused + 1
        else
            redis.call('EXPIRE', counter, ARGV[at + 3])
        end
    end
    -- What was due is gone.
    if release > 0 and redis.pcall('HEXISTS', holds, due) == 1 then
        if redis.call('HINCRBY', holds, due, string.format('%d', -release)) <= 0 then
            redis.call('HDEL', holds, due)
        end
    end
end
return refused
