-- Go on with the copy of the control log, if it ends where what comes begins (control/kept.py).
-- KEYS: 1 the copy, a list
-- ARGV: 1 store id   2 where the copy must end   3 the next element; none: only ask
-- Answers where the copy ends: the first offset of the control log that it does not hold.
-- Rule: what is older than the copy changes nothing, however late it runs. What is of another
-- deployment, or nothing of ours, is dropped: the copy begins again.
local at, store, ends, kind = 0, nil, nil, redis.call('TYPE', KEYS[1]).ok
if kind == 'list' then
  store, ends = string.match(redis.call('LRANGE', KEYS[1], -1, -1)[1], '^([^:]*):%d+:(%d+):')
end
if store == ARGV[1] then
  at = tonumber(ends)
elseif kind ~= 'none' then
  redis.call('UNLINK', KEYS[1])
end
if ARGV[3] and at == tonumber(ARGV[2]) then
  redis.call('RPUSH', KEYS[1], ARGV[3])
  at = tonumber(string.match(ARGV[3], '^[^:]*:%d+:(%d+):'))
end
return at
