-- One commit: [lo, hi) of one partition, whole or not at all (docs/design.md 3).
--
-- KEYS, all of one hash tag, P = recount:{deployment/partition}:
--   1            P state   hash    what the partition stands on (core/state.py)
--   2 .. 1+c     P c:…     hash    cells of one measure, day and customer: field -> text
--                P names   hash    of the same kind, where names were learned (core/names.py)
--   … +u         P u:…     set     UNIQUE elements of the same: field=element
--   … +x         P i:… d:… set     customers and days of a measure
--   … +d         P ids:g   list    id logs of generations that end
--   last, if ids P ids:g   list    id log of the running generation: packed 12-byte ids
-- ARGV:
--   1..5   what must be stored: store_id, rules, next, acts, ids    6, 7  next and acts afterwards
--   8      msgpack: {state = {field, text, …}, cells = {{field, text, …}, …},
--                    sets = {{member, …}, …}, dropped = n}          9     packed ids, may be empty
--
-- Answers {word, detail}: applied, already, refused (detail: which fence), wrong_type (detail: key).
-- Rule 1: every key is read before the first write, so that a wrong type changes nothing.
-- Rule 2: after the first write nothing can fail: final values only, no arithmetic.
-- Rule 3: ids come first and the state last. Redis may run the first half of a commit that was torn
-- off its file, at the start after next (core/dedup.py, superfluous()): whatever of it is there, its
-- ids are, and they show.
local CHUNK = 4000

local found = redis.call('HMGET', KEYS[1], 'store_id', 'rules', 'next', 'acts', 'ids')
if found[1] ~= ARGV[1] then return {'refused', 'store_id'} end
if found[2] ~= ARGV[2] then return {'refused', 'rules'} end
if found[3] == ARGV[6] and found[4] == ARGV[7] then return {'already', ''} end
if found[3] ~= ARGV[3] then return {'refused', 'next'} end
if found[4] ~= ARGV[4] then return {'refused', 'acts'} end
if found[5] ~= ARGV[5] then return {'refused', 'ids'} end

local body = cmsgpack.unpack(ARGV[8])
local cells, sets = #body.cells, #body.sets
local first_set = 2 + cells
local first_dropped = first_set + sets

local function wrong(key, wanted)
  local kind = redis.call('TYPE', key).ok
  return kind ~= 'none' and kind ~= wanted
end
for i = 2, first_set - 1 do
  if wrong(KEYS[i], 'hash') then return {'wrong_type', KEYS[i]} end
end
for i = first_set, first_dropped - 1 do
  if wrong(KEYS[i], 'set') then return {'wrong_type', KEYS[i]} end
end
for i = first_dropped, #KEYS do
  if wrong(KEYS[i], 'list') then return {'wrong_type', KEYS[i]} end
end

local function write(command, key, items)
  for at = 1, #items, CHUNK do
    redis.call(command, key, unpack(items, at, math.min(at + CHUNK - 1, #items)))
  end
end
if #ARGV[9] > 0 then redis.call('RPUSH', KEYS[#KEYS], ARGV[9]) end
for i = 1, cells do write('HSET', KEYS[1 + i], body.cells[i]) end
for i = 1, sets do write('SADD', KEYS[first_set + i - 1], body.sets[i]) end
for i = 0, body.dropped - 1 do redis.call('UNLINK', KEYS[first_dropped + i]) end
write('HSET', KEYS[1], body.state)
return {'applied', ''}
