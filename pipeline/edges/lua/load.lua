-- One read of a partition: the present texts of some cells, if it stands where asked (docs/design.md 3).
-- KEYS: 1 P state, then hashes of cells (see apply.lua).
-- ARGV: 1..6 what must be stored: store_id, rules, next, acts, ids, hist    7 msgpack {{field, …}, …}
-- Answers the texts of every field in order, a missing one as false; nil where it stands elsewhere.
-- As a script and not a MULTI: one answer is parsed in C, a thousand are parsed in Python.
local CHUNK = 4000
local fence = redis.call('HMGET', KEYS[1], 'store_id', 'rules', 'next', 'acts', 'ids', 'hist')
for i = 1, 6 do
  if fence[i] ~= ARGV[i] then return false end
end
local wanted, texts = cmsgpack.unpack(ARGV[7]), {}
for i = 2, #KEYS do
  local fields = wanted[i - 1]
  for at = 1, #fields, CHUNK do
    local last = math.min(at + CHUNK - 1, #fields)
    local found = redis.pcall('HMGET', KEYS[i], unpack(fields, at, last))
    if found.err then return redis.error_reply(found.err .. ' at ' .. KEYS[i]) end
    for j = 1, #found do texts[#texts + 1] = found[j] end
  end
end
return texts
