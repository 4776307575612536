// The same arrivals under other terms: the log is folded twice at once, as it is and with its terms
// changed, and the two sales are compared. Nothing is written.
//
// What is held fixed: every event keeps its position and its log time. The same customers try for
// the same quantities under the same keys, the same payments come, and who gave up gives up (what
// was an offer declined is, in a world without that offer, a cancellation). So
//   - who gets units only in the other world never paid in this one: that hold expires;
//   - a payment for a purchase that holds nothing there is judged as any such payment: refund due;
//   - time passes with the events of this log only: a deadline that falls between two of them, or
//     after the last, takes effect at the next, or not at all.
// What the operator did is done there too, with the terms that are overridden replaced in every
// SaleScheduled and SaleChanged, and the stock in every StockAdjusted: the override wins. A
// SaleChanged that left the stock as it was leaves it so.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "core/explain/tally.hpp"
#include "core/log/event_log.hpp"

namespace fairsale::cli {

struct Overrides {
  std::optional<Quantity> stock;
  std::optional<Duration> hold;
  std::optional<Quantity> limit_per_customer;
  std::optional<Quantity> units_per_purchase;
  std::optional<std::uint32_t> line_limit;
  std::optional<LinePolicy> line_policy;
};

// How a sale went.
struct Outcome {
  Terms terms;  // by the end of the log
  Counters counters;
  Phase phase = Phase::none;
  std::uint64_t attempts = 0;  // retries apart
  Tally reserved;              // held at once
  Tally waited;
  Tally offered;
  Tally expired;
  Tally given_up;                           // cancelled or declined
  Tally ordered;                            // by the end, so without those refunded
  std::array<std::uint64_t, 29> refused{};  // attempts, by Reason
  std::uint64_t refunds_due = 0;            // payments that bought nothing
  std::uint64_t operator_refused = 0;       // operator events that the rules refused
  std::int64_t revenue = 0;                 // minor units of orders, without those refunded
  std::optional<Timestamp> all_taken;       // the first moment when nothing was free
  std::optional<Timestamp> sold_out;        // the first moment when all was sold
};

// Purchases that came out differently.
struct Affected {
  Tally gained;
  Tally lost;
  std::vector<Seq> first_gained;  // in log order
  std::vector<Seq> first_lost;
};

struct WhatIf {
  Outcome real;
  Outcome other;
  Affected held;     // units were held for it, at some time
  Affected ordered;  // it is an order at the end
  Head head;
};

// Lists at most `list` purchases of each kind of difference. `watch` is called with the number of
// events that were read since. Fails as fold() does, and with invalid when the terms as overridden
// cannot be sold under.
Result<WhatIf> what_if(const EventLog&, const SkuHead&, const Overrides&, std::size_t list,
                       const std::function<void(std::uint64_t events)>& watch = {});

}  // namespace fairsale::cli
