-- Let go of the oldest kept verdicts, or kept corrections, if the partition stands where asked
-- (core/verdicts.py, trim(); core/voids.py, trim_voids()).
-- KEYS: 1 P state   2 P dups or P voids
-- ARGV: 1..6 what must be stored (apply.lua)   7 `trimmed` or `voids_trimmed`
--       8, 9 its text before and after   10.. elements, whole
-- Answers 1, or nil where the partition stands elsewhere.
-- Rule: what is trimmed is noted first. If only the note survives a crash, elements below it are
-- still there, and are passed over. Elements are named, not counted: Redis may run this late, after
-- the same was done again (docs/reliability.md), and then nothing more may go.
local fence = redis.call('HMGET', KEYS[1], 'store_id', 'rules', 'next', 'acts', 'ids', 'hist', ARGV[7])
for i = 1, 6 do
  if fence[i] ~= ARGV[i] then return false end
end
if fence[7] ~= ARGV[8] then return false end
redis.call('HSET', KEYS[1], ARGV[7], ARGV[9])
for i = 10, #ARGV do redis.call('LREM', KEYS[2], 1, ARGV[i]) end
return 1
