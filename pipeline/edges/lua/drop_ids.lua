-- Take elements out of an id log, if the partition stands where asked (core/dedup.py, superfluous()).
-- KEYS: 1 P state   2 P ids:g     ARGV: 1..6 what must be stored (apply.lua)   7.. elements, whole
-- Answers 1, or nil where the partition stands elsewhere.
local fence = redis.call('HMGET', KEYS[1], 'store_id', 'rules', 'next', 'acts', 'ids', 'hist')
for i = 1, 6 do
  if fence[i] ~= ARGV[i] then return false end
end
for i = 7, #ARGV do redis.call('LREM', KEYS[2], 1, ARGV[i]) end
return 1
