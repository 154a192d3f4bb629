-- Give a partition that was emptied its first state.
-- KEYS: 1 P state   2 P epochs   ARGV: 1 the epoch   2.. fields of the state
-- Answers 1; nil where it is another rebuild's by now: then nothing is done.
if redis.call('HGET', KEYS[1], 'rebuilding') ~= ARGV[1] then return false end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('HDEL', KEYS[1], 'rebuilding')
for _, name in ipairs(redis.call('HKEYS', KEYS[2])) do
  if name ~= 'given' and name ~= ARGV[1] then redis.call('HDEL', KEYS[2], name) end
end
return 1
