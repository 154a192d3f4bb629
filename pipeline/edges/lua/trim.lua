-- Let go of the oldest kept verdicts, if the partition stands where asked (core/verdicts.py, trim()).
-- KEYS: 1 P state   2 P dups
-- ARGV: 1..6 what must be stored (apply.lua)   7 how many elements   8, 9 `trimmed` before and after
-- Answers 1, or nil where the partition stands elsewhere.
-- Rule: what is trimmed is noted first. If only the note survives a crash, elements below it are
-- still there, and are passed over.
local fence = redis.call('HMGET', KEYS[1], 'store_id', 'rules', 'next', 'acts', 'ids', 'hist', 'trimmed')
for i = 1, 6 do
  if fence[i] ~= ARGV[i] then return false end
end
if fence[7] ~= ARGV[8] then return false end
redis.call('HSET', KEYS[1], 'trimmed', ARGV[9])
redis.call('LTRIM', KEYS[2], ARGV[7], -1)
return 1
