-- The state of one partition and some of its cells, from one moment.
--
-- KEYS: 1 the partition's state (hash); then cells (hash) and elements (set) in turn (apply.lua).
-- Answers the content of each key, in order; a hash as {field, text, …}.
local found = {redis.call('HGETALL', KEYS[1])}
for i = 2, #KEYS, 2 do
  found[#found + 1] = redis.call('HGETALL', KEYS[i])
  found[#found + 1] = redis.call('SMEMBERS', KEYS[i + 1])
end
return found
