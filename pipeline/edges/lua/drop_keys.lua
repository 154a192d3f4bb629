-- Delete keys of epochs that nobody sees and nobody builds, or forget that these epochs had any.
-- KEYS: 1 P state   2 P building   3 P epochs   4.. keys of epochs
-- ARGV: epochs that they are of, and that are forgotten where there are no such keys
-- Answers how many were deleted; nil where one of the epochs is seen or built, or there is no state:
-- then nothing is done. Nobody deletes what has come to life again, however late it is.
for i = 1, 2 do
  local text = redis.call('HGET', KEYS[i], 'store_id')
  if i == 1 and not text then return false end
  local living = text and (string.match(text, '%.(%d+)$') or '0')
  for j = 1, #ARGV do
    if ARGV[j] == living then return false end
  end
end
local count = 0
for i = 4, #KEYS do count = count + redis.call('UNLINK', KEYS[i]) end
if #KEYS == 3 and #ARGV > 0 then redis.call('HDEL', KEYS[3], unpack(ARGV)) end
return count
