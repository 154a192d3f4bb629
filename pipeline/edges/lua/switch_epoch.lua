-- Let readers and the owner see what was built beside, in one step.
-- KEYS: 1 P state   2 P building     ARGV: 1 store id with the epoch that was built
-- Answers: switched; behind (the other one is further: no answer may go back); gone (it is not that
-- epoch which is built: it was switched to, or given up).
-- Rule: one command writes, so it is never done half. From then on commits to the other epoch are
-- refused, by the store id, and those of whoever built this one, since nothing is there any more.
local made = redis.call('HMGET', KEYS[2], 'store_id', 'next')
if made[1] ~= ARGV[1] then return 'gone' end
local held = redis.call('HMGET', KEYS[1], 'next', 'rebuilding')
if held[2] then return 'gone' end
if held[1] and tonumber(held[1]) > tonumber(made[2]) then return 'behind' end
redis.call('RENAME', KEYS[2], KEYS[1])
return 'switched'
