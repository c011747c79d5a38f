-- Books what requests have cost in the end, once: a batch that is sent again changes nothing.
-- KEYS: who has sent it; then for each settlement its counter, and what is held of it.
-- ARGV: seconds for which that is remembered, and the number of the batch: batches are sent one after the other, so that
-- one that is not above the last is known; then for each settlement charge, release, due, seconds to live.
-- Returns how many counters could not be booked on: what is no counter must not keep the others from being booked.
local last = redis.call('GET', KEYS[1])
if last and tonumber(last) >= tonumber(ARGV[2]) then
    return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[1])
local refused = 0
for i = 1, (#KEYS - 1) / 2 do
    local counter, holds, at = KEYS[2 * i], KEYS[2 * i + 1], 3 + (i - 1) * 4
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
