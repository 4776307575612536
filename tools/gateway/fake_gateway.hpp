// A payment and fulfilment gateway that does nothing and writes it all down, with the faults of
// real ones. For demonstrations and tests.
//
//   POST /charges    {"purchase","amount","currency"}: 202 {"reference"}; the outcome comes later,
//                    as a signed callback
//   POST /captures, /handovers, /refunds  {"purchase","reference","amount","currency"}: 200, or 402
//                    {"status":"declined","reason"}
//   GET  /ledger     everything that it did
//
// Every POST needs an Idempotency-Key; the same key does nothing again and gives the first answer.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/http/worker.hpp"

namespace fairsale::gateway {

// Shares are from 0 to 1. What is declined follows from the seed and the key, so that it does not
// depend on timing; the others are drawn.
struct Faults {
  std::uint64_t seed = 1;
  double decline_charges = 0;
  double decline_captures = 0;
  double decline_handovers = 0;
  double errors = 0;                    // 503, and nothing is done
  double timeouts = 0;                  // no answer, and nothing is done
  double lost = 0;                      // it is done, and the answer is a 500 or none
  double duplicates = 0;                // callbacks that are sent twice
  double late = 0;                      // callbacks that come after `late_delay`
  std::chrono::milliseconds delay{50};  // of a callback, at the most
  std::chrono::milliseconds late_delay{5'000};
  std::chrono::milliseconds hang{20'000};  // after which an answer that does not come is a 504
};

struct Options {
  std::string callback_url;     // of fairsaled's /v1/payments/callback; empty: none are sent
  std::string callback_secret;  // whsec_...
  std::string token;            // that requests must bear; empty: none
  Faults faults;
};

class FakeGateway final : public http::Service {
 public:
  FakeGateway(Options, http::Worker&);
  ~FakeGateway() override;

  void on_request(const http::Request&, http::Ticket) override;
  std::chrono::steady_clock::time_point on_turn() override;

 private:
  using When = std::chrono::steady_clock::time_point;

  struct Deed {
    std::string purchase, reference, currency;
    std::int64_t amount = 0;
  };
  struct Charge {
    Deed deed;
    bool received = true;
    std::vector<std::string> answers;  // to its callbacks: "ordered", "refund_due", ... or a status
  };
  struct Callback {
    std::string reference;
    int tries = 0;
  };
  struct Answered {
    int status = 200;
    std::string body;
  };

  Answered perform(std::string_view path, const std::string& key, const Deed&);
  void answer(http::Ticket, const Answered&);
  void hang(http::Ticket);
  std::string ledger() const;
  bool chance(double share);
  bool fated(double share, std::string_view what) const;
  void send_callbacks();

  const Options options_;
  http::Worker& worker_;
  std::mt19937_64 random_;
  std::multimap<When, http::Ticket> hanging_;

  mutable std::mutex mutex_;                               // guards what follows
  std::map<std::string, Answered, std::less<>> answered_;  // by path and key
  std::map<std::string, Charge> charges_;                  // by reference
  std::vector<Deed> captures_, handovers_, refunds_;
  std::vector<std::pair<std::string, Deed>> declined_;
  std::uint64_t repeats_ = 0;
  std::map<std::string, std::uint64_t> faults_;  // that happened
  std::multimap<When, Callback> callbacks_;
  std::size_t calling_ = 0;  // callbacks under way
  bool stopping_ = false;
  std::condition_variable changed_;
  std::vector<std::thread> callers_;
};

}  // namespace fairsale::gateway
