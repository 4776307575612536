// Where orders come from.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"
#include "tools/orders/order_store.hpp"

namespace fairsale::orders {

// What takes them.
class Intake {
 public:
  virtual ~Intake() = default;

  // Whether more should be taken now.
  virtual bool room() const = 0;

  // When it returns, the batch is durable and may be acknowledged. Fails for good: then the source
  // is to end, without having acknowledged it.
  virtual Result<void> take(const Batch&) = 0;

  // How far a source has come that acknowledges nothing (Batch::cursor).
  virtual Result<std::string> cursor(std::string_view source) const = 0;
};

class OrderSource {
 public:
  virtual ~OrderSource() = default;

  // Brings what there is, at least once each, until stop(). Bears with a counterpart that is down.
  // Fails only when the intake did.
  virtual Result<void> run(Intake&) = 0;

  // From any thread.
  virtual void stop() = 0;
};

// The decisions of sales as fairsaled streams them, GET /v1/sales/{sku}/decisions, from where it
// left off. Every process that reads them gets all.
struct HttpSourceOptions {
  std::string server;
  std::string token;              // the shop's or the operator's
  std::vector<std::string> skus;  // empty: all, new ones too
};
std::unique_ptr<OrderSource> http_source(HttpSourceOptions);

// The work queue of JetStream (stream FAIRSALE_ORDERS). Every message goes to one of the processes
// that share it, and to another when that does not acknowledge it in time.
struct NatsSourceOptions {
  std::string url;          // nats://host:port or tls://, several with commas between
  std::string credentials;  // "user:password" or a token; empty: none
  std::string creds_file;   // a .creds file of NATS; empty: none
  std::chrono::milliseconds ack_wait{30'000};
  int max_deliver = 20;  // times; then it is listed as dead
};
std::unique_ptr<OrderSource> nats_source(NatsSourceOptions);

// A message that was delivered as often as it may be, and that nobody acknowledged.
struct Undelivered {
  std::uint64_t sequence = 0;  // in the stream
  std::string id;
  std::string content;
};
Result<std::vector<Undelivered>> undelivered(const NatsSourceOptions&, std::size_t most);
// Puts them at the end of the queue again. Returns how many.
Result<std::size_t> deliver_again(const NatsSourceOptions&, std::size_t most);

}  // namespace fairsale::orders
