// The state of one SKU's sale and the rules that fold its log into it.
//
//   state(n) = fold(log[1..n]), byte for byte, on any machine, compiler and build type.
//
// Pure: no clock, no randomness, no threads, no I/O, and no result depends on a hash. Time comes
// from the log. Not thread-safe; one owner at a time. A decision allocates nothing once the sale
// is warm (memory grows by doubling segments that never move).
//
// The rules, version 1:
//   - Before an event at time t acts, time passes: the sale opens or ends, every hold whose
//     deadline is <= t expires in the order the holds began, and freed units go to the line.
//   - A hold's deadline is `until` + grace. Shoppers are told `until`; a payment in flight is
//     honoured until the deadline.
//   - An attempt is reserved when enough units are free and nobody who could take them stands
//     before it; else it waits if the line has room and the units may still come back.
//   - Freed units are offered to the line in order: strictly, or passing over who wants more than
//     is free (LinePolicy). An offer is a hold like any other, for one purchase only.
//   - Who can no longer be served (more wanted than is free and held together) is released at
//     once. The end and the close of a sale release the whole line; holds keep their deadlines.
//   - Every attempt's first answer is kept for ever under (customer, idempotency key): the same
//     key and quantity get it again, another quantity is refused with key_reused.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/domain/decision.hpp"
#include "core/domain/event.hpp"
#include "core/domain/segmented.hpp"
#include "core/domain/types.hpp"

namespace fairsale {

// Where a sale stands. Numbers appear in snapshots and projections: never reused.
enum class Phase : std::uint8_t {
  none = 0,  // nothing scheduled yet
  scheduled = 1,
  open = 2,
  paused = 3,
  ended = 4,
  closed = 5,
};

std::string_view name_of(Phase);

// Where a purchase stands. Numbers appear in snapshots: never reused.
enum class PurchaseStatus : std::uint8_t {
  refused = 0,
  reserved = 1,
  waiting = 2,
  offered = 3,
  ordered = 4,
  expired = 5,
  cancelled = 6,
  declined = 7,
  released = 8,
  refunded = 9,
};

std::string_view name_of(PurchaseStatus);

constexpr bool holds_units(PurchaseStatus s) {
  return s == PurchaseStatus::reserved || s == PurchaseStatus::offered;
}

// available + held + sold == stocked, always.
struct Counters {
  Quantity stocked;
  Quantity available;
  Quantity held;
  Quantity sold;
  std::uint32_t waiting = 0;  // purchases in line

  friend bool operator==(const Counters&, const Counters&) = default;
};

// One attempt, refused ones included, as kept for ever.
struct Purchase {
  IdempotencyKey key;
  Seq seq;          // of its PurchaseAttempted
  Timestamp until;  // of its latest hold; 0 when it never held
  std::uint32_t customer = 0;
  // The customer's accepted purchase before this one; in the customer's first, the latest.
  std::uint32_t previous = kNoIndex;
  std::uint32_t link = kNoIndex;  // next in its line or among the holds
  std::uint32_t place = 0;        // place in line that it was first told; 0 when it never waited
  std::uint32_t payments = kNoIndex;  // its latest payment
  std::uint16_t quantity = 0;         // clamped: an invalid quantity is refused, not stored
  PurchaseStatus status = PurchaseStatus::refused;
  Reason reason = Reason::none;  // of the refusal or release
};

class ByteSink {
 public:
  virtual void write(std::span<const std::byte>) = 0;

 protected:
  ~ByteSink() = default;
};

class ByteSource {
 public:
  // The bytes that come next, as many as are at hand: valid until the next call, and none at the
  // end.
  virtual std::span<const std::byte> next() = 0;

 protected:
  ~ByteSource() = default;
};

class Sale {
 public:
  Sale() = default;
  Sale(Sale&&) = default;
  Sale& operator=(Sale&&) = default;

  // Applies the next event of the log. `seq` must be seq() + 1 and `at` not before time() nor after
  // kMaxTimestampMs; that is the log's promise, so anything else aborts. Returns the answer to the
  // event itself; `sink` gets every decision, this one included, except that a repeated answer and
  // the one to TimePassed are returned and not emitted.
  Decision apply(Seq seq, Timestamp at, const Event& event, DecisionSink& sink);

  // Starts to bring what this event will need into the processor's cache. Worth a call some events
  // ahead of apply() when many are to be applied; changes nothing.
  void prefetch(const Event& event);

  bool exists() const { return rules_ != RulesVersion{0}; }
  Seq seq() const { return seq_; }
  Timestamp time() const { return time_; }
  Phase phase() const;
  const Counters& counters() const { return counters_; }
  const Terms& terms() const { return terms_; }
  std::string_view sku() const { return sku_.view(); }
  RulesVersion rules() const { return rules_; }

  // When time alone will next change something; kNever if it will not. An event at or after this
  // time (TimePassed if nothing else comes) makes it happen.
  Timestamp next_deadline() const;

  std::size_t purchases() const { return purchases_.size(); }
  std::size_t customers() const { return customers_.size(); }
  const Purchase& purchase(PurchaseIndex i) const { return purchases_[i.value]; }
  // The purchase whose attempt is at `seq`. O(log n).
  std::optional<PurchaseIndex> find_purchase(Seq seq) const;
  std::string_view customer_name(CustomerIndex) const;
  std::optional<CustomerIndex> find_customer(std::string_view name) const;
  // The customer's purchases, refused attempts left out, newest first, at most `limit`.
  std::vector<PurchaseIndex> purchases_of(CustomerIndex, std::size_t limit) const;
  struct PaymentMade {
    PaymentReference reference;
    Money amount;
  };
  // The payment that made an order of the purchase, if one has.
  std::optional<PaymentMade> order_payment(PurchaseIndex) const;
  // The purchase's latest payment, whether it made an order or is to be refunded.
  std::optional<PaymentMade> latest_payment(PurchaseIndex) const;
  // Units over holds, orders and places in line.
  Quantity customer_units(CustomerIndex c) const { return Quantity{customers_[c.value].units}; }

  // The canonical form: equal histories give equal bytes, whatever the machine or the memory
  // layout. It is what a state digest covers and what a snapshot holds.
  void serialize(ByteSink&) const;
  // Returns nothing when the bytes are not a canonical form of this version, or more follow. That
  // no name and no key is in them twice is left to check(), or to a digest that vouches for them:
  // looking each up would make restoring a large sale three times as slow.
  static std::optional<Sale> restore(ByteSource&);

  // Recounts everything from the purchases and returns what is wrong, or nothing. O(n).
  std::optional<std::string_view> check() const;

  // Makes room so that this many more purchases, customers and payments allocate nothing.
  void reserve(std::size_t purchases);

 private:
  struct Customer {
    std::uint32_t name = 0;          // offset into names_: a byte of size, then the text
    std::uint32_t hash = 0;          // of the name
    std::uint32_t chain = kNoIndex;  // next in its index bucket
    std::uint32_t units = 0;
    std::uint32_t first = kNoIndex;  // the first purchase
  };

  // A customer's attempt after the first, as its key's index sees it.
  struct Later {
    std::uint32_t purchase = 0;
    std::uint32_t hash = 0;          // of customer and key
    std::uint32_t chain = kNoIndex;  // next in its index bucket
  };

  // One payment message, kept so that the same reference always gets the same answer.
  struct Payment {
    PaymentReference reference;
    Money amount;
    Timestamp until;                // of the hold that it met, for the repeated answer
    std::uint32_t purchase = 0;     // whose payment
    std::uint32_t next = kNoIndex;  // the purchase's payment before this one
    DecisionKind kind = DecisionKind::noted;
    Reason reason = Reason::none;
  };

  // A queue of purchases threaded through Purchase::link. Entries whose status has moved on are
  // stale and skipped; a purchase waits at most once and is held at most once.
  struct Fifo {
    std::uint32_t head = kNoIndex;
    std::uint32_t tail = kNoIndex;
  };

  template <class S>
  struct LaterLinks;
  template <class S>
  struct CustomerLinks;

  // One apply(): where the event stands, when it came and where its decisions go.
  struct Step {
    Seq seq;
    Timestamp at;
    DecisionSink& sink;
  };

  Decision act(Step&, const SaleScheduled&);
  Decision act(Step&, const SaleChanged&);
  Decision act(Step&, const SalePaused&);
  Decision act(Step&, const SaleResumed&);
  Decision act(Step&, const SaleClosed&);
  Decision act(Step&, const StockAdjusted&);
  Decision act(Step&, const PurchaseAttempted&);
  Decision act(Step&, const PurchaseCancelled&);
  Decision act(Step&, const OfferDeclined&);
  Decision act(Step&, const PaymentReceived&);
  Decision act(Step&, const PaymentFailed&);
  Decision act(Step&, const OrderRefunded&);
  Decision act(Step&, const TimePassed&);

  void pass_time(Step&);
  void settle(Step&);
  void release_unservable(Step&);
  void offer_to_line(Step&);
  void release_line(Step&, Reason);
  void drop_stale_holds();

  Decision emit(Step&, const Decision&);
  Decision set_terms(Step&, const Terms&);
  Decision give_up(Step&, Seq purchase, bool only_offered);
  void begin_hold(Step&, std::uint32_t index, PurchaseStatus);
  void leave_line(std::uint32_t index, PurchaseStatus, Reason);
  void free_units(std::uint32_t index, PurchaseStatus);
  void sell(std::uint32_t index, Quantity& from);
  std::pair<DecisionKind, Reason> judge_payment(std::uint32_t index, const Money&) const;
  Reason why_refused(const PurchaseAttempted&, std::uint32_t customer) const;
  bool can_take_now(Quantity) const;

  Decision about(std::uint32_t index, DecisionKind, Reason = Reason::none) const;
  Decision first_answer(std::uint32_t index) const;
  std::uint32_t find_attempt(std::uint32_t customer, const IdempotencyKey&) const;
  std::optional<CustomerIndex> find_customer(std::string_view name, std::uint32_t hash) const;
  void enter_purchase(const Purchase&);
  void accept_purchase(std::uint32_t index);
  std::uint32_t append_customer(std::string_view name, std::uint32_t hash);
  std::optional<std::string_view> recount() const;
  void enqueue(Fifo&, std::uint32_t index);
  void dequeue(Fifo&);
  std::uint32_t first_waiting(std::uint32_t quantity);
  std::uint32_t first_waiting_from(std::uint32_t low, std::uint32_t high);
  std::uint32_t remaining() const { return counters_.available.value + counters_.held.value; }
  bool over() const { return ended_ || closed_; }

  static constexpr std::size_t kMaxNameBytes = 0xffff'0000;  // offsets are 32 bits

  RulesVersion rules_{0};
  SkuName sku_;
  Terms terms_;
  Seq seq_;
  Timestamp time_;
  Counters counters_;
  bool opened_ = false;
  bool ended_ = false;
  bool closed_ = false;
  bool paused_ = false;
  bool sold_out_ = false;

  Segmented<Purchase> purchases_;
  Segmented<Later> later_;
  LinearIndex later_index_;  // by (customer, key)
  Segmented<Customer> customers_;
  LinearIndex customer_index_;  // by name
  Segmented<char, 6> names_;
  Segmented<Payment, 1> payments_;

  // Hashes of the latest names that prefetch() saw.
  std::array<std::uint32_t, 8> coming_{};
  unsigned coming_at_ = 0;

  Fifo holds_;              // in the order the holds began, so by deadline
  std::vector<Fifo> line_;  // one per quantity; the join order is the index order
};

}  // namespace fairsale
