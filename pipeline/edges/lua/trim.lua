-- Let go of the oldest kept verdicts, if the partition stands where asked (core/verdicts.py, trim()).
-- KEYS: 1 P state   2 P dups
-- ARGV: 1..6 what must be stored (apply.lua)   7, 8 `trimmed` before and after   9.. elements, whole
-- Answers 1, or nil where the partition stands elsewhere.
-- Rule: what is trimmed is noted first. If only the note survives a crash, elements below it are
-- still there, and are passed over. Elements are named, not counted: Redis may run this late, after
-- the same was done again (docs/reliability.md), and then nothing more may go.
local fence = redis.call('HMGET', KEYS[1], 'store_id', 'rules', 'next', 'acts', 'ids', 'hist', 'trimmed')
for i = 1, 7 do
  if fence[i] ~= ARGV[i] then return false end
end
redis.call('HSET', KEYS[1], 'trimmed', ARGV[8])
for i = 9, #ARGV do redis.call('LREM', KEYS[2], 1, ARGV[i]) end
return 1
