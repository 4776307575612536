-- One purchase: checks the request, runs the script in Redis, answers as fairsaled does.
local redis_client = require "nginx.redis"
local cjson = require "cjson.safe"

local function refuse(status, reason)
  ngx.status = status
  local body = '{"type":"urn:fairsale:problem:' .. reason .. '","status":' .. status .. '}'
  ngx.header.content_length = #body
  ngx.print(body)
end

if ngx.var.http_authorization ~= "Bearer {{token}}" then return refuse(401, "unauthorized") end
local key = ngx.var.http_idempotency_key
if not key then return refuse(400, "idempotency_key_missing") end
ngx.req.read_body()
local request = cjson.decode(ngx.req.get_body_data() or "")
if not request or not request.customer then return refuse(400, "bad_request") end

local redis = redis_client:new()
redis:set_timeout(10000)
local ok = redis:connect({{redis}})
if not ok then return refuse(503, "overloaded") end
local sku = ngx.var.sku
local answer = redis:evalsha("{{sha}}", 5, "answers:" .. sku, "taken:" .. sku, "stock:" .. sku,
                             "holds:" .. sku, "attempts:" .. sku, request.customer, key,
                             request.quantity or 1, {{limit}}, {{hold_ms}})
if not answer then return refuse(503, "overloaded") end
redis:set_keepalive(60000, 512)

local outcome, attempt, deadline = answer:match("^([^:]+):([^:]+):?(%d*)")
if outcome == "sold_out" then return refuse(409, outcome) end
if outcome == "over_limit" then return refuse(403, outcome) end
ngx.status = 201
local body = '{"purchase":"' .. attempt .. '","customer":"' .. request.customer ..
             '","quantity":' .. (request.quantity or 1) .. ',"status":"reserved","until":' ..
             deadline .. '}'
ngx.header.content_length = #body
ngx.print(body)
