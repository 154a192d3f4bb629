-- One read of a partition: its state and the present texts of some cells (DESIGN 3).
-- KEYS: 1 P state, then hashes of cells (see apply.lua). ARGV[1]: msgpack {{field, …}, …}, by key.
-- Answers {state as HGETALL, texts of every field in order}; a missing text is false.
-- As a script and not a MULTI: one answer is parsed in C, a thousand are parsed in Python.
local CHUNK = 4000
local wanted, texts = cmsgpack.unpack(ARGV[1]), {}
for i = 2, #KEYS do
  local fields = wanted[i - 1]
  for at = 1, #fields, CHUNK do
    local found = redis.call('HMGET', KEYS[i], unpack(fields, at, math.min(at + CHUNK - 1, #fields)))
    for j = 1, #found do texts[#texts + 1] = found[j] end
  end
end
return {redis.call('HGETALL', KEYS[1]), texts}
