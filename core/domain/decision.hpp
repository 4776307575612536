// What the processor derives from an event. Decisions are never stored as truth: the log is.
#pragma once

#include "core/domain/types.hpp"

namespace fairsale {

// Numbers are part of outbox messages and projections: never reused.
enum class DecisionKind : std::uint8_t {
  scheduled = 1,
  changed = 2,
  opened = 3,
  paused = 4,
  resumed = 5,
  ended = 6,
  closed = 7,
  stock_adjusted = 8,
  reserved = 9,
  waiting = 10,
  offered = 11,
  refused = 12,
  expired = 13,
  cancelled = 14,
  declined = 15,
  ordered = 16,
  payment_failure_noted = 17,
  refund_due = 18,
  refunded = 19,
  sold_out = 20,
  released = 21,       // one waiting purchase: it can no longer be served
  line_released = 22,  // all who waited; quantity is how many purchases
  noted = 23,          // the event changed nothing (already so, or only time passed)
};

std::string_view name_of(DecisionKind);

// Index of a customer or purchase within one sale's state, in the order of first appearance.
using CustomerIndex = Strong<struct CustomerIndexTag, std::uint32_t>;
using PurchaseIndex = Strong<struct PurchaseIndexTag, std::uint32_t>;
inline constexpr std::uint32_t kNoIndex = std::numeric_limits<std::uint32_t>::max();

struct Decision {
  DecisionKind kind = DecisionKind::noted;
  Reason reason = Reason::none;
  bool repeated = false;             // the first answer again: nothing changed
  Quantity quantity;                 // of the purchase, or of what the decision is about
  std::uint32_t place = 0;           // waiting: the place in line at that moment, from 1
  CustomerIndex customer{kNoIndex};  // whose purchase, if it is about one
  Seq purchase;                      // position of the purchase's attempt; 0 when about none
  Timestamp until;                   // reserved, offered: when the hold ends

  friend bool operator==(const Decision&, const Decision&) = default;
};

// Receives each decision of an event in order, while the state already reflects it. The first
// decision with the event's own purchase is not necessarily first: time passes before an event
// acts. An implementation must not call back into the sale's apply().
class DecisionSink {
 public:
  virtual void on(const Decision&) = 0;

 protected:
  ~DecisionSink() = default;
};

}  // namespace fairsale
