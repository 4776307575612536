-- One purchase attempt: the first answer for the same customer and key is kept for ever, a customer
-- may hold so many units, stock is taken with a hold that has a deadline, and the attempt goes to a
-- stream.
-- KEYS: answers (hash), taken (hash), stock, holds (sorted set), attempts (stream)
-- ARGV: customer, key, quantity, limit, hold in milliseconds
local id = ARGV[1] .. ':' .. ARGV[2]
local first = redis.call('HGET', KEYS[1], id)
if first then return first end

local quantity = tonumber(ARGV[3])
local taken = tonumber(redis.call('HGET', KEYS[2], ARGV[1]) or 0)
local outcome = 'reserved'
if taken + quantity > tonumber(ARGV[4]) then
  outcome = 'over_limit'
elseif tonumber(redis.call('GET', KEYS[3]) or 0) < quantity then
  outcome = 'sold_out'
end

local attempt = redis.call('XADD', KEYS[5], '*', 'customer', ARGV[1], 'key', ARGV[2],
                           'quantity', ARGV[3], 'outcome', outcome)
local answer = outcome .. ':' .. attempt
if outcome == 'reserved' then
  -- The stream's id begins with Redis' clock.
  local until_ms = tonumber(string.match(attempt, '^%d+')) + tonumber(ARGV[5])
  redis.call('DECRBY', KEYS[3], quantity)
  redis.call('HSET', KEYS[2], ARGV[1], taken + quantity)
  redis.call('ZADD', KEYS[4], until_ms, attempt)
  answer = string.format('%s:%.0f', answer, until_ms)
end
redis.call('HSET', KEYS[1], id, answer)
return answer
