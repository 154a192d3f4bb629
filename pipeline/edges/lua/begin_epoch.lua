-- Begin to build a partition's numbers anew beside those that readers see, or go on with that.
-- KEYS: 1 P state   2 P building   3 P epochs
-- ARGV: 1 store id   2 the least number that it may have   3.. fields of its first state
-- Answers 1 where it was begun, 0 where it is under way.
-- Rule: an epoch stands in `epochs` before it has a key, and until it has none. Its number is greater
-- than any that was given before: what was computed on another epoch's numbers never fits its fence.
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local text = redis.call('HGET', KEYS[1], 'store_id')
local current = tonumber(text and string.match(text, '%.(%d+)$') or '0')
local given = tonumber(redis.call('HGET', KEYS[3], 'given') or '0')
local number = string.format('%d', math.max(current + 1, given + 1, tonumber(ARGV[2])))
redis.call('HSET', KEYS[3], 'given', number, current, '', number, '')
redis.call('HSET', KEYS[2], 'store_id', ARGV[1] .. '.' .. number, unpack(ARGV, 3))
return 1
