-- Note beside a partition's state why its owner has halted, if it stands where asked (core/state.py).
-- KEYS: 1 P state     ARGV: 1..6 what must be stored (apply.lua)   7 the text; empty: it goes on
-- Answers 1, or nil where the partition stands elsewhere. No number depends on it.
local fence = redis.call('HMGET', KEYS[1], 'store_id', 'rules', 'next', 'acts', 'ids', 'hist')
for i = 1, 6 do
  if fence[i] ~= ARGV[i] then return false end
end
redis.call('HSET', KEYS[1], 'halted', ARGV[7])
return 1
