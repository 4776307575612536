#include "projections/audit/fairness.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "core/json/json.hpp"

namespace fairsale::audit {

namespace {

std::string text(Timestamp t) {
  if (t == kNever) return "never";
  std::string s;
  append_rfc3339(s, t);
  return s;
}

std::uint16_t stored(Quantity q) {
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(q.value, 0xffff));
}

std::string said(DecisionKind kind, Reason reason) {
  if (reason == Reason::none) return std::string(name_of(kind));
  return fmt::format("{}: {}", name_of(kind), name_of(reason));
}

std::string said(const Decision& d) { return said(d.kind, d.reason); }

// Of one purchase; only one that pays for it is still taken after so many.
constexpr unsigned kMostPayments = 8;

// What differs, in words: "line_limit 100 -> 200, ends_at ... -> ...".
std::string changes(const Terms& a, const Terms& b) {
  std::string out;
  const auto say = [&out](std::string_view name, const auto& before, const auto& after) {
    if (before == after) return;
    out += fmt::format("{}{} {} -> {}", out.empty() ? "" : ", ", name, before, after);
  };
  const auto price = [](const Terms& t) {
    return fmt::format("{} {}", t.price.amount.value,
                       std::string_view(t.price.currency.code.data(), 3));
  };
  say("stock", a.stock.value, b.stock.value);
  say("price", price(a), price(b));
  say("starts_at", text(a.starts_at), text(b.starts_at));
  say("ends_at", text(a.ends_at), text(b.ends_at));
  say("hold ms", a.hold.value, b.hold.value);
  say("grace ms", a.grace.value, b.grace.value);
  say("limit_per_customer", a.limit_per_customer.value, b.limit_per_customer.value);
  say("units_per_purchase", a.units_per_purchase.value, b.units_per_purchase.value);
  say("line_limit", a.line_limit, b.line_limit);
  say("line_policy", std::string_view(name_of(a.line_policy)),
      std::string_view(name_of(b.line_policy)));
  return out;
}

// Whether such a decision is about the event itself; the others may follow from time that passes.
bool acts(DecisionKind k) {
  switch (k) {
    case DecisionKind::opened:
    case DecisionKind::ended:
    case DecisionKind::expired:
    case DecisionKind::offered:
    case DecisionKind::released:
    case DecisionKind::line_released:
    case DecisionKind::sold_out: return false;
    default: return true;
  }
}

}  // namespace

std::string_view name_of(Promise p) {
  switch (p) {
    case Promise::served_in_order: return "served_in_order";
    case Promise::not_overtaken: return "not_overtaken";
    case Promise::refused_rightly: return "refused_rightly";
    case Promise::place_in_order: return "place_in_order";
    case Promise::hold_kept: return "hold_kept";
    case Promise::place_kept: return "place_kept";
    case Promise::limit_kept: return "limit_kept";
    case Promise::never_oversold: return "never_oversold";
    case Promise::same_answer: return "same_answer";
    case Promise::opened_and_ended: return "opened_and_ended";
    case Promise::answered: return "answered";
  }
  return "unknown";
}

std::string_view explain(Promise p) {
  switch (p) {
    case Promise::served_in_order:
      return "Each unit that came free went to the first in line who could take it.";
    case Promise::not_overtaken:
      return "No newcomer got a unit that somebody in line could have had.";
    case Promise::refused_rightly:
      return "Every refusal's reason was true: nobody was refused what was there.";
    case Promise::place_in_order: return "Every place in line followed the order of arrival.";
    case Promise::hold_kept:
      return "Every hold stood until its deadline and no longer; payments in time counted.";
    case Promise::place_kept:
      return "Who waited kept the place until served, given up, or past serving.";
    case Promise::limit_kept: return "No customer had more units than the limit.";
    case Promise::never_oversold:
      return "Free, held and sold units added up to the stock at every event.";
    case Promise::same_answer: return "The same attempt again got the first answer again.";
    case Promise::opened_and_ended:
      return "The sale opened and ended at the times that its terms said.";
    case Promise::answered:
      return "Every attempt, payment, request and operator's action had the one outcome that it "
             "must "
             "have, and nothing else was decided.";
  }
  return "";
}

void FairnessCheck::breach(Promise promise, Seq purchase, std::string expected, std::string found) {
  ++report_.breaches_found;
  ++report_.broken[static_cast<std::size_t>(promise)];
  if (report_.breaches.size() == FairnessReport::kMostBreaches) return;
  report_.breaches.push_back({promise, seq_, at_, purchase, std::move(expected), std::move(found)});
}

void FairnessCheck::intervene(std::string what, std::string effect, const Actor& actor,
                              const Why& why) {
  ++report_.interventions_found;
  if (report_.interventions.size() == FairnessReport::kMostInterventions) return;
  report_.interventions.push_back({seq_, at_, std::move(what), std::move(effect), actor, why});
}

// ---- One event ----

void FairnessCheck::before(Seq seq, Timestamp at, const Event& event) {
  seq_ = seq;
  at_ = at;
  event_ = &event;
  attempt_ = std::get_if<PurchaseAttempted>(&event);
  known_ = kNone;
  acted_ = false;
  outcomes_ = 0;
  released_ = 0;
  if (!exists_) return;
  if (const auto* payment = std::get_if<PaymentReceived>(&event)) {
    const std::string_view reference = payment->reference.view();
    reference_ = references_.number(reference, Names::hash_of(reference));
  }
  if (attempt_ == nullptr) return;
  const std::string_view name = attempt_->customer.view();
  customer_ = customers_.number(name, Names::hash_of(name));
  if (customer_ == units_.size()) units_.push_back(0);
  known_ = find_key(customer_, attempt_->key);
}

void FairnessCheck::prefetch(const Event& event) const {
  const auto* attempt = std::get_if<PurchaseAttempted>(&event);
  if (attempt == nullptr) return;
  const std::uint64_t hash = Names::hash_of(attempt->customer.view());
  customers_.prefetch(hash);
  if (!keys_.empty()) __builtin_prefetch(&keys_[key_slot(hash, attempt->key)]);
}

void FairnessCheck::on(const Decision& d) {
  if (!acts(d.kind)) return account(d);
  // What the event itself does comes after what time did, which leaves nobody unserved.
  if (!acted_) {
    acted_ = true;
    if (exists_) check_sale();
    due_ = due();
  }
  if (++outcomes_ > 1) {
    return breach(Promise::answered, d.purchase, "one outcome",
                  fmt::format("{}, and then {}", said(decided_), said(d)));
  }
  decided_ = d;
  const std::uint64_t before = report_.breaches_found;
  account(d);
  if (attempt_ != nullptr || report_.breaches_found != before) return;
  if (due_.silent || !due_.is(d)) {
    breach(promise_of_outcome(d), due_.purchase, said(due_.kind, due_.reason), said(d));
  }
}

// Which promise is broken when this came in place of what was due.
Promise FairnessCheck::promise_of_outcome(const Decision& found) const {
  if (due_.kind == DecisionKind::ordered) return Promise::hold_kept;
  if (found.kind == DecisionKind::refused) return Promise::refused_rightly;
  return Promise::answered;
}

// Does in the accounts what the decision says, whether it is right or not, and judges what can be
// judged without knowing what was due.
void FairnessCheck::account(const Decision& d) {
  switch (d.kind) {
    case DecisionKind::reserved:
    case DecisionKind::waiting: return on_newcomer(d);
    case DecisionKind::refused:
      if (attempt_ == nullptr) return;
      return exists_ && known_ == kNone && d.purchase == seq_ ? on_newcomer(d)
                                                              : on_refused_again(d);
    case DecisionKind::scheduled:
    case DecisionKind::changed:
    case DecisionKind::opened:
    case DecisionKind::paused:
    case DecisionKind::resumed:
    case DecisionKind::ended:
    case DecisionKind::closed:
    case DecisionKind::stock_adjusted:
    case DecisionKind::sold_out:
    case DecisionKind::line_released: return on_sale(d);
    case DecisionKind::noted:
    case DecisionKind::payment_failure_noted:
      if (attempt_ != nullptr) breach(Promise::answered, seq_, "an answer to an attempt", said(d));
      return;
    default: break;
  }
  const std::uint32_t index = find_buy(d.purchase);
  if (index == kNone) {
    return breach(Promise::answered, d.purchase, "a purchase that somebody attempted", said(d));
  }
  switch (d.kind) {
    case DecisionKind::offered: return on_offered(d, index);
    case DecisionKind::expired: return on_expired(d, index);
    case DecisionKind::cancelled:
    case DecisionKind::declined: return on_given_up(d, index);
    case DecisionKind::released: return on_released(d, index);
    case DecisionKind::ordered: return on_ordered(d, index);
    case DecisionKind::refund_due: return remember_payment(d);
    case DecisionKind::refunded: return on_refunded(d, index);
    default: return breach(Promise::answered, d.purchase, "a decision that is known", said(d));
  }
}

void FairnessCheck::after(const Decision& answer) {
  if (!acted_) due_ = due();
  if (attempt_ != nullptr) {
    check_answer(answer);
  } else {
    check_outcome(answer);
  }
  if (outcomes_ > 0 && answer != decided_) {
    breach(Promise::answered, decided_.purchase, said(decided_) + " as the answer, as decided",
           said(answer));
  }
  if (released_ > 0) {
    breach(Promise::place_kept, {}, fmt::format("{} released to be told as one", released_),
           "nothing told");
  }
  if (exists_) check_sale();
  counters_.waiting = line_.size();
  report_.most_held = std::max(report_.most_held, counters_.held.value);
  report_.most_waiting = std::max(report_.most_waiting, counters_.waiting);
  const Moment moment{seq_, at_, counters_};
  by_time_.add(static_cast<std::uint64_t>(at_.value), moment);
  by_position_.add(seq_.value, moment);
}

// The event was no attempt and nothing was decided about it: that must be what was due.
void FairnessCheck::check_outcome(const Decision& answer) {
  if (outcomes_ > 0) return;
  if (!due_.silent) {
    return breach(Promise::answered, due_.purchase, said(due_.kind, due_.reason), "no outcome");
  }
  const bool same_hold =
      std::get_if<PaymentReceived>(event_) == nullptr || answer.until == due_.until;
  if (!due_.is(answer) || !same_hold) {
    breach(due_.repeated ? Promise::same_answer : Promise::answered, due_.purchase,
           fmt::format("{}{}", said(due_.kind, due_.reason), due_.repeated ? " again" : ""),
           said(answer));
  }
}

FairnessReport FairnessCheck::finish() {
  report_.now = counters_;
  report_.by_time = by_time_.moments();
  report_.by_position = by_position_.moments();
  return std::move(report_);
}

// ---- Attempts ----

void FairnessCheck::on_newcomer(const Decision& d) {
  if (attempt_ == nullptr || !exists_ || d.purchase != seq_ || known_ != kNone) {
    return breach(Promise::answered, d.purchase, "a new attempt at this position", said(d));
  }
  const std::uint32_t q = attempt_->quantity.value;
  const auto index = static_cast<std::uint32_t>(buys_.size());
  buys_.push_back({.key = attempt_->key,
                   .seq = seq_,
                   .deadline = {},
                   .told = d.kind == DecisionKind::waiting ? std::int64_t{d.place} : d.until.value,
                   .customer = customer_,
                   .quantity = stored(attempt_->quantity),
                   .first = d.kind,
                   .reason = d.reason});
  enter_key(index);
  ++report_.attempts;
  Buy& buy = buys_.back();
  if (d.quantity.value != buy.quantity) {
    breach(Promise::answered, seq_, fmt::format("an answer about {} units", buy.quantity),
           fmt::format("{} of {}", said(d), d.quantity.value));
  }
  if (d.kind == DecisionKind::refused) return on_refused_attempt(d, buy);

  if (!opened_ || paused_ || over()) {
    breach(Promise::opened_and_ended, seq_, "a refusal, since the sale was not open", said(d));
  }
  if (q == 0 || q > terms_.units_per_purchase.value) {
    breach(
        Promise::limit_kept, seq_,
        fmt::format("a refusal: a purchase is of 1 to {} units", terms_.units_per_purchase.value),
        fmt::format("{}, {} units", said(d), q));
    if (q == 0 || q > Line::kMaxQuantity) return;
  }
  if (std::uint64_t{units_[customer_]} + q > terms_.limit_per_customer.value) {
    breach(Promise::limit_kept, seq_,
           fmt::format("a refusal: the customer has {} units of {} already", units_[customer_],
                       terms_.limit_per_customer.value),
           fmt::format("{}, {} units", said(d), q));
  }
  units_[customer_] += q;
  if (d.kind == DecisionKind::reserved) {
    ++report_.reserved;
    if (line_.size() > 0) {
      const bool strict = terms_.line_policy == LinePolicy::strict;
      const std::uint32_t passed =
          strict ? line_.first() : line_.first_within(counters_.available.value);
      if (passed != Line::kNobody) {
        breach(Promise::not_overtaken, seq_,
               fmt::format("purchase {}, waiting for {} units, to be served first",
                           buys_[passed].seq.value, buys_[passed].quantity),
               fmt::format("the newcomer reserved {}", q));
      } else {
        ++report_.passed_by_size;
      }
    }
    return begin_hold(d, index, Stands::reserved);
  }
  ++report_.waited;
  if (free_for(q)) {
    breach(Promise::served_in_order, seq_,
           fmt::format("a reservation: {} units were free and nobody in line could take them",
                       counters_.available.value),
           said(d));
  }
  if (line_.size() >= terms_.line_limit) {
    breach(Promise::refused_rightly, seq_,
           fmt::format("a refusal: the line has {} of {} places taken", line_.size(),
                       terms_.line_limit),
           said(d));
  }
  if (d.place != line_.size() + 1) {
    breach(Promise::place_in_order, seq_, fmt::format("place {}", line_.size() + 1),
           fmt::format("place {}", d.place));
  }
  buy.stands = Stands::waiting;
  buy.ticket = line_.join(index, static_cast<std::uint8_t>(q));
}

void FairnessCheck::on_refused_attempt(const Decision& d, Buy& buy) {
  buy.stands = Stands::refused;
  const auto reason = static_cast<std::size_t>(d.reason);
  if (reason < report_.refused.size()) ++report_.refused[reason];
  const std::uint32_t q = attempt_->quantity.value;
  const std::uint32_t units = units_[customer_];
  const auto facts = [&] {
    return fmt::format(
        "{} free, {} held, {} of {} places in line taken, the customer has {} of {} units, sale {}",
        counters_.available.value, counters_.held.value, line_.size(), terms_.line_limit, units,
        terms_.limit_per_customer.value,
        closed_    ? "closed"
        : ended_   ? "ended"
        : !opened_ ? "not open yet"
        : paused_  ? "paused"
                   : "open");
  };
  const bool right = [&] {
    switch (d.reason) {
      case Reason::quantity_invalid: return q == 0 || q > terms_.units_per_purchase.value;
      case Reason::closed: return closed_;
      case Reason::ended: return ended_;
      case Reason::not_started: return !opened_;
      case Reason::paused: return paused_;
      case Reason::over_limit: return std::uint64_t{units} + q > terms_.limit_per_customer.value;
      case Reason::sold_out: return remaining() == 0;
      case Reason::insufficient_stock: return remaining() > 0 && remaining() < q;
      case Reason::line_full: return !free_for(q) && line_.size() >= terms_.line_limit;
      default: return false;
    }
  }();
  if (!right) {
    breach(Promise::refused_rightly, seq_,
           fmt::format("no such refusal of {} units: {}", q, facts()), said(d));
  }
}

// An attempt that repeats another, or that the sale has no room for, or that came before the sale.
void FairnessCheck::on_refused_again(const Decision& d) {
  // More attempts than a sale takes; or as many names as its memory holds.
  const bool full = exists_ && d.reason == Reason::sale_full && buys_.size() > 50'000'000;
  const bool right = !exists_ ? d.reason == Reason::unknown_sale
                     : known_ != kNone
                         ? d.reason == Reason::key_reused && d.purchase == buys_[known_].seq &&
                               buys_[known_].quantity != stored(attempt_->quantity)
                         : full;
  if (!right) breach(Promise::refused_rightly, seq_, "an answer to this attempt", said(d));
}

void FairnessCheck::check_answer(const Decision& answer) {
  if (!exists_ || known_ == kNone || buys_[known_].quantity != stored(attempt_->quantity)) {
    if (outcomes_ == 0) breach(Promise::answered, seq_, "an answer to this attempt", "none");
    return;
  }
  ++report_.repeated;
  const Buy& first = buys_[known_];
  const bool waited = first.first == DecisionKind::waiting;
  const std::uint32_t place = waited ? static_cast<std::uint32_t>(first.told) : 0;
  const Timestamp until{waited ? 0 : first.told};
  if (outcomes_ == 0 && answer.repeated && answer.purchase == first.seq &&
      answer.kind == first.first && answer.reason == first.reason && answer.place == place &&
      answer.until == until && answer.quantity.value == first.quantity) {
    return;
  }
  const auto whole = [](std::string what, std::uint32_t at_place, Timestamp held_until) {
    if (at_place != 0) what += fmt::format(", place {}", at_place);
    if (held_until.value != 0) what += ", until " + text(held_until);
    return what;
  };
  breach(Promise::same_answer, first.seq,
         fmt::format("{} again, as at position {}",
                     whole(said(first.first, first.reason), place, until), first.seq.value),
         whole(said(answer), answer.place, answer.until));
}

// ---- The line and the holds ----

// Whether a newcomer who wants this many is to be served at once.
bool FairnessCheck::free_for(std::uint32_t quantity) const {
  if (quantity > counters_.available.value) return false;
  return line_.size() == 0 || terms_.line_policy == LinePolicy::skip_if_unfit;
}

void FairnessCheck::on_offered(const Decision& d, std::uint32_t index) {
  Buy& buy = buys_[index];
  if (buy.stands != Stands::waiting) {
    return breach(Promise::served_in_order, buy.seq, "an offer to somebody who waits", said(d));
  }
  const std::uint32_t free = counters_.available.value;
  const std::uint32_t head = line_.first();
  const std::uint32_t first =
      terms_.line_policy == LinePolicy::strict ? head : line_.first_within(free);
  if (first != index) {
    breach(
        Promise::served_in_order, buy.seq,
        first == Line::kNobody
            ? fmt::format("no offer: all in line want more than the {} units that are free", free)
            : fmt::format("an offer to purchase {}, first in line for {} units ({} free)",
                          buys_[first].seq.value, buys_[first].quantity, free),
        fmt::format("an offer of {} units to purchase {}", buy.quantity, buy.seq.value));
  } else if (first != head) {
    ++report_.passed_by_size;
  }
  if (!opened_ || paused_ || over()) {
    breach(Promise::opened_and_ended, buy.seq, "no offer, since the sale was not open", said(d));
  }
  ++report_.offered;
  leave_line(buy);
  begin_hold(d, index, Stands::offered);
}

void FairnessCheck::on_expired(const Decision& d, std::uint32_t index) {
  Buy& buy = buys_[index];
  if (!holding(buy)) {
    return breach(Promise::hold_kept, buy.seq, "a hold that stands", said(d));
  }
  if (buy.deadline > at_) {
    breach(Promise::hold_kept, buy.seq, "a hold until " + text(buy.deadline),
           "expired at " + text(at_));
  } else if (const std::uint32_t first = first_hold(); first != index && first != kNone) {
    breach(
        Promise::hold_kept, buy.seq,
        fmt::format("purchase {} to expire first, whose hold began before", buys_[first].seq.value),
        said(d));
  }
  ++report_.expired;
  end_hold(buy);
  buy.stands = Stands::expired;
}

void FairnessCheck::on_given_up(const Decision& d, std::uint32_t index) {
  Buy& buy = buys_[index];
  const auto* cancelled = std::get_if<PurchaseCancelled>(event_);
  const auto* declined = std::get_if<OfferDeclined>(event_);
  const bool asked = d.kind == DecisionKind::cancelled
                         ? cancelled != nullptr && cancelled->purchase == buy.seq
                         : declined != nullptr && declined->purchase == buy.seq;
  const bool can = buy.stands == Stands::offered ||
                   (d.kind == DecisionKind::cancelled &&
                    (buy.stands == Stands::waiting || buy.stands == Stands::reserved));
  if (!asked || !can) {
    breach(Promise::place_kept, buy.seq, "a hold or a place that is given up on request only",
           said(d));
  }
  ++report_.given_up;
  if (buy.stands == Stands::waiting) {
    leave_line(buy);
    units_[buy.customer] -= std::min<std::uint32_t>(units_[buy.customer], buy.quantity);
  } else if (holding(buy)) {
    end_hold(buy);
  }
  buy.stands = d.kind == DecisionKind::cancelled ? Stands::cancelled : Stands::declined;
  const Role by = cancelled != nullptr  ? cancelled->by
                  : declined != nullptr ? declined->by
                                        : Role::customer;
  if (by == Role::shop) ++report_.given_up_by_shop;
  if (by == Role::op) {
    ++report_.given_up_by_operator;
    intervene(cancelled != nullptr ? "purchase cancelled by the operator"
                                   : "offer declined by the operator",
              fmt::format("purchase {}, {} units", buy.seq.value, buy.quantity), {});
  }
}

void FairnessCheck::on_released(const Decision& d, std::uint32_t index) {
  Buy& buy = buys_[index];
  if (buy.stands != Stands::waiting) {
    return breach(Promise::place_kept, buy.seq, "a release of somebody who waits", said(d));
  }
  const bool right = [&] {
    switch (d.reason) {
      case Reason::sold_out: return remaining() == 0;
      case Reason::insufficient_stock: return remaining() < buy.quantity;
      case Reason::ended: return ended_;
      case Reason::closed: return closed_;
      default: return false;
    }
  }();
  if (!right) {
    breach(Promise::place_kept, buy.seq,
           fmt::format("the place to be kept: {} units wanted, {} free and held", buy.quantity,
                       remaining()),
           said(d));
  }
  if (d.reason != Reason::insufficient_stock) ++released_;
  ++report_.released;
  leave_line(buy);
  units_[buy.customer] -= std::min<std::uint32_t>(units_[buy.customer], buy.quantity);
  buy.stands = Stands::released;
}

void FairnessCheck::begin_hold(const Decision& d, std::uint32_t index, Stands stands) {
  Buy& buy = buys_[index];
  if (d.until != at_ + terms_.hold) {
    breach(Promise::hold_kept, buy.seq, "a hold until " + text(at_ + terms_.hold),
           "until " + text(d.until));
  }
  take(counters_.available, buy.quantity);
  counters_.held.value += buy.quantity;
  buy.stands = stands;
  buy.deadline = at_ + terms_.hold + terms_.grace;
  holds_.push_back(index);
}

void FairnessCheck::end_hold(Buy& buy) {
  take(counters_.held, buy.quantity);
  counters_.available.value += buy.quantity;
  units_[buy.customer] -= std::min<std::uint32_t>(units_[buy.customer], buy.quantity);
}

void FairnessCheck::leave_line(Buy& buy) { line_.leave(buy.ticket); }

// The hold that began first of those that stand.
std::uint32_t FairnessCheck::first_hold() {
  while (first_hold_ < holds_.size() && !holding(buys_[holds_[first_hold_]])) ++first_hold_;
  return first_hold_ < holds_.size() ? holds_[first_hold_] : kNone;
}

void FairnessCheck::take(Quantity& from, std::uint32_t n) {
  if (from.value < n) {
    breach(Promise::never_oversold, {}, fmt::format("at least {} units to take", n),
           fmt::format("{}", from.value));
    n = from.value;
  }
  from.value -= n;
}

// ---- Payments ----

// Whether this is what the purchase costs.
bool FairnessCheck::pays(const Buy& buy, const Money& paid) const {
  return paid == Money{MinorUnits{terms_.price.amount.value * buy.quantity}, terms_.price.currency};
}

// A payment that came late gets what is free, after all who wait.
bool FairnessCheck::free_for_late(const Buy& buy) const {
  return buy.quantity <= counters_.available.value && line_.size() == 0 && !paused_ && !closed_ &&
         std::uint64_t{units_[buy.customer]} + buy.quantity <= terms_.limit_per_customer.value;
}

void FairnessCheck::remember_payment(const Decision& d) {
  const auto* e = std::get_if<PaymentReceived>(event_);
  const std::uint32_t index = find_buy(d.purchase);
  if (e == nullptr || !exists_ || index == kNone || e->purchase != d.purchase) {
    return breach(Promise::answered, d.purchase, "a payment", said(d));
  }
  payments_.push_back({.amount = e->amount,
                       .until = d.until,
                       .reference = reference_,
                       .previous = buys_[index].payments,
                       .kind = d.kind,
                       .reason = d.reason});
  buys_[index].payments = static_cast<std::uint32_t>(payments_.size() - 1);
}

void FairnessCheck::on_ordered(const Decision& d, std::uint32_t index) {
  Buy& buy = buys_[index];
  const auto* e = std::get_if<PaymentReceived>(event_);
  if (e == nullptr || e->purchase != buy.seq || !pays(buy, e->amount)) {
    breach(Promise::answered, buy.seq, "a payment of the price for what is ordered", said(d));
  }
  if (e != nullptr) remember_payment(d);
  if (holding(buy)) {
    take(counters_.held, buy.quantity);
  } else if (buy.stands == Stands::expired) {
    if (line_.size() > 0) {
      breach(Promise::not_overtaken, buy.seq,
             fmt::format("a refund: the hold had expired and purchase {} waits",
                         buys_[line_.first()].seq.value),
             said(d));
    }
    if (paused_ || closed_) {
      breach(Promise::opened_and_ended, buy.seq, "a refund: the sale was stopped", said(d));
    }
    if (std::uint64_t{units_[buy.customer]} + buy.quantity > terms_.limit_per_customer.value) {
      breach(Promise::limit_kept, buy.seq, "a refund: the customer has other units by now",
             said(d));
    }
    take(counters_.available, buy.quantity);
    units_[buy.customer] += buy.quantity;
  } else {
    return breach(Promise::never_oversold, buy.seq, "an order of units that were held", said(d));
  }
  counters_.sold.value += buy.quantity;
  buy.stands = Stands::ordered;
  ++report_.ordered;
}

void FairnessCheck::on_refunded(const Decision& d, std::uint32_t index) {
  Buy& buy = buys_[index];
  const auto* e = std::get_if<OrderRefunded>(event_);
  if (e == nullptr || e->purchase != buy.seq || buy.stands != Stands::ordered) {
    return breach(Promise::answered, buy.seq, "a refund of an order on request", said(d));
  }
  take(counters_.sold, buy.quantity);
  units_[buy.customer] -= std::min<std::uint32_t>(units_[buy.customer], buy.quantity);
  if (e->restock) {
    counters_.available.value += buy.quantity;
  } else {
    take(counters_.stocked, buy.quantity);
  }
  buy.stands = Stands::refunded;
  ++report_.refunded;
  intervene("order refunded",
            fmt::format("purchase {}: {} units {}", buy.seq.value, buy.quantity,
                        e->restock ? "back on sale" : "written off"),
            e->actor, e->why);
}

// ---- The sale as a whole ----

void FairnessCheck::on_sale(const Decision& d) {
  const auto unasked = [&] { breach(Promise::answered, {}, "an event that asks for it", said(d)); };
  const auto waiting = [&] {
    return fmt::format("{} free, {} held, {} sold, {} waiting", counters_.available.value,
                       counters_.held.value, counters_.sold.value, line_.size());
  };
  switch (d.kind) {
    case DecisionKind::scheduled: {
      const auto* e = std::get_if<SaleScheduled>(event_);
      if (e == nullptr || exists_) return unasked();
      exists_ = true;
      sku_ = e->sku;
      rules_ = e->rules;
      terms_ = e->terms;
      terms_seq_ = seq_;
      terms_actor_ = e->actor;
      counters_.stocked = counters_.available = e->terms.stock;
      return;
    }
    case DecisionKind::changed: {
      const auto* e = std::get_if<SaleChanged>(event_);
      if (e == nullptr) return unasked();
      Terms old = terms_;
      old.stock = counters_.stocked;
      intervene(opened_ ? "terms changed" : "terms changed before the start",
                changes(old, e->terms), e->actor, e->why);
      terms_ = e->terms;
      terms_seq_ = seq_;
      terms_actor_ = e->actor;
      if (!opened_) counters_.stocked = counters_.available = e->terms.stock;
      return;
    }
    case DecisionKind::opened:
      if (at_ < terms_.starts_at || opened_ || closed_) {
        breach(Promise::opened_and_ended, {}, "an opening at " + text(terms_.starts_at),
               fmt::format("opened at {}{}", text(at_), opened_ ? " again" : ""));
      }
      opened_ = true;
      report_.opened = Moment{seq_, at_, counters_};
      return;
    case DecisionKind::ended:
      if (at_ < terms_.ends_at || ended_ || closed_) {
        breach(Promise::opened_and_ended, {}, "an end at " + text(terms_.ends_at),
               fmt::format("ended at {}{}", text(at_), ended_ ? " again" : ""));
      }
      ended_ = true;
      return;
    case DecisionKind::paused: {
      const auto* e = std::get_if<SalePaused>(event_);
      if (e == nullptr) return unasked();
      paused_ = true;
      return intervene("sale paused", waiting(), e->actor, e->why);
    }
    case DecisionKind::resumed: {
      const auto* e = std::get_if<SaleResumed>(event_);
      if (e == nullptr) return unasked();
      paused_ = false;
      return intervene("sale resumed", waiting(), e->actor, e->why);
    }
    case DecisionKind::closed: {
      const auto* e = std::get_if<SaleClosed>(event_);
      if (e == nullptr) return unasked();
      closed_ = true;
      return intervene("sale closed", waiting(), e->actor, e->why);
    }
    case DecisionKind::stock_adjusted: {
      const auto* e = std::get_if<StockAdjusted>(event_);
      if (e == nullptr) return unasked();
      intervene("stock adjusted",
                fmt::format("stock {} -> {}; before: {}", counters_.stocked.value, e->stock.value,
                            waiting()),
                e->actor, e->why);
      const std::uint64_t committed = std::uint64_t{counters_.held.value} + counters_.sold.value;
      if (committed > e->stock.value) {
        return breach(Promise::never_oversold, {},
                      fmt::format("a stock of at least the {} units held and sold", committed),
                      fmt::format("{}", e->stock.value));
      }
      counters_.stocked = e->stock;
      counters_.available = Quantity{static_cast<std::uint32_t>(e->stock.value - committed)};
      return;
    }
    case DecisionKind::sold_out:
      if (remaining() != 0 || told_sold_out_) {
        breach(Promise::answered, {},
               told_sold_out_ ? "to be told once" : fmt::format("{} units left", remaining()),
               said(d));
      }
      told_sold_out_ = true;
      if (!report_.first_sold_out) report_.first_sold_out = Moment{seq_, at_, counters_};
      return;
    case DecisionKind::line_released: {
      if (d.quantity.value != released_) {
        breach(Promise::place_kept, {}, fmt::format("{} purchases released", released_),
               fmt::format("{}", d.quantity.value));
      }
      released_ = 0;
      Actor actor;
      Why why;
      std::visit(
          [&](const auto& e) {
            if constexpr (requires { e.why; }) {
              actor = e.actor;
              why = e.why;
            }
          },
          *event_);
      std::string effect =
          fmt::format("{} waiting purchases released: {}", d.quantity.value, name_of(d.reason));
      if (d.reason == Reason::ended) {
        effect += fmt::format("; the end was set to {} at position {}", text(terms_.ends_at),
                              terms_seq_.value);
        actor = terms_actor_;
      }
      return intervene("line released", std::move(effect), actor, why);
    }
    default: return;
  }
}

// What must be true whenever time has passed or an event has been decided.
void FairnessCheck::check_sale() {
  if (!closed_ && (opened_ != (at_ >= terms_.starts_at) || ended_ != (at_ >= terms_.ends_at))) {
    breach(Promise::opened_and_ended, {},
           fmt::format("open from {} to {}", text(terms_.starts_at), text(terms_.ends_at)),
           fmt::format("at {} {}", text(at_),
                       ended_    ? "ended"
                       : opened_ ? "open"
                                 : "not open"));
  }
  if (const std::uint32_t first = first_hold(); first != kNone && buys_[first].deadline <= at_) {
    breach(Promise::hold_kept, buys_[first].seq, "expired by " + text(buys_[first].deadline),
           "a hold at " + text(at_));
  }
  if (std::uint64_t{counters_.available.value} + counters_.held.value + counters_.sold.value !=
      counters_.stocked.value) {
    breach(Promise::never_oversold, {}, fmt::format("{} in all", counters_.stocked.value),
           fmt::format("{} free, {} held, {} sold", counters_.available.value, counters_.held.value,
                       counters_.sold.value));
  }
  if (remaining() == 0 && !told_sold_out_) {
    breach(Promise::answered, {}, "sold_out: nothing is left", "nothing told");
  }
  told_sold_out_ = remaining() == 0;
  if (line_.size() == 0) return;
  const std::uint32_t free = counters_.available.value;
  if (over()) {
    breach(Promise::place_kept, buys_[line_.first()].seq, "the line released with the sale's end",
           fmt::format("{} still wait", line_.size()));
  } else if (!paused_ && free > 0) {
    const bool strict = terms_.line_policy == LinePolicy::strict;
    const std::uint32_t next = strict ? line_.first() : line_.first_within(free);
    if (next != Line::kNobody && buys_[next].quantity <= free) {
      breach(Promise::served_in_order, buys_[next].seq,
             fmt::format("an offer to purchase {}, next in line for {} units ({} free)",
                         buys_[next].seq.value, buys_[next].quantity, free),
             "no offer");
    }
  }
  if (line_.largest() > remaining()) {
    breach(Promise::place_kept, {},
           fmt::format("nobody to wait for more than the {} units free and held", remaining()),
           fmt::format("somebody waits for {}", line_.largest()));
  }
}

// ---- What each event must come to ----

FairnessCheck::Due FairnessCheck::due() const {
  if (!exists_ && std::get_if<SaleScheduled>(event_) == nullptr) {
    return {.kind = DecisionKind::refused, .reason = Reason::unknown_sale};
  }
  return std::visit([this](const auto& e) { return due(e); }, *event_);
}

FairnessCheck::Due FairnessCheck::due(const SaleScheduled& e) const {
  if (exists_) {
    if (e.sku == sku_ && e.rules == rules_ && e.terms == terms_) return {};
    return {.kind = DecisionKind::refused, .reason = Reason::sale_exists};
  }
  if (e.sku.empty() || check_terms(e.terms) != TermsFault::none) {
    return {.kind = DecisionKind::refused, .reason = Reason::terms_invalid};
  }
  return {.kind = DecisionKind::scheduled};
}

FairnessCheck::Due FairnessCheck::due(const SaleChanged& e) const {
  if (closed_) return {.kind = DecisionKind::refused, .reason = Reason::closed};
  if (ended_) return {.kind = DecisionKind::refused, .reason = Reason::ended};
  if (check_terms(e.terms) != TermsFault::none) {
    return {.kind = DecisionKind::refused, .reason = Reason::terms_invalid};
  }
  Terms old = terms_;
  old.stock = counters_.stocked;
  if (e.terms == old) return {};
  // Once the sale has opened: the end, the length of the line, and a higher limit.
  old.ends_at = e.terms.ends_at;
  old.line_limit = e.terms.line_limit;
  if (e.terms.limit_per_customer > old.limit_per_customer) {
    old.limit_per_customer = e.terms.limit_per_customer;
  }
  if (opened_ && e.terms != old) {
    return {.kind = DecisionKind::refused, .reason = Reason::not_changeable};
  }
  return {.kind = DecisionKind::changed};
}

FairnessCheck::Due FairnessCheck::due(const SalePaused&) const {
  if (closed_) return {.kind = DecisionKind::refused, .reason = Reason::closed};
  if (ended_) return {.kind = DecisionKind::refused, .reason = Reason::ended};
  return {.kind = paused_ ? DecisionKind::noted : DecisionKind::paused};
}

FairnessCheck::Due FairnessCheck::due(const SaleResumed&) const {
  if (closed_) return {.kind = DecisionKind::refused, .reason = Reason::closed};
  if (ended_) return {.kind = DecisionKind::refused, .reason = Reason::ended};
  return {.kind = paused_ ? DecisionKind::resumed : DecisionKind::noted};
}

FairnessCheck::Due FairnessCheck::due(const SaleClosed&) const {
  return {.kind = closed_ ? DecisionKind::noted : DecisionKind::closed};
}

FairnessCheck::Due FairnessCheck::due(const StockAdjusted& e) const {
  if (e.stock.value > kMaxStock) {
    return {.kind = DecisionKind::refused, .reason = Reason::terms_invalid};
  }
  if (std::uint64_t{counters_.held.value} + counters_.sold.value > e.stock.value) {
    return {.kind = DecisionKind::refused, .reason = Reason::stock_committed};
  }
  return {.kind =
              e.stock == counters_.stocked ? DecisionKind::noted : DecisionKind::stock_adjusted};
}

// Attempts are judged as they are told: which answer is right follows from what it says.
FairnessCheck::Due FairnessCheck::due(const PurchaseAttempted&) const { return {}; }

FairnessCheck::Due FairnessCheck::due(const PurchaseCancelled& e) const {
  const std::uint32_t index = find_buy(e.purchase);
  const auto refused = [&e](Reason why) {
    return Due{.kind = DecisionKind::refused, .reason = why, .purchase = e.purchase};
  };
  if (index == kNone) return refused(Reason::unknown_purchase);
  switch (buys_[index].stands) {
    case Stands::waiting:
    case Stands::reserved:
    case Stands::offered: return {.kind = DecisionKind::cancelled, .purchase = e.purchase};
    case Stands::cancelled:
      return {.kind = DecisionKind::cancelled,
              .purchase = e.purchase,
              .silent = true,
              .repeated = true};
    case Stands::ordered: return refused(Reason::already_ordered);
    default: return refused(Reason::not_held);
  }
}

FairnessCheck::Due FairnessCheck::due(const OfferDeclined& e) const {
  const std::uint32_t index = find_buy(e.purchase);
  if (index == kNone) {
    return {
        .kind = DecisionKind::refused, .reason = Reason::unknown_purchase, .purchase = e.purchase};
  }
  const Stands stands = buys_[index].stands;
  if (stands == Stands::offered || stands == Stands::declined) {
    return {.kind = DecisionKind::declined,
            .purchase = e.purchase,
            .silent = stands == Stands::declined,
            .repeated = stands == Stands::declined};
  }
  return {.kind = DecisionKind::refused, .reason = Reason::not_offered, .purchase = e.purchase};
}

FairnessCheck::Due FairnessCheck::due(const PaymentReceived& e) const {
  const std::uint32_t index = find_buy(e.purchase);
  const auto refused = [&e](Reason why) {
    return Due{.kind = DecisionKind::refused, .reason = why, .purchase = e.purchase};
  };
  if (index == kNone) return refused(Reason::unknown_purchase);
  const Buy& buy = buys_[index];
  unsigned earlier = 0;
  for (std::uint32_t i = buy.payments; i != kNone; i = payments_[i].previous, ++earlier) {
    const Payment& known = payments_[i];
    if (known.reference != reference_) continue;
    if (known.amount != e.amount) return refused(Reason::reference_reused);
    return {.kind = known.kind,
            .reason = known.reason,
            .purchase = e.purchase,
            .silent = true,
            .repeated = true,
            .until = known.until};
  }
  const Due judged = due_of_payment(buy, e.amount);
  if (judged.kind == DecisionKind::refund_due && earlier >= kMostPayments) {
    return refused(Reason::too_many_payments);
  }
  return judged;
}

// An order when the hold stands, or when the units are there all the same; else the money back.
FairnessCheck::Due FairnessCheck::due_of_payment(const Buy& buy, const Money& paid) const {
  const Reason why = [&] {
    switch (buy.stands) {
      case Stands::ordered:
      case Stands::refunded: return Reason::already_paid;
      case Stands::cancelled:
      case Stands::declined: return Reason::cancelled;
      case Stands::refused:
      case Stands::waiting:
      case Stands::released: return Reason::not_held;
      case Stands::reserved:
      case Stands::offered:
      case Stands::expired: break;
    }
    if (!pays(buy, paid)) return Reason::amount_mismatch;
    return holding(buy) || free_for_late(buy) ? Reason::none : Reason::hold_expired;
  }();
  return {.kind = why == Reason::none ? DecisionKind::ordered : DecisionKind::refund_due,
          .reason = why,
          .purchase = buy.seq};
}

FairnessCheck::Due FairnessCheck::due(const PaymentFailed& e) const {
  if (find_buy(e.purchase) == kNone) {
    return {
        .kind = DecisionKind::refused, .reason = Reason::unknown_purchase, .purchase = e.purchase};
  }
  return {.kind = DecisionKind::payment_failure_noted, .purchase = e.purchase};
}

FairnessCheck::Due FairnessCheck::due(const OrderRefunded& e) const {
  const std::uint32_t index = find_buy(e.purchase);
  if (index == kNone) {
    return {
        .kind = DecisionKind::refused, .reason = Reason::unknown_purchase, .purchase = e.purchase};
  }
  const Stands stands = buys_[index].stands;
  if (stands == Stands::ordered || stands == Stands::refunded) {
    return {.kind = DecisionKind::refunded,
            .purchase = e.purchase,
            .silent = stands == Stands::refunded,
            .repeated = stands == Stands::refunded};
  }
  return {.kind = DecisionKind::refused, .reason = Reason::not_ordered, .purchase = e.purchase};
}

FairnessCheck::Due FairnessCheck::due(const TimePassed&) const { return {.silent = true}; }

// ---- Looking up ----

std::uint32_t FairnessCheck::find_buy(Seq seq) const {
  const auto at = std::lower_bound(buys_.begin(), buys_.end(), seq,
                                   [](const Buy& b, Seq s) { return b.seq < s; });
  return at == buys_.end() || at->seq != seq ? kNone
                                             : static_cast<std::uint32_t>(at - buys_.begin());
}

// The key is the start of a SHA-256, so any part of it is as good as a hash.
std::size_t FairnessCheck::key_slot(std::uint64_t customer_hash, const IdempotencyKey& key) const {
  std::uint64_t h = 0;
  std::memcpy(&h, key.bytes.data(), sizeof h);
  return static_cast<std::size_t>(h ^ customer_hash) & (keys_.size() - 1);
}

std::uint32_t FairnessCheck::find_key(std::uint32_t customer, const IdempotencyKey& key) const {
  if (keys_.empty()) return kNone;
  std::size_t i = key_slot(customers_.hash_of(customer), key);
  for (; keys_[i] != 0; i = (i + 1) & (keys_.size() - 1)) {
    const Buy& b = buys_[keys_[i] - 1];
    if (b.customer == customer && b.key == key) return keys_[i] - 1;
  }
  return kNone;
}

void FairnessCheck::enter_key(std::uint32_t index) {
  const auto put = [this](std::uint32_t n) {
    std::size_t i = key_slot(customers_.hash_of(buys_[n].customer), buys_[n].key);
    while (keys_[i] != 0) i = (i + 1) & (keys_.size() - 1);
    keys_[i] = n + 1;
  };
  if (2 * buys_.size() > keys_.size()) {
    keys_.assign(keys_.empty() ? 1024 : 2 * keys_.size(), 0);
    for (std::uint32_t n = 0; n < buys_.size(); ++n) put(n);
  } else {
    put(index);
  }
}

}  // namespace fairsale::audit
