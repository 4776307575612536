// Checks from outside that a sale was fair: who came first was served first, nobody was refused
// what was there, and whatever differs from that was an actor's doing.
//
// It is told each event of the log and each decision about it, keeps an account of its own (who
// waits, in the order in which they came; what is free, held and sold; what each customer has) and
// holds every decision against what was promised. It shares no code with Sale (but for the bounds
// of valid terms, check_terms) and never looks at one, so the two agree only when both are right.
//
// What is promised (Promise) are the rules of core/domain/sale.hpp as a shopper sees them.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/domain/decision.hpp"
#include "core/domain/event.hpp"
#include "core/domain/sale.hpp"
#include "projections/audit/line.hpp"
#include "projections/audit/names.hpp"
#include "projections/audit/timeline.hpp"

namespace fairsale::audit {

enum class Promise : std::uint8_t {
  served_in_order,   // a unit that is free goes to the first in line who can take it
  not_overtaken,     // no newcomer gets a unit that somebody in line could have had
  refused_rightly,   // a refusal's reason is true, and none is refused what is there
  place_in_order,    // a place in line follows the order of arrival
  hold_kept,         // a hold stands until its deadline and no longer; a payment in time counts
  place_kept,        // who waits keeps the place until served, given up, or past serving
  limit_kept,        // no customer has more than the limit
  never_oversold,    // free, held and sold add up to the stock
  same_answer,       // the same attempt again gets the first answer
  opened_and_ended,  // the sale opens and ends at the times that its terms say
  answered,          // every event has the one outcome that it must have, and no other
};
inline constexpr std::size_t kPromises = 11;

// "served_in_order", and a sentence that tells it to an auditor.
std::string_view name_of(Promise);
std::string_view explain(Promise);

// A promise that was not kept.
struct Breach {
  Promise promise = Promise::served_in_order;
  Seq seq;  // of the event that was being decided
  Timestamp at;
  Seq purchase;  // 0 when it is about none
  std::string expected;
  std::string found;
};

// Something that changed what shoppers got and that somebody did, or that the terms brought about.
struct Intervention {
  Seq seq;
  Timestamp at;
  std::string what;    // "stock adjusted", "sale paused", "line released", ...
  std::string effect;  // "stock 100 -> 80"; in words and figures
  Actor actor;         // empty when it was time or a payment that did it
  Why why;
};

struct FairnessReport {
  static constexpr std::size_t kMostBreaches = 100;
  static constexpr std::size_t kMostInterventions = 5'000;

  bool fair() const { return breaches_found == 0; }

  std::vector<Breach> breaches;  // the first of them
  std::uint64_t breaches_found = 0;
  std::array<std::uint64_t, kPromises> broken{};  // how often, by Promise
  std::vector<Intervention> interventions;        // the first of them
  std::uint64_t interventions_found = 0;

  std::uint64_t attempts = 0;  // without repeated ones
  std::uint64_t repeated = 0;
  std::uint64_t reserved = 0;  // at once
  std::uint64_t waited = 0;
  std::uint64_t offered = 0;  // of those who waited
  std::uint64_t ordered = 0;  // purchases
  std::uint64_t expired = 0;
  std::uint64_t given_up = 0;  // cancelled and declined
  std::uint64_t given_up_by_shop = 0;
  std::uint64_t given_up_by_operator = 0;
  std::uint64_t released = 0;  // of those who waited
  std::uint64_t refunded = 0;
  std::array<std::uint64_t, 29> refused{};  // attempts, by Reason
  // Under skip_if_unfit: served although somebody before them wanted more than was free.
  std::uint64_t passed_by_size = 0;

  Counters now;
  std::uint32_t most_held = 0;
  std::uint32_t most_waiting = 0;
  std::optional<Moment> opened;
  std::optional<Moment> first_sold_out;  // all units sold or written off

  std::vector<Moment> by_time;
  std::vector<Moment> by_position;
};

// Not thread-safe. Takes O(log n) for an event, and some 110 bytes for an attempt or a payment.
class FairnessCheck final : public DecisionSink {
 public:
  // For each event of the log, from the first: before() it, on() each decision about it, after() it
  // with the answer that Sale::apply() returned. The event must live until then.
  void before(Seq, Timestamp, const Event&);
  void on(const Decision&) override;
  void after(const Decision& answer);

  // Worth a call some events before before(); changes nothing.
  void prefetch(const Event&) const;

  const Counters& counters() const { return counters_; }

  // What came out; the check is of no more use afterwards.
  FairnessReport finish();

 private:
  static constexpr std::uint32_t kNone = 0xffff'ffff;

  enum class Stands : std::uint8_t {
    refused,
    waiting,
    reserved,
    offered,
    ordered,
    expired,
    cancelled,
    declined,
    released,
    refunded,
  };

  struct Buy {
    IdempotencyKey key;
    Seq seq;
    Timestamp deadline;     // of the hold
    std::int64_t told = 0;  // with the first answer: the place in line, or until when it is held
    std::uint32_t customer = 0;
    std::uint32_t ticket = 0;        // in line
    std::uint32_t payments = kNone;  // the latest
    std::uint16_t quantity = 0;
    Stands stands = Stands::refused;
    DecisionKind first = DecisionKind::noted;  // the first answer
    Reason reason = Reason::none;
  };

  // A payment that was judged, so that the same reference can be held to the same answer.
  struct Payment {
    Money amount;
    Timestamp until;
    std::uint32_t reference = 0;     // its number among references_
    std::uint32_t previous = kNone;  // of the same purchase
    DecisionKind kind = DecisionKind::noted;
    Reason reason = Reason::none;
  };

  // The one outcome that the event under way must have.
  struct Due {
    DecisionKind kind = DecisionKind::noted;
    Reason reason = Reason::none;
    Seq purchase;         // that it names
    bool silent = false;  // returned, and not told as a decision: nothing happens
    bool repeated = false;
    Timestamp until;  // of a repeated answer to a payment

    bool is(const Decision& d) const {
      return d.kind == kind && d.reason == reason && d.purchase == purchase &&
             d.repeated == repeated;
    }
  };

  Due due() const;
  Due due(const SaleScheduled&) const;
  Due due(const SaleChanged&) const;
  Due due(const SalePaused&) const;
  Due due(const SaleResumed&) const;
  Due due(const SaleClosed&) const;
  Due due(const StockAdjusted&) const;
  Due due(const PurchaseAttempted&) const;
  Due due(const PurchaseCancelled&) const;
  Due due(const OfferDeclined&) const;
  Due due(const PaymentReceived&) const;
  Due due(const PaymentFailed&) const;
  Due due(const OrderRefunded&) const;
  Due due(const TimePassed&) const;
  Due due_of_payment(const Buy&, const Money&) const;
  void account(const Decision&);
  void remember_payment(const Decision&);
  void check_outcome(const Decision& answer);
  Promise promise_of_outcome(const Decision& found) const;

  void on_newcomer(const Decision&);
  void on_refused_attempt(const Decision&, Buy&);
  void on_offered(const Decision&, std::uint32_t index);
  void on_expired(const Decision&, std::uint32_t index);
  void on_given_up(const Decision&, std::uint32_t index);
  void on_released(const Decision&, std::uint32_t index);
  void on_ordered(const Decision&, std::uint32_t index);
  void on_refunded(const Decision&, std::uint32_t index);
  void on_refused_again(const Decision&);
  void on_sale(const Decision&);
  void check_answer(const Decision&);
  void check_sale();

  void begin_hold(const Decision&, std::uint32_t index, Stands);
  void end_hold(Buy&);
  void leave_line(Buy&);
  std::uint32_t first_hold();
  bool holding(const Buy& b) const {
    return b.stands == Stands::reserved || b.stands == Stands::offered;
  }
  bool pays(const Buy&, const Money&) const;
  bool free_for_late(const Buy&) const;
  std::uint32_t find_buy(Seq) const;
  std::size_t key_slot(std::uint64_t customer_hash, const IdempotencyKey&) const;
  std::uint32_t find_key(std::uint32_t customer, const IdempotencyKey&) const;
  void enter_key(std::uint32_t index);
  std::uint64_t remaining() const {
    return std::uint64_t{counters_.available.value} + counters_.held.value;
  }
  bool free_for(std::uint32_t quantity) const;
  bool over() const { return ended_ || closed_; }
  void take(Quantity& from, std::uint32_t n);

  void breach(Promise, Seq purchase, std::string expected, std::string found);
  void intervene(std::string what, std::string effect, const Actor&, const Why& = {});

  FairnessReport report_;
  Timeline by_time_;
  Timeline by_position_;

  bool exists_ = false;
  bool opened_ = false;
  bool ended_ = false;
  bool closed_ = false;
  bool paused_ = false;
  bool told_sold_out_ = false;
  SkuName sku_;
  RulesVersion rules_{0};
  Terms terms_;
  Seq terms_seq_;  // of the event that set them
  Actor terms_actor_;
  Counters counters_;

  std::vector<Buy> buys_;  // in the order of arrival
  std::vector<Payment> payments_;
  Names customers_;
  Names references_;
  std::vector<std::uint32_t> units_;  // by customer: held, ordered and waited for
  std::vector<std::uint32_t> keys_;   // open addressing: index of a buy + 1
  Line line_;
  std::vector<std::uint32_t> holds_;  // in the order in which they began
  std::size_t first_hold_ = 0;

  // The event under way.
  Seq seq_;
  Timestamp at_;
  const Event* event_ = nullptr;
  const PurchaseAttempted* attempt_ = nullptr;
  std::uint32_t customer_ = kNone;
  std::uint32_t known_ = kNone;      // the attempt that this one repeats
  std::uint32_t reference_ = kNone;  // of the payment
  bool acted_ = false;               // time has passed, and the event itself is being decided
  unsigned outcomes_ = 0;
  Due due_;           // once acted_
  Decision decided_;  // the outcome that was told
  std::uint32_t released_ = 0;
};

}  // namespace fairsale::audit
