// Judges a sale by nothing but what it says: follows every purchase from decision to decision and
// holds each one against the promises made to shoppers. It predicts nothing, so it can't repeat a
// mistake of the model's.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <stdexcept>
#include <string>

#include "tests/domain/support.hpp"

namespace fairsale::test {

struct Broken : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Watcher {
 public:
  // Watches one apply(): before it, each decision while it runs, and after it. Throws Broken.
  void before(const Sale&, Timestamp at, const Event&);
  void heard(const Said&);
  void after(const Sale&, const Said& answer);

 private:
  enum class Stands { nowhere, refused, in_line, holding, gone, ordered, refunded };

  struct Buy {
    Stands stands = Stands::nowhere;
    std::string customer;
    std::uint32_t quantity = 0;
    std::int64_t deadline = 0;
    int holds_begun = 0;
    int holds_ended = 0;
    bool expired = false;
    bool was_offer = false;
  };

  void begin_hold(const Said&, Buy&);
  void end_hold(Buy&);
  void take(const Buy&);
  std::int64_t available() const { return stocked_ - held_ - sold_; }
  static void must(bool holds, const std::string& promise);

  std::int64_t stocked_ = 0;
  std::int64_t held_ = 0;
  std::int64_t sold_ = 0;
  std::map<std::uint64_t, Buy> buys_;
  std::deque<std::uint64_t> line_;
  std::deque<std::uint64_t> holds_;
  std::map<std::string, std::int64_t> units_;
  std::uint32_t released_ = 0;
  bool sold_out_ = false;

  Terms terms_;
  Phase phase_ = Phase::none;
  std::int64_t at_ = 0;
  std::uint64_t seq_ = 0;
  const Event* event_ = nullptr;
};

}  // namespace fairsale::test
