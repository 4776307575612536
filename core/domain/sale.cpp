#include <algorithm>
#include <array>
#include <type_traits>

#include "core/domain/invariant.hpp"
#include "core/domain/sale_index.hpp"

namespace fairsale {

namespace {

constexpr std::size_t kMaxPurchases = 0x7fff'ffff;
constexpr unsigned kMaxPaymentsPerPurchase = 8;

std::uint16_t stored(Quantity q) {
  return static_cast<std::uint16_t>(std::min<std::uint32_t>(q.value, 0xffff));
}

}  // namespace

Decision Sale::apply(Seq seq, Timestamp at, const Event& event, DecisionSink& sink) {
  FAIRSALE_INVARIANT(seq.value == seq_.value + 1, "the log is gap-free");
  FAIRSALE_INVARIANT(at >= time_, "log time never decreases");
  FAIRSALE_INVARIANT(at.value <= kMaxTimestampMs, "log time is a time");
  seq_ = seq;
  time_ = at;
  Step step{seq, at, sink};
  if (exists()) pass_time(step);
  const Decision answer = std::visit(
      [&](const auto& e) {
        using E = std::decay_t<decltype(e)>;
        if constexpr (!std::is_same_v<E, SaleScheduled>) {
          if (!exists()) {
            return emit(step, {.kind = DecisionKind::refused, .reason = Reason::unknown_sale});
          }
        }
        return act(step, e);
      },
      event);
  drop_stale_holds();
  FAIRSALE_INVARIANT(
      std::uint64_t{counters_.available.value} + counters_.held.value + counters_.sold.value ==
          counters_.stocked.value,
      "available + held + sold == stocked");
  return answer;
}

// First the bucket, and some calls later, when that has arrived, the records in it.
void Sale::prefetch(const Event& event) {
  const auto* attempt = std::get_if<PurchaseAttempted>(&event);
  if (attempt == nullptr) return;
  const std::uint32_t hash = hash_of(attempt->customer.view());
  customer_index_.prefetch(hash);
  constexpr unsigned kArrival = 4;  // calls, by which a line has come
  const CustomerLinks<Sale> links{*this};
  const auto earlier = [&](unsigned calls) {
    return coming_[(coming_at_ - calls) % coming_.size()];
  };
  customer_index_.prefetch_record(links, earlier(kArrival), 0);
  customer_index_.prefetch_record(links, earlier(2 * kArrival), 1);
  coming_[coming_at_++ % coming_.size()] = hash;
}

Phase Sale::phase() const {
  if (!exists()) return Phase::none;
  if (closed_) return Phase::closed;
  if (ended_) return Phase::ended;
  if (paused_) return Phase::paused;
  return opened_ ? Phase::open : Phase::scheduled;
}

Timestamp Sale::next_deadline() const {
  if (!exists()) return kNever;
  Timestamp next = kNever;
  if (!closed_ && !opened_) next = std::min(next, terms_.starts_at);
  if (!closed_ && !ended_) next = std::min(next, terms_.ends_at);
  if (holds_.head != kNoIndex) {
    next = std::min(next, purchases_[holds_.head].until + terms_.grace);
  }
  return next;
}

std::optional<PurchaseIndex> Sale::find_purchase(Seq seq) const {
  std::size_t low = 0;
  std::size_t high = purchases_.size();
  while (low < high) {
    const std::size_t mid = low + (high - low) / 2;
    if (purchases_[mid].seq < seq) {
      low = mid + 1;
    } else {
      high = mid;
    }
  }
  if (low == purchases_.size() || purchases_[low].seq != seq) return std::nullopt;
  return PurchaseIndex{static_cast<std::uint32_t>(low)};
}

std::string_view Sale::customer_name(CustomerIndex c) const {
  const char* name = &names_[customers_[c.value].name];
  return {name + 1, static_cast<unsigned char>(*name)};
}

std::optional<CustomerIndex> Sale::find_customer(std::string_view name) const {
  return find_customer(name, hash_of(name));
}

std::optional<CustomerIndex> Sale::find_customer(std::string_view name, std::uint32_t hash) const {
  const std::uint32_t found = customer_index_.find(
      CustomerLinks<const Sale>{*this}, hash,
      [&](std::uint32_t i) { return customer_name(CustomerIndex{i}) == name; });
  if (found == LinearIndex::kNone) return std::nullopt;
  return CustomerIndex{found};
}

void Sale::reserve(std::size_t purchases) {
  purchases_.reserve(purchases_.size() + purchases);
  later_.reserve(later_.size() + purchases);
  later_index_.reserve(later_.size() + purchases);
  customers_.reserve(customers_.size() + purchases);
  customer_index_.reserve(customers_.size() + purchases);
  payments_.reserve(payments_.size() + purchases);
  names_.reserve(names_.size() + purchases * (CustomerId::capacity + 1));
}

// ---- Events ----

Decision Sale::act(Step& step, const SaleScheduled& e) {
  FAIRSALE_INVARIANT(supports(e.rules), "the log's reader refuses unknown rules versions");
  if (exists()) {
    const bool same = e.sku == sku_ && e.rules == rules_ && e.terms == terms_;
    return emit(step, {.kind = same ? DecisionKind::noted : DecisionKind::refused,
                       .reason = same ? Reason::none : Reason::sale_exists});
  }
  if (check_terms(e.terms) != TermsFault::none || e.sku.empty()) {
    return emit(step, {.kind = DecisionKind::refused, .reason = Reason::terms_invalid});
  }
  rules_ = e.rules;
  sku_ = e.sku;
  terms_ = e.terms;
  counters_.stocked = terms_.stock;
  counters_.available = terms_.stock;
  line_.assign(terms_.units_per_purchase.value, Fifo{});
  const Decision answer =
      emit(step, {.kind = DecisionKind::scheduled, .quantity = counters_.stocked});
  pass_time(step);
  settle(step);
  return answer;
}

Decision Sale::act(Step& step, const SaleChanged& e) {
  if (over()) {
    return emit(
        step, {.kind = DecisionKind::refused, .reason = closed_ ? Reason::closed : Reason::ended});
  }
  if (check_terms(e.terms) != TermsFault::none) {
    return emit(step, {.kind = DecisionKind::refused, .reason = Reason::terms_invalid});
  }
  return set_terms(step, e.terms);
}

Decision Sale::set_terms(Step& step, const Terms& wanted) {
  // What has not changed is compared under the stock as it is now: adjustments are not changes.
  Terms now = terms_;
  now.stock = counters_.stocked;
  if (wanted == now) return emit(step, {.kind = DecisionKind::noted});
  if (opened_) {
    Terms allowed = now;
    allowed.ends_at = wanted.ends_at;
    allowed.line_limit = wanted.line_limit;
    allowed.limit_per_customer = std::max(now.limit_per_customer, wanted.limit_per_customer);
    if (wanted != allowed) {
      return emit(step, {.kind = DecisionKind::refused, .reason = Reason::not_changeable});
    }
  }
  terms_ = wanted;
  if (!opened_) {
    counters_.stocked = wanted.stock;
    counters_.available = wanted.stock;
    line_.assign(wanted.units_per_purchase.value, Fifo{});
  }
  const Decision answer =
      emit(step, {.kind = DecisionKind::changed, .quantity = counters_.stocked});
  pass_time(step);
  settle(step);
  return answer;
}

Decision Sale::act(Step& step, const SalePaused&) {
  if (over()) {
    return emit(
        step, {.kind = DecisionKind::refused, .reason = closed_ ? Reason::closed : Reason::ended});
  }
  if (paused_) return emit(step, {.kind = DecisionKind::noted});
  paused_ = true;
  return emit(step, {.kind = DecisionKind::paused});
}

Decision Sale::act(Step& step, const SaleResumed&) {
  if (over()) {
    return emit(
        step, {.kind = DecisionKind::refused, .reason = closed_ ? Reason::closed : Reason::ended});
  }
  if (!paused_) return emit(step, {.kind = DecisionKind::noted});
  paused_ = false;
  const Decision answer = emit(step, {.kind = DecisionKind::resumed});
  settle(step);
  return answer;
}

Decision Sale::act(Step& step, const SaleClosed&) {
  if (closed_) return emit(step, {.kind = DecisionKind::noted});
  closed_ = true;
  const Decision answer = emit(step, {.kind = DecisionKind::closed});
  release_line(step, Reason::closed);
  return answer;
}

Decision Sale::act(Step& step, const StockAdjusted& e) {
  const std::uint64_t committed = std::uint64_t{counters_.held.value} + counters_.sold.value;
  if (e.stock.value > kMaxStock) {
    return emit(step, {.kind = DecisionKind::refused, .reason = Reason::terms_invalid});
  }
  if (e.stock.value < committed) {
    return emit(step, {.kind = DecisionKind::refused, .reason = Reason::stock_committed});
  }
  if (e.stock == counters_.stocked) return emit(step, {.kind = DecisionKind::noted});
  counters_.stocked = e.stock;
  counters_.available = Quantity{static_cast<std::uint32_t>(e.stock.value - committed)};
  const Decision answer = emit(step, {.kind = DecisionKind::stock_adjusted, .quantity = e.stock});
  settle(step);
  return answer;
}

Decision Sale::act(Step& step, const PurchaseAttempted& e) {
  const std::uint32_t hash = hash_of(e.customer.view());
  const auto returning = find_customer(e.customer.view(), hash);
  if (returning) {
    if (const std::uint32_t known = find_attempt(returning->value, e.key); known != kNoIndex) {
      if (purchases_[known].quantity == stored(e.quantity)) return first_answer(known);
      return emit(step, about(known, DecisionKind::refused, Reason::key_reused));
    }
  }
  if (purchases_.size() >= kMaxPurchases || names_.size() >= kMaxNameBytes) {
    return emit(step, {.kind = DecisionKind::refused, .reason = Reason::sale_full});
  }

  std::uint32_t customer = 0;
  if (returning) {
    customer = returning->value;
  } else {
    customer = append_customer(e.customer.view(), hash);
    customer_index_.insert(CustomerLinks<Sale>{*this}, hash, customer);
  }
  const auto index = static_cast<std::uint32_t>(purchases_.size());
  enter_purchase(Purchase{.key = e.key,
                          .seq = step.seq,
                          .until = Timestamp{0},
                          .customer = customer,
                          .quantity = stored(e.quantity)});

  const Reason refusal = why_refused(e, customer);
  if (refusal != Reason::none) {
    purchases_[index].reason = refusal;
    return emit(step, about(index, DecisionKind::refused, refusal));
  }
  accept_purchase(index);
  customers_[customer].units += e.quantity.value;
  if (can_take_now(e.quantity)) {
    begin_hold(step, index, PurchaseStatus::reserved);
    return emit(step, about(index, DecisionKind::reserved));
  }
  purchases_[index].status = PurchaseStatus::waiting;
  purchases_[index].place = ++counters_.waiting;
  enqueue(line_[e.quantity.value - 1], index);
  return emit(step, about(index, DecisionKind::waiting));
}

Reason Sale::why_refused(const PurchaseAttempted& e, std::uint32_t customer) const {
  if (e.quantity.value == 0 || e.quantity > terms_.units_per_purchase) {
    return Reason::quantity_invalid;
  }
  if (closed_) return Reason::closed;
  if (ended_) return Reason::ended;
  if (!opened_) return Reason::not_started;
  if (paused_) return Reason::paused;
  if (std::uint64_t{customers_[customer].units} + e.quantity.value >
      terms_.limit_per_customer.value) {
    return Reason::over_limit;
  }
  if (remaining() == 0) return Reason::sold_out;
  if (remaining() < e.quantity.value) return Reason::insufficient_stock;
  if (!can_take_now(e.quantity) && counters_.waiting >= terms_.line_limit) {
    return Reason::line_full;
  }
  return Reason::none;
}

// Whoever waits and could be served with what is free has been served by now (settle), so under
// skip_if_unfit nobody in line fits; under strict order any line at all stands before a newcomer.
bool Sale::can_take_now(Quantity q) const {
  if (q > counters_.available) return false;
  return terms_.line_policy == LinePolicy::skip_if_unfit || counters_.waiting == 0;
}

Decision Sale::act(Step& step, const PurchaseCancelled& e) {
  return give_up(step, e.purchase, false);
}

Decision Sale::act(Step& step, const OfferDeclined& e) { return give_up(step, e.purchase, true); }

Decision Sale::give_up(Step& step, Seq purchase, bool only_offered) {
  const auto found = find_purchase(purchase);
  if (!found) {
    return emit(
        step,
        {.kind = DecisionKind::refused, .reason = Reason::unknown_purchase, .purchase = purchase});
  }
  const std::uint32_t index = found->value;
  const PurchaseStatus status = purchases_[index].status;
  const PurchaseStatus goal = only_offered ? PurchaseStatus::declined : PurchaseStatus::cancelled;
  const DecisionKind kind = only_offered ? DecisionKind::declined : DecisionKind::cancelled;
  if (status == goal) {
    Decision again = about(index, kind);
    again.repeated = true;
    return again;
  }
  if (only_offered && status != PurchaseStatus::offered) {
    return emit(step, about(index, DecisionKind::refused, Reason::not_offered));
  }
  if (status == PurchaseStatus::waiting) {
    leave_line(index, goal, Reason::none);
    const Decision answer = emit(step, about(index, kind));
    settle(step);  // who stood behind it may fit now
    return answer;
  }
  if (holds_units(status)) {
    free_units(index, goal);
    const Decision answer = emit(step, about(index, kind));
    settle(step);
    return answer;
  }
  const Reason why = status == PurchaseStatus::ordered ? Reason::already_ordered : Reason::not_held;
  return emit(step, about(index, DecisionKind::refused, why));
}

Decision Sale::act(Step& step, const PaymentReceived& e) {
  const auto found = find_purchase(e.purchase);
  if (!found) {
    return emit(step, {.kind = DecisionKind::refused,
                       .reason = Reason::unknown_purchase,
                       .purchase = e.purchase});
  }
  const std::uint32_t index = found->value;
  unsigned count = 0;
  for (std::uint32_t i = purchases_[index].payments; i != kNoIndex; i = payments_[i].next) {
    const Payment& known = payments_[i];
    ++count;
    if (known.reference != e.reference) continue;
    if (known.amount != e.amount) {
      return emit(step, about(index, DecisionKind::refused, Reason::reference_reused));
    }
    Decision again = about(index, known.kind, known.reason);
    again.until = known.until;
    again.repeated = true;
    return again;
  }
  const auto [kind, reason] = judge_payment(index, e.amount);
  // However many went before, the one that pays for the purchase is taken.
  if (count >= kMaxPaymentsPerPurchase && kind != DecisionKind::ordered) {
    return emit(step, about(index, DecisionKind::refused, Reason::too_many_payments));
  }
  Purchase& p = purchases_[index];
  payments_.push_back(Payment{.reference = e.reference,
                              .amount = e.amount,
                              .until = p.until,
                              .purchase = index,
                              .next = p.payments,
                              .kind = kind,
                              .reason = reason});
  p.payments = static_cast<std::uint32_t>(payments_.size() - 1);
  if (kind == DecisionKind::ordered) {
    if (holds_units(p.status)) {
      sell(index, counters_.held);
    } else {
      sell(index, counters_.available);
      customers_[p.customer].units += p.quantity;
    }
  }
  const Decision answer = emit(step, about(index, kind, reason));
  if (kind == DecisionKind::ordered) settle(step);
  return answer;
}

std::optional<Sale::PaymentMade> Sale::order_payment(PurchaseIndex index) const {
  for (std::uint32_t i = purchases_[index.value].payments; i != kNoIndex; i = payments_[i].next) {
    const Payment& p = payments_[i];
    if (p.kind == DecisionKind::ordered) return PaymentMade{p.reference, p.amount};
  }
  return std::nullopt;
}

std::optional<Sale::PaymentMade> Sale::latest_payment(PurchaseIndex index) const {
  const std::uint32_t latest = purchases_[index.value].payments;
  if (latest == kNoIndex) return std::nullopt;
  return PaymentMade{payments_[latest].reference, payments_[latest].amount};
}

// A payment is honoured while the hold stands. One that comes later still gets the units if they
// are free, nobody waits for them and the sale is not stopped. All others are to be refunded.
std::pair<DecisionKind, Reason> Sale::judge_payment(std::uint32_t index, const Money& paid) const {
  const Purchase& p = purchases_[index];
  const auto refund = [](Reason why) { return std::pair{DecisionKind::refund_due, why}; };
  const Money due{MinorUnits{terms_.price.amount.value * p.quantity}, terms_.price.currency};
  switch (p.status) {
    case PurchaseStatus::ordered:
    case PurchaseStatus::refunded: return refund(Reason::already_paid);
    case PurchaseStatus::cancelled:
    case PurchaseStatus::declined: return refund(Reason::cancelled);
    case PurchaseStatus::refused:
    case PurchaseStatus::waiting:
    case PurchaseStatus::released: return refund(Reason::not_held);
    case PurchaseStatus::reserved:
    case PurchaseStatus::offered:
      if (paid != due) return refund(Reason::amount_mismatch);
      return {DecisionKind::ordered, Reason::none};
    case PurchaseStatus::expired: {
      if (paid != due) return refund(Reason::amount_mismatch);
      const bool free = p.quantity <= counters_.available.value && counters_.waiting == 0;
      const bool within_limit = std::uint64_t{customers_[p.customer].units} + p.quantity <=
                                terms_.limit_per_customer.value;
      if (free && within_limit && !paused_ && !closed_) {
        return {DecisionKind::ordered, Reason::none};
      }
      return refund(Reason::hold_expired);
    }
  }
  FAIRSALE_INVARIANT(false, "a purchase has a known status");
}

Decision Sale::act(Step& step, const PaymentFailed& e) {
  const auto found = find_purchase(e.purchase);
  if (!found) {
    return emit(step, {.kind = DecisionKind::refused,
                       .reason = Reason::unknown_purchase,
                       .purchase = e.purchase});
  }
  return emit(step, about(found->value, DecisionKind::payment_failure_noted));
}

Decision Sale::act(Step& step, const OrderRefunded& e) {
  const auto found = find_purchase(e.purchase);
  if (!found) {
    return emit(step, {.kind = DecisionKind::refused,
                       .reason = Reason::unknown_purchase,
                       .purchase = e.purchase});
  }
  const std::uint32_t index = found->value;
  Purchase& p = purchases_[index];
  if (p.status == PurchaseStatus::refunded) {
    Decision again = about(index, DecisionKind::refunded);
    again.repeated = true;
    return again;
  }
  if (p.status != PurchaseStatus::ordered) {
    return emit(step, about(index, DecisionKind::refused, Reason::not_ordered));
  }
  p.status = PurchaseStatus::refunded;
  customers_[p.customer].units -= p.quantity;
  counters_.sold.value -= p.quantity;
  (e.restock ? counters_.available.value : counters_.stocked.value) +=
      e.restock ? p.quantity : -std::uint32_t{p.quantity};
  const Decision answer = emit(step, about(index, DecisionKind::refunded));
  settle(step);
  return answer;
}

Decision Sale::act(Step&, const TimePassed&) { return {.kind = DecisionKind::noted}; }

// ---- Time and the line ----

void Sale::pass_time(Step& step) {
  if (!opened_ && !closed_ && step.at >= terms_.starts_at) {
    opened_ = true;
    emit(step, {.kind = DecisionKind::opened});
  }
  if (!ended_ && !closed_ && step.at >= terms_.ends_at) {
    ended_ = true;
    emit(step, {.kind = DecisionKind::ended});
    release_line(step, Reason::ended);
  }
  bool freed = false;
  for (drop_stale_holds(); holds_.head != kNoIndex; drop_stale_holds()) {
    const std::uint32_t index = holds_.head;
    if (purchases_[index].until + terms_.grace > step.at) break;
    free_units(index, PurchaseStatus::expired);
    emit(step, about(index, DecisionKind::expired));
    freed = true;
  }
  if (freed) settle(step);
}

// Brings the line up to date after anything changed: releases who can no longer be served, offers
// what is free, and says once when nothing is left.
void Sale::settle(Step& step) {
  release_unservable(step);
  if (!paused_ && !over()) offer_to_line(step);
  const bool nothing_left = remaining() == 0;
  if (nothing_left && !sold_out_) emit(step, {.kind = DecisionKind::sold_out});
  sold_out_ = nothing_left;
}

void Sale::release_unservable(Step& step) {
  if (counters_.waiting == 0) return;
  if (remaining() == 0) {
    release_line(step, Reason::sold_out);
    return;
  }
  const auto largest = static_cast<std::uint32_t>(line_.size());
  for (;;) {
    if (remaining() >= largest) return;
    const std::uint32_t index = first_waiting_from(remaining() + 1, largest);
    if (index == kNoIndex) return;
    dequeue(line_[purchases_[index].quantity - 1u]);
    leave_line(index, PurchaseStatus::released, Reason::insufficient_stock);
    emit(step, about(index, DecisionKind::released, Reason::insufficient_stock));
  }
}

void Sale::offer_to_line(Step& step) {
  const auto largest = static_cast<std::uint32_t>(line_.size());
  while (counters_.waiting > 0 && counters_.available.value > 0) {
    const bool skip = terms_.line_policy == LinePolicy::skip_if_unfit;
    const std::uint32_t index =
        first_waiting_from(1, skip ? std::min(largest, counters_.available.value) : largest);
    if (index == kNoIndex) return;
    if (purchases_[index].quantity > counters_.available.value) return;
    dequeue(line_[purchases_[index].quantity - 1u]);
    --counters_.waiting;
    begin_hold(step, index, PurchaseStatus::offered);
    emit(step, about(index, DecisionKind::offered));
  }
}

void Sale::release_line(Step& step, Reason why) {
  const std::uint32_t released = counters_.waiting;
  if (released == 0) return;
  while (counters_.waiting > 0) {
    const std::uint32_t index = first_waiting_from(1, static_cast<std::uint32_t>(line_.size()));
    FAIRSALE_INVARIANT(index != kNoIndex, "who is counted as waiting stands in a line");
    dequeue(line_[purchases_[index].quantity - 1u]);
    leave_line(index, PurchaseStatus::released, why);
    emit(step, about(index, DecisionKind::released, why));
  }
  emit(step, {.kind = DecisionKind::line_released, .reason = why, .quantity = Quantity{released}});
}

// ---- Small moves ----

Decision Sale::emit(Step& step, const Decision& d) {
  step.sink.on(d);
  return d;
}

void Sale::begin_hold(Step& step, std::uint32_t index, PurchaseStatus status) {
  Purchase& p = purchases_[index];
  p.status = status;
  p.until = step.at + terms_.hold;
  counters_.available.value -= p.quantity;
  counters_.held.value += p.quantity;
  enqueue(holds_, index);
}

void Sale::leave_line(std::uint32_t index, PurchaseStatus status, Reason why) {
  Purchase& p = purchases_[index];
  p.status = status;
  p.reason = why;
  customers_[p.customer].units -= p.quantity;
  --counters_.waiting;
}

void Sale::free_units(std::uint32_t index, PurchaseStatus status) {
  Purchase& p = purchases_[index];
  p.status = status;
  customers_[p.customer].units -= p.quantity;
  counters_.held.value -= p.quantity;
  counters_.available.value += p.quantity;
}

void Sale::sell(std::uint32_t index, Quantity& from) {
  Purchase& p = purchases_[index];
  p.status = PurchaseStatus::ordered;
  from.value -= p.quantity;
  counters_.sold.value += p.quantity;
}

Decision Sale::about(std::uint32_t index, DecisionKind kind, Reason reason) const {
  const Purchase& p = purchases_[index];
  return {.kind = kind,
          .reason = reason,
          .quantity = Quantity{p.quantity},
          .place = kind == DecisionKind::waiting ? p.place : 0,
          .customer = CustomerIndex{p.customer},
          .purchase = p.seq,
          .until = p.until};
}

Decision Sale::first_answer(std::uint32_t index) const {
  const Purchase& p = purchases_[index];
  Decision d;
  if (p.status == PurchaseStatus::refused) {
    d = about(index, DecisionKind::refused, p.reason);
  } else if (p.place != 0) {
    d = about(index, DecisionKind::waiting);
    d.until = Timestamp{0};
  } else {
    // A purchase that never waited holds at most once, so `until` is still the first one.
    d = about(index, DecisionKind::reserved);
  }
  d.repeated = true;
  return d;
}

// The customer's purchase under this key, or kNoIndex.
std::uint32_t Sale::find_attempt(std::uint32_t customer, const IdempotencyKey& key) const {
  const std::uint32_t first = customers_[customer].first;
  if (first != kNoIndex && purchases_[first].key == key) return first;
  const std::uint32_t found = later_index_.find(
      LaterLinks<const Sale>{*this}, hash_of(key, customer), [&](std::uint32_t i) {
        const Purchase& p = purchases_[later_[i].purchase];
        return p.customer == customer && p.key == key;
      });
  return found == LinearIndex::kNone ? kNoIndex : later_[found].purchase;
}

// Most customers try once: only further attempts are worth an index entry.
void Sale::enter_purchase(const Purchase& p) {
  const auto index = static_cast<std::uint32_t>(purchases_.size());
  purchases_.push_back(p);
  std::uint32_t& first = customers_[p.customer].first;
  if (first == kNoIndex) {
    first = index;
    return;
  }
  const std::uint32_t hash = hash_of(p.key, p.customer);
  later_.push_back(Later{.purchase = index, .hash = hash});
  later_index_.insert(LaterLinks<Sale>{*this}, hash, static_cast<std::uint32_t>(later_.size() - 1));
}

// Makes an attempt that is not refused the latest of its customer's purchases.
void Sale::accept_purchase(std::uint32_t index) {
  const std::uint32_t first = customers_[purchases_[index].customer].first;
  if (index != first) purchases_[index].previous = purchases_[first].previous;
  purchases_[first].previous = index;
}

std::vector<PurchaseIndex> Sale::purchases_of(CustomerIndex c, std::size_t limit) const {
  std::vector<PurchaseIndex> found;
  const std::uint32_t first = customers_[c.value].first;
  for (std::uint32_t i = purchases_[first].previous; i != kNoIndex && found.size() < limit;
       i = i == first ? kNoIndex : purchases_[i].previous) {
    found.push_back(PurchaseIndex{i});
  }
  return found;
}

// Keeps the name; the caller enters it into the index.
std::uint32_t Sale::append_customer(std::string_view name, std::uint32_t hash) {
  const auto index = static_cast<std::uint32_t>(customers_.size());
  std::array<char, CustomerId::capacity + 1> sized;
  sized[0] = static_cast<char>(name.size());
  name.copy(&sized[1], name.size());
  const std::size_t offset = names_.append_contiguous(sized.data(), name.size() + 1);
  customers_.push_back(Customer{.name = static_cast<std::uint32_t>(offset), .hash = hash});
  return index;
}

void Sale::enqueue(Fifo& fifo, std::uint32_t index) {
  purchases_[index].link = kNoIndex;
  if (fifo.head == kNoIndex) {
    fifo.head = index;
  } else {
    purchases_[fifo.tail].link = index;
  }
  fifo.tail = index;
}

void Sale::dequeue(Fifo& fifo) {
  const std::uint32_t index = fifo.head;
  fifo.head = purchases_[index].link;
  purchases_[index].link = kNoIndex;
  if (fifo.head == kNoIndex) fifo.tail = kNoIndex;
}

void Sale::drop_stale_holds() {
  while (holds_.head != kNoIndex && !holds_units(purchases_[holds_.head].status)) dequeue(holds_);
}

// The first who waits for exactly this quantity; drops stale entries on the way.
std::uint32_t Sale::first_waiting(std::uint32_t quantity) {
  Fifo& fifo = line_[quantity - 1];
  while (fifo.head != kNoIndex && purchases_[fifo.head].status != PurchaseStatus::waiting) {
    dequeue(fifo);
  }
  return fifo.head;
}

// The first who waits for low to high units. Who joined earlier has the smaller index.
std::uint32_t Sale::first_waiting_from(std::uint32_t low, std::uint32_t high) {
  std::uint32_t first = kNoIndex;
  for (std::uint32_t q = low; q <= high; ++q) first = std::min(first, first_waiting(q));
  return first;
}

}  // namespace fairsale
