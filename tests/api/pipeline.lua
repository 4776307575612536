-- wrk: purchases in pipelines of as many requests as the argument says (default 16).
function init(args)
  local depth = tonumber(args[1]) or 16
  local one = wrk.format("POST", "/v1/sales/demo/purchases", {
    ["Host"] = "localhost",
    ["Authorization"] = "Bearer ct1.YWxpY2U.1795500000.0123456789012345678901234567890123456789012",
    ["Idempotency-Key"] = "0f2f6c1e-7a52-4d0f-9d0e-6f1f4f9f7c11",
    ["Content-Type"] = "application/json",
  }, '{"quantity":1}')
  request_text = string.rep(one, depth)
end

function request()
  return request_text
end
