-- One commit: [lo, hi) of one partition, whole or not at all (docs/design.md 3).
--
-- KEYS, all of one hash tag, P = recount:{deployment/partition.suffix}:
--   1            P state   hash    what the partition stands on (core/state.py)
--   2 .. 1+c     P c:…     hash    cells of up to four measures, one day and owner: field -> text
--                P names   hash    of the same kind, where names were learned (core/names.py)
--   … +u         P u:…     set     UNIQUE elements of the same: field=element
--   … +x         P i:… d:… set     owners and days of a measure
--   … +d         P ids:g   list    id logs of generations that end
--   then, if ids  P ids:g  list    id log of the running generation: offset of the flush, 12-byte ids
--   last, if kept verdicts, or a kept correction
--                P dups    list    which records were judged duplicates (core/verdicts.py)
--                P voids   list    which record was taken back (core/voids.py): never with the other
-- ARGV:
--   1..6   what must be stored: store_id, rules, next, acts, ids, hist
--   7..9   next, acts and hist afterwards
--   10     msgpack: {state = {field, text, …}, cells = {{field, text, …}, …},
--                    sets = {{member, …}, …}, known = n, dropped = n}
--   11     the element of ids, may be empty          12..   elements of kept verdicts, or of a correction
--
-- Answers {word, detail}: applied, already, refused (detail: which fence), wrong_type (detail: key).
-- Rule 1: every key is read before the first write, so that a wrong type changes nothing. The first
-- `known` hashes were read by the same owner before, or written: of these TYPE is not asked again.
-- Rule 2: after the first write nothing can fail: final values only, no arithmetic.
-- Rule 3: ids and verdicts come first and the state last. Redis may run the first half of a commit
-- that was torn off its file, at the start after next (core/dedup.py, superfluous()): whatever of it is
-- there, its ids are, and they show. A slice of the past has no ids: `begun` shows it (core/state.py).
local CHUNK = 4000

local found = redis.call('HMGET', KEYS[1], 'store_id', 'rules', 'next', 'acts', 'ids', 'hist')
if found[1] ~= ARGV[1] then return {'refused', 'store_id'} end
if found[2] ~= ARGV[2] then return {'refused', 'rules'} end
if found[3] == ARGV[7] and found[4] == ARGV[8] and found[6] == ARGV[9] then return {'already', ''} end
if found[3] ~= ARGV[3] then return {'refused', 'next'} end
if found[4] ~= ARGV[4] then return {'refused', 'acts'} end
if found[5] ~= ARGV[5] then return {'refused', 'ids'} end
if found[6] ~= ARGV[6] then return {'refused', 'hist'} end

local body = cmsgpack.unpack(ARGV[10])
local cells, sets = #body.cells, #body.sets
local first_set = 2 + cells
local first_dropped = first_set + sets
local first_log = first_dropped + body.dropped

local function wrong(key, wanted)
  local kind = redis.call('TYPE', key).ok
  return kind ~= 'none' and kind ~= wanted
end
for i = 2 + body.known, first_set - 1 do
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
if ARGV[9] ~= ARGV[6] then redis.call('HSET', KEYS[1], 'begun', ARGV[9]) end
if #ARGV[11] > 0 then redis.call('RPUSH', KEYS[first_log], ARGV[11]) end
for i = 12, #ARGV do redis.call('RPUSH', KEYS[#KEYS], ARGV[i]) end
for i = 1, cells do write('HSET', KEYS[1 + i], body.cells[i]) end
for i = 1, sets do write('SADD', KEYS[first_set + i - 1], body.sets[i]) end
for i = 0, body.dropped - 1 do redis.call('UNLINK', KEYS[first_dropped + i]) end
write('HSET', KEYS[1], body.state)
return {'applied', ''}
