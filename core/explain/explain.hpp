// Why a customer did or did not get a unit: told from the log alone, by folding it once.
//
// Pure of I/O besides the EventLog. Memory: the sale, and for each purchase that is explained one
// bit for each attempt before it and at most kMaxSteps steps.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/engine/recovery.hpp"
#include "core/explain/tally.hpp"

namespace fairsale {

struct Question {
  std::optional<Seq> purchase;   // the attempt at this position, or
  CustomerId customer;           // all attempts of this customer
  bool names = false;            // name customers; they are personal
  std::size_t ahead_limit = 10;  // of those ahead, how many to list, at most kMaxAheadListed
  // Where to begin what came before the attempt. A snapshot is taken at its word.
  FoldFrom from = FoldFrom::snapshot;
};

inline constexpr std::size_t kMaxSteps = 200;   // listed of one purchase
inline constexpr std::size_t kMaxStories = 32;  // purchases of one customer
inline constexpr std::size_t kMaxAheadListed = 1000;

// One thing that happened to the purchase, or to the sale while the purchase was undecided.
struct Step {
  Seq seq;
  Timestamp at;
  std::string_view event;  // that brought it, "PaymentReceived"
  DecisionKind decision = DecisionKind::noted;
  Reason reason = Reason::none;
  bool repeated = false;
  bool own = true;  // about the purchase; otherwise about the sale
  std::uint32_t quantity = 0;
  std::uint32_t place = 0;  // waiting: the place told
  Timestamp until;          // reserved, offered: when the hold ends
  Counters counters;        // of the sale afterwards
};

// Those who stood before the purchase when it was decided, and what became of them by the end of
// the log.
struct Ahead {
  struct Listed {
    Seq purchase;
    std::uint32_t quantity = 0;
    PurchaseStatus then = PurchaseStatus::refused;
    PurchaseStatus now = PurchaseStatus::refused;
    std::string customer;  // only when names were asked for
  };

  Tally waiting;                 // before it in line
  Tally holding;                 // units held for them, unpaid
  Tally ordered;                 // paid
  std::array<Tally, 10> became;  // by PurchaseStatus
  std::vector<Listed> nearest;   // the last of them before the purchase, in log order
  std::uint64_t of = 0;          // how many they are
};

// What a purchase that got nothing missed afterwards.
struct Afterwards {
  Seq since;        // when it was clear that it would get nothing
  Tally came_back;  // by expiry, cancellation, decline or a refund that restocks
  std::uint64_t stock_added = 0;
  Tally served;  // attempts and offers that got units, nobody of whom could have been it
  // The first moment when the same attempt, made again with a new key, would have been reserved:
  // as the next event after this position, at this log time. That time is the position's own, or
  // that of the event after it, when what time brought then was taken in the same event.
  std::optional<Seq> chance;
  Timestamp chance_at;
};

struct Story {
  Seq attempt;  // its id is "<SKU>:<attempt>"
  Timestamp at;
  std::uint32_t quantity = 0;
  std::string customer;                             // only when names were asked for
  bool is_purchase = true;                          // false for an attempt that was not kept as one
  PurchaseStatus status = PurchaseStatus::refused;  // by the end of the log
  Reason reason = Reason::none;                     // of a refusal or release
  Counters before;                                  // the sale's when it was decided
  std::vector<Step> steps;
  std::uint64_t steps_left_out = 0;
  std::uint32_t first_place = 0;  // 0: it never waited
  std::uint32_t best_place = 0;   // the nearest to the front that it came
  Tally overtaken_by;             // later attempts served while it waited (skip_if_unfit only)
  std::optional<Ahead> ahead;     // when others decided its fate: it waited, or too little was left
  std::optional<Afterwards> afterwards;  // unless it was ordered or may still be
};

struct Explanation {
  std::string sku;
  Head head;  // the end of the log that was told from
  Timestamp at;
  std::optional<bool> provisional;  // whether the end is; for the asker to set, who may know
  Terms terms;
  Phase phase = Phase::none;
  std::vector<Story> stories;  // in log order
  std::uint64_t stories_left_out = 0;
};

// Fails with not_found when there is no such attempt or the customer never tried, with what is
// there instead; as fold() does on damage. `watch` is called with the number of events that were
// read since; it breaks off (Fault::busy) by returning false.
Result<Explanation> explain(const EventLog& log, const SkuHead& sku, const Question& question,
                            const std::function<bool(std::uint64_t events)>& watch = {});

// One sentence each, for people; the rule that is applied.
std::string_view sentence_of(DecisionKind);
std::string_view sentence_of(Reason);

// The outcome in one sentence: "It waited ... and was released since every unit was sold."
std::string outcome_of(const Story&);

// For people, some lines a story; and as one JSON object.
std::string text_of(const Explanation&);
void append_json(std::string& out, const Explanation&);

}  // namespace fairsale
