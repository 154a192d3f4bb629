-- Write cells that were counted again, whole or not at all; `next` stays (core/mending.py).
--
-- KEYS: 1 P state, then hashes of cells, then sets of elements (apply.lua)
-- ARGV: 1..6 what must be stored (apply.lua)   7..9 next, acts and hist afterwards
--       10 msgpack: {state = {field, text, …}, texts = {{field, text, …}, …},
--                    gone = {{field, …}, …}, lost = {{member, …}, …}}
--          texts and gone: of each hash in turn, what it holds, and what it does not any more;
--          lost: of each set, what it does not
-- Answers as apply.lua does. Its rules 1 to 3 hold here too: `begun` comes first, the state last.
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
local hashes = #body.texts
for i = 2, #KEYS do
  local kind = redis.call('TYPE', KEYS[i]).ok
  local wanted = i <= 1 + hashes and 'hash' or 'set'
  if kind ~= 'none' and kind ~= wanted then return {'wrong_type', KEYS[i]} end
end

local function write(command, key, items)
  for at = 1, #items, CHUNK do
    redis.call(command, key, unpack(items, at, math.min(at + CHUNK - 1, #items)))
  end
end
redis.call('HSET', KEYS[1], 'begun', ARGV[9])
for i = 1, hashes do
  write('HSET', KEYS[1 + i], body.texts[i])
  write('HDEL', KEYS[1 + i], body.gone[i])
end
for i = 1, #body.lost do write('SREM', KEYS[1 + hashes + i], body.lost[i]) end
write('HSET', KEYS[1], body.state)
return {'applied', ''}
