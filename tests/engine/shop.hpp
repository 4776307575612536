// A sequencer under a clock that the test moves, with everything it answered and decided.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "core/engine/sequencer.hpp"
#include "core/log/memory_log.hpp"

namespace fairsale::test {

inline constexpr Timestamp kOpening{1'700'000'000'000};

inline Terms terms(std::uint32_t stock) {
  return {.stock = Quantity{stock},
          .price = {MinorUnits{1000}, Currency{{'E', 'U', 'R'}}},
          .starts_at = kOpening,
          .hold = Duration{60'000},
          .grace = Duration{0},
          .limit_per_customer = Quantity{2},
          .units_per_purchase = Quantity{2},
          .line_limit = 1000};
}

inline SaleScheduled scheduled(std::string_view sku, std::uint32_t stock) {
  return {.sku = *SkuName::from(sku), .terms = terms(stock), .actor = *Actor::from("test")};
}

inline PurchaseAttempted attempt(std::string_view customer, std::string_view key,
                                 std::uint32_t quantity = 1) {
  return {.customer = *CustomerId::from(customer),
          .key = idempotency_key(key),
          .quantity = Quantity{quantity}};
}

struct Answered {
  Seq seq;
  Decision decision;
};

class Recorder final : public Answers {
 public:
  void on_decided(const Ticket& ticket, SkuId, Seq seq, const Event&, const Decision& decision,
                  const Sale&) override {
    answers[ticket.words[0]] = {seq, decision};
    order.push_back(ticket.words[0]);
  }
  std::map<std::uint64_t, Answered> answers;
  std::vector<std::uint64_t> order;
};

class Decisions final : public SaleObserver {
 public:
  void seed(SkuId, const Sale&) override { ++seeds; }
  void on_decision(SkuId, const Sale&, const Decision& d) override { all.push_back(d); }
  void on_commit(SkuId, const Sale&) override { ++commits; }

  std::size_t count(DecisionKind kind) const {
    std::size_t n = 0;
    for (const auto& d : all) n += d.kind == kind;
    return n;
  }
  std::vector<Decision> all;
  int seeds = 0;
  int commits = 0;
};

struct Shop {
  explicit Shop(EventLog& event_log, SequencerOptions options = {})
      : sequencer(event_log, clock, decisions, options) {}

  std::uint64_t submit(std::string_view sku, const Event& event) {
    const std::uint64_t ticket = ++tickets;
    admission = sequencer.submit(sku_id(sku), event, Ticket{{ticket, 0, 0}});
    return ticket;
  }

  // One event, one turn, its decision.
  Decision now(std::string_view sku, const Event& event) {
    const auto ticket = submit(sku, event);
    EXPECT_EQ(admission, Admission::accepted);
    const auto turn = sequencer.turn(recorder);
    EXPECT_TRUE(turn.has_value());
    return recorder.answers.at(ticket).decision;
  }

  ManualClock clock{kOpening};
  Decisions decisions;
  Recorder recorder;
  Sequencer sequencer;
  Admission admission = Admission::accepted;
  std::uint64_t tickets = 0;
};

}  // namespace fairsale::test
