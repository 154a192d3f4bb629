-- The state of one partition and the cells of some owners, from one moment: only keys that exist.
--
-- KEYS: 1 the partition's state (hash); then for each owner as many keys: cells (hash), and behind
--   them elements (set) (apply.lua)
-- ARGV: 1 how many keys an owner has   2 how many of them are cells   3 how much is read at most
-- Answers the state, then for each owner a list {place of a key, its content, …}; a hash as
-- {field, text, …}. Once ARGV[3] texts are read it begins with no other owner: whoever asked goes
-- on behind the last one, so that Redis is not kept from others (docs/performance.md).
local per, hashes, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local found, read, at = {redis.call('HGETALL', KEYS[1])}, 0, 2
while at <= #KEYS and read < most do
  local owned = {}
  for place = 0, per - 1 do
    local content = redis.call(place < hashes and 'HGETALL' or 'SMEMBERS', KEYS[at + place])
    if #content > 0 then
      owned[#owned + 1] = place
      owned[#owned + 1] = content
      read = read + #content
    end
  end
  found[#found + 1] = owned
  at = at + per
end
return found
