// Who carries out what is due. Pluggable: the processor knows nothing but this interface.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "tools/orders/fulfilment.hpp"

namespace fairsale::orders {

struct Verdict {
  Answer answer = Answer::unknown;
  std::string detail;                        // declined, unknown: why, for people
  std::chrono::milliseconds retry_after{0};  // unknown: no sooner than that
};

// One for each thread.
class Gateway {
 public:
  virtual ~Gateway() = default;

  // Carries out `action` of the case, or tells what came of it before: asking twice does it once.
  // Takes a bounded time. `declined` only when the other side said so expressly and for good.
  virtual Verdict carry_out(Action action, const Case&) = 0;
};

struct GatewayOptions {
  std::string url;                           // of the payment and fulfilment gateway
  std::string token;                         // its bearer token; empty: none
  std::string server;                        // of fairsaled, where refunded orders are recorded
  std::string server_token;                  // the shop's or the operator's
  bool restock = false;                      // refunded orders' units go back on sale
  std::chrono::milliseconds timeout{5'000};  // of one call
};

// POST {url}/captures, /handovers and /refunds with Idempotency-Key and the members purchase,
// reference, amount, currency, quantity. 2xx is done; 402 is declined, with the body's "reason";
// all else is unknown: what a server says that is overloaded, half configured or not the gateway at
// all must not decide an order. Refunded orders: POST {server}/v1/purchases/{purchase}/refund.
std::unique_ptr<Gateway> http_gateway(const GatewayOptions&);

}  // namespace fairsale::orders
