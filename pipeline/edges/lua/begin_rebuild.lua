-- Mark a partition that will be emptied: every commit is refused and every reader waits.
-- KEYS: 1 P state   2 P building   3 P epochs
-- Answers the epoch that it will have. Another rebuild that begins later takes the partition over.
local text = redis.call('HGET', KEYS[1], 'store_id')
local current = tonumber(text and string.match(text, '%.(%d+)$') or '0')
local given = tonumber(redis.call('HGET', KEYS[3], 'given') or '0')
local number = string.format('%d', math.max(current, given) + 1)
redis.call('HSET', KEYS[3], 'given', number, number, '')
redis.call('UNLINK', KEYS[2])
redis.call('UNLINK', KEYS[1])
redis.call('HSET', KEYS[1], 'rebuilding', number)
return number
