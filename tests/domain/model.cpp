#include "tests/domain/model.hpp"

#include <algorithm>
#include <type_traits>

namespace fairsale::test {

namespace {

// As much of an absurd quantity as is remembered.
std::uint32_t remembered(Quantity q) { return std::min<std::uint32_t>(q.value, 65535); }

Said again(Said first) {
  first.repeated = true;
  return first;
}

}  // namespace

Said Model::apply(Seq seq, Timestamp at, const Event& event, std::vector<Said>& said) {
  seq_ = seq.value;
  now_ = at.value;
  said_ = &said;
  if (terms_) {
    open_and_end();
    expire();
    serve_line();
  }
  const Said answer = std::visit(
      [&](const auto& e) {
        using E = std::decay_t<decltype(e)>;
        if (!terms_ && !std::is_same_v<E, SaleScheduled>) return refuse(Reason::unknown_sale);
        return act(e);
      },
      event);
  if (terms_) {
    open_and_end();
    serve_line();
    if (left() > 0) sold_out_said_ = false;
    if (left() == 0 && !sold_out_said_) {
      say({.kind = DecisionKind::sold_out});
      sold_out_said_ = true;
    }
  }
  return answer;
}

Phase Model::phase() const {
  if (!terms_) return Phase::none;
  if (closed_) return Phase::closed;
  if (ended_) return Phase::ended;
  if (paused_) return Phase::paused;
  return opened_ ? Phase::open : Phase::scheduled;
}

Counters Model::counters() const {
  Counters c;
  c.stocked = Quantity{stocked_};
  c.available = Quantity{free()};
  c.held = Quantity{held()};
  c.sold = Quantity{sold()};
  c.waiting = static_cast<std::uint32_t>(line_.size());
  return c;
}

Timestamp Model::next_deadline() const {
  std::int64_t next = kNever.value;
  if (!terms_) return kNever;
  if (!closed_ && !opened_) next = std::min(next, terms_->starts_at.value);
  if (!closed_ && !ended_) next = std::min(next, terms_->ends_at.value);
  for (const auto& [seq, b] : buys_) {
    if (holds_units(b.status)) next = std::min(next, b.until + terms_->grace.value);
  }
  return Timestamp{next};
}

std::uint32_t Model::units_of(const std::string& customer) const {
  std::uint32_t units = 0;
  for (const auto& [seq, b] : buys_) {
    if (b.customer != customer) continue;
    if (b.status == PurchaseStatus::waiting || b.status == PurchaseStatus::ordered ||
        holds_units(b.status)) {
      units += b.quantity;
    }
  }
  return units;
}

std::uint32_t Model::sum(PurchaseStatus a, PurchaseStatus b) const {
  std::uint32_t units = 0;
  for (const auto& [seq, buy] : buys_) {
    if (buy.status == a || buy.status == b) units += buy.quantity;
  }
  return units;
}

// ---- Time ----

void Model::open_and_end() {
  if (closed_) return;
  if (!opened_ && now_ >= terms_->starts_at.value) {
    opened_ = true;
    say({.kind = DecisionKind::opened});
  }
  if (!ended_ && now_ >= terms_->ends_at.value) {
    ended_ = true;
    say({.kind = DecisionKind::ended});
    release_all(Reason::ended);
  }
}

void Model::expire() {
  const std::list<std::uint64_t> before = holds_;
  for (const std::uint64_t seq : before) {
    Buy& b = buys_.at(seq);
    if (b.until + terms_->grace.value > now_) continue;
    b.status = PurchaseStatus::expired;
    holds_.remove(seq);
    say(about(seq, DecisionKind::expired));
  }
}

// Everybody in line who can't be served any more leaves; then what is free is offered in order.
void Model::serve_line() {
  if (left() == 0) release_all(Reason::sold_out);
  for (auto i = line_.begin(); i != line_.end();) {
    Buy& b = buys_.at(*i);
    if (b.quantity <= left()) {
      ++i;
      continue;
    }
    b.status = PurchaseStatus::released;
    say(about(*i, DecisionKind::released, Reason::insufficient_stock));
    i = line_.erase(i);
  }
  if (paused_ || stopped_for_good()) return;
  for (auto i = line_.begin(); i != line_.end();) {
    Buy& b = buys_.at(*i);
    if (b.quantity > free()) {
      if (terms_->line_policy == LinePolicy::strict) return;
      ++i;
      continue;
    }
    b.status = PurchaseStatus::offered;
    b.until = now_ + terms_->hold.value;
    holds_.push_back(*i);
    say(about(*i, DecisionKind::offered));
    i = line_.erase(i);
  }
}

void Model::release_all(Reason why) {
  if (line_.empty()) return;
  const auto count = static_cast<std::uint32_t>(line_.size());
  while (!line_.empty()) {
    const std::uint64_t seq = line_.front();
    line_.pop_front();
    buys_.at(seq).status = PurchaseStatus::released;
    say(about(seq, DecisionKind::released, why));
  }
  say({.kind = DecisionKind::line_released, .reason = why, .quantity = count});
}

// ---- The shop's events ----

Said Model::act(const SaleScheduled& e) {
  if (terms_) {
    if (e.sku.view() == sku_ && e.terms == *terms_) return say({.kind = DecisionKind::noted});
    return refuse(Reason::sale_exists);
  }
  if (check_terms(e.terms) != TermsFault::none || e.sku.empty()) {
    return refuse(Reason::terms_invalid);
  }
  terms_ = e.terms;
  sku_ = e.sku.view();
  stocked_ = e.terms.stock.value;
  return say({.kind = DecisionKind::scheduled, .quantity = stocked_});
}

Said Model::act(const SaleChanged& e) {
  if (closed_) return refuse(Reason::closed);
  if (ended_) return refuse(Reason::ended);
  if (check_terms(e.terms) != TermsFault::none) return refuse(Reason::terms_invalid);
  Terms was = *terms_;
  was.stock = Quantity{stocked_};
  if (e.terms == was) return say({.kind = DecisionKind::noted});
  if (opened_) {
    const bool fixed_kept =
        e.terms.stock == was.stock && e.terms.price == was.price &&
        e.terms.starts_at == was.starts_at && e.terms.hold == was.hold &&
        e.terms.grace == was.grace && e.terms.units_per_purchase == was.units_per_purchase &&
        e.terms.line_policy == was.line_policy && e.terms.opening == was.opening;
    if (!fixed_kept || e.terms.limit_per_customer < was.limit_per_customer) {
      return refuse(Reason::not_changeable);
    }
  }
  terms_ = e.terms;
  stocked_ = e.terms.stock.value;
  return say({.kind = DecisionKind::changed, .quantity = stocked_});
}

Said Model::act(const SalePaused&) {
  if (closed_) return refuse(Reason::closed);
  if (ended_) return refuse(Reason::ended);
  const bool already = std::exchange(paused_, true);
  return say({.kind = already ? DecisionKind::noted : DecisionKind::paused});
}

Said Model::act(const SaleResumed&) {
  if (closed_) return refuse(Reason::closed);
  if (ended_) return refuse(Reason::ended);
  const bool was_paused = std::exchange(paused_, false);
  return say({.kind = was_paused ? DecisionKind::resumed : DecisionKind::noted});
}

Said Model::act(const SaleClosed&) {
  if (closed_) return say({.kind = DecisionKind::noted});
  closed_ = true;
  const Said answer = say({.kind = DecisionKind::closed});
  release_all(Reason::closed);
  return answer;
}

Said Model::act(const StockAdjusted& e) {
  if (e.stock.value > kMaxStock) return refuse(Reason::terms_invalid);
  if (e.stock.value < held() + sold()) return refuse(Reason::stock_committed);
  if (e.stock.value == stocked_) return say({.kind = DecisionKind::noted});
  stocked_ = e.stock.value;
  return say({.kind = DecisionKind::stock_adjusted, .quantity = stocked_});
}

// ---- The shoppers' events ----

Said Model::act(const PurchaseAttempted& e) {
  const std::string customer(e.customer.view());
  const auto known = answers_.find({customer, e.key});
  if (known != answers_.end()) {
    const auto& [quantity, first] = known->second;
    if (quantity == remembered(e.quantity)) return again(first);
    return say(about(first.purchase, DecisionKind::refused, Reason::key_reused));
  }

  const std::uint32_t wanted = e.quantity.value;
  const bool takes_now =
      wanted <= free() && (line_.empty() || terms_->line_policy == LinePolicy::skip_if_unfit);
  Reason why = Reason::none;
  if (wanted < 1 || wanted > terms_->units_per_purchase.value) {
    why = Reason::quantity_invalid;
  } else if (closed_) {
    why = Reason::closed;
  } else if (ended_) {
    why = Reason::ended;
  } else if (!opened_) {
    why = Reason::not_started;
  } else if (paused_) {
    why = Reason::paused;
  } else if (units_of(customer) + wanted > terms_->limit_per_customer.value) {
    why = Reason::over_limit;
  } else if (left() == 0) {
    why = Reason::sold_out;
  } else if (wanted > left()) {
    why = Reason::insufficient_stock;
  } else if (!takes_now && line_.size() >= terms_->line_limit) {
    why = Reason::line_full;
  }

  Buy& b = buys_[seq_];
  b.customer = customer;
  b.quantity = remembered(e.quantity);
  Said answer;
  if (why != Reason::none) {
    answer = about(seq_, DecisionKind::refused, why);
  } else if (takes_now) {
    b.status = PurchaseStatus::reserved;
    b.until = now_ + terms_->hold.value;
    holds_.push_back(seq_);
    answer = about(seq_, DecisionKind::reserved);
  } else {
    b.status = PurchaseStatus::waiting;
    line_.push_back(seq_);
    answer = about(seq_, DecisionKind::waiting);
    answer.place = static_cast<std::uint32_t>(line_.size());
  }
  answers_[{customer, e.key}] = {b.quantity, answer};
  return say(answer);
}

Said Model::act(const PurchaseCancelled& e) {
  return give_up(e.purchase.value, PurchaseStatus::cancelled);
}

Said Model::act(const OfferDeclined& e) {
  return give_up(e.purchase.value, PurchaseStatus::declined);
}

Said Model::give_up(std::uint64_t purchase, PurchaseStatus goal) {
  const auto found = buys_.find(purchase);
  if (found == buys_.end()) return refuse(Reason::unknown_purchase, purchase);
  Buy& b = found->second;
  const auto kind =
      goal == PurchaseStatus::declined ? DecisionKind::declined : DecisionKind::cancelled;
  if (b.status == goal) return again(about(purchase, kind));
  if (goal == PurchaseStatus::declined && b.status != PurchaseStatus::offered) {
    return say(about(purchase, DecisionKind::refused, Reason::not_offered));
  }
  if (b.status == PurchaseStatus::ordered) {
    return say(about(purchase, DecisionKind::refused, Reason::already_ordered));
  }
  if (b.status != PurchaseStatus::waiting && !holds_units(b.status)) {
    return say(about(purchase, DecisionKind::refused, Reason::not_held));
  }
  line_.remove(purchase);
  holds_.remove(purchase);
  b.status = goal;
  return say(about(purchase, kind));
}

Said Model::act(const PaymentReceived& e) {
  const std::uint64_t purchase = e.purchase.value;
  const auto found = buys_.find(purchase);
  if (found == buys_.end()) return refuse(Reason::unknown_purchase, purchase);
  Buy& b = found->second;
  auto& payments = payments_[purchase];
  const auto known = payments.find(std::string(e.reference.view()));
  if (known != payments.end()) {
    if (known->second.first == e.amount) return again(known->second.second);
    return say(about(purchase, DecisionKind::refused, Reason::reference_reused));
  }
  const bool right_amount = e.amount.currency == terms_->price.currency &&
                            e.amount.amount.value == terms_->price.amount.value * b.quantity;
  Reason why = Reason::none;
  if (b.status == PurchaseStatus::ordered || b.status == PurchaseStatus::refunded) {
    why = Reason::already_paid;
  } else if (b.status == PurchaseStatus::cancelled || b.status == PurchaseStatus::declined) {
    why = Reason::cancelled;
  } else if (b.status != PurchaseStatus::expired && !holds_units(b.status)) {
    why = Reason::not_held;
  } else if (!right_amount) {
    why = Reason::amount_mismatch;
  } else if (b.status == PurchaseStatus::expired &&
             (paused_ || closed_ || !line_.empty() || b.quantity > free() ||
              units_of(b.customer) + b.quantity > terms_->limit_per_customer.value)) {
    why = Reason::hold_expired;
  }
  if (why != Reason::none && payments.size() >= 8) {
    return say(about(purchase, DecisionKind::refused, Reason::too_many_payments));
  }
  if (why == Reason::none) {
    holds_.remove(purchase);
    b.status = PurchaseStatus::ordered;
  }
  const Said answer =
      about(purchase, why == Reason::none ? DecisionKind::ordered : DecisionKind::refund_due, why);
  payments[std::string(e.reference.view())] = {e.amount, answer};
  return say(answer);
}

Said Model::act(const PaymentFailed& e) {
  if (!buys_.contains(e.purchase.value)) return refuse(Reason::unknown_purchase, e.purchase.value);
  return say(about(e.purchase.value, DecisionKind::payment_failure_noted));
}

Said Model::act(const OrderRefunded& e) {
  const auto found = buys_.find(e.purchase.value);
  if (found == buys_.end()) return refuse(Reason::unknown_purchase, e.purchase.value);
  Buy& b = found->second;
  if (b.status == PurchaseStatus::refunded) {
    return again(about(e.purchase.value, DecisionKind::refunded));
  }
  if (b.status != PurchaseStatus::ordered) {
    return say(about(e.purchase.value, DecisionKind::refused, Reason::not_ordered));
  }
  b.status = PurchaseStatus::refunded;
  if (!e.restock) stocked_ -= b.quantity;
  return say(about(e.purchase.value, DecisionKind::refunded));
}

// Time that passes is not announced; only what it brings is.
Said Model::act(const TimePassed&) { return {.kind = DecisionKind::noted}; }

// ---- Saying ----

Said Model::say(Said s) {
  said_->push_back(s);
  return s;
}

Said Model::refuse(Reason why, std::uint64_t purchase) {
  return say({.kind = DecisionKind::refused, .reason = why, .purchase = purchase});
}

Said Model::about(std::uint64_t purchase, DecisionKind kind, Reason reason) const {
  const Buy& b = buys_.at(purchase);
  return {.kind = kind,
          .reason = reason,
          .quantity = b.quantity,
          .customer = b.customer,
          .purchase = purchase,
          .until = b.until};
}

}  // namespace fairsale::test
