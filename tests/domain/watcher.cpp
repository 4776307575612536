#include "tests/domain/watcher.hpp"

#include <algorithm>

namespace fairsale::test {

void Watcher::must(bool holds, const std::string& promise) {
  if (!holds) throw Broken("broken promise: " + promise);
}

void Watcher::before(const Sale& sale, Timestamp at, const Event& event) {
  at_ = at.value;
  seq_ = sale.seq().value + 1;
  event_ = &event;
  terms_ = sale.terms();
  if (const auto* e = std::get_if<SaleScheduled>(&event); e != nullptr && !sale.exists()) {
    terms_ = e->terms;
  }
  phase_ = sale.phase();
  released_ = 0;
}

void Watcher::begin_hold(const Said& s, Buy& b) {
  must(phase_ == Phase::open, "units are given only while the sale is open");
  must(s.until == at_ + terms_.hold.value, "a hold lasts as long as the terms say");
  must(b.quantity <= available(), "nobody gets units that are not there");
  b.stands = Stands::holding;
  b.deadline = s.until + terms_.grace.value;
  ++b.holds_begun;
  held_ += b.quantity;
  holds_.push_back(s.purchase);
}

void Watcher::end_hold(Buy& b) {
  ++b.holds_ended;
  must(b.holds_begun == 1 && b.holds_ended == 1, "a hold ends exactly once");
  held_ -= b.quantity;
  b.stands = Stands::gone;
}

void Watcher::take(const Buy& b) {
  units_[b.customer] += b.quantity;
  must(units_[b.customer] <= terms_.limit_per_customer.value,
       "holds, orders and places stay within the customer's limit");
}

void Watcher::heard(const Said& s) {
  must(!s.repeated, "a repeated answer is not emitted");
  const bool strict = terms_.line_policy == LinePolicy::strict;
  const auto fits = [&](std::uint64_t seq) { return buys_[seq].quantity <= available(); };
  Buy* b = nullptr;
  if (s.purchase != 0 && !s.customer.empty()) {
    b = &buys_[s.purchase];
    if (b->stands == Stands::nowhere) {
      must(s.purchase == seq_, "a purchase starts at the position of its attempt");
      b->customer = s.customer;
      b->quantity = s.quantity;
    }
    must(b->customer == s.customer && b->quantity == s.quantity,
         "customer and quantity of a purchase never change");
  }

  switch (s.kind) {
    case DecisionKind::scheduled: stocked_ = s.quantity; break;
    case DecisionKind::changed:
      stocked_ = s.quantity;
      terms_ = std::get<SaleChanged>(*event_).terms;
      break;
    case DecisionKind::stock_adjusted: stocked_ = s.quantity; break;
    case DecisionKind::opened:
      must(at_ >= terms_.starts_at.value, "a sale opens when it starts");
      if (phase_ != Phase::paused) phase_ = Phase::open;
      break;
    case DecisionKind::paused: phase_ = Phase::paused; break;
    case DecisionKind::resumed: phase_ = Phase::open; break;
    case DecisionKind::ended:
      must(at_ >= terms_.ends_at.value, "a sale ends when it ends");
      phase_ = Phase::ended;
      break;
    case DecisionKind::closed: phase_ = Phase::closed; break;

    case DecisionKind::reserved:
      must(b->stands == Stands::nowhere, "a purchase is answered once");
      must(!strict || line_.empty(), "nobody passes a line");
      must(std::none_of(line_.begin(), line_.end(), fits), "nobody passes one who fits");
      take(*b);
      begin_hold(s, *b);
      break;
    case DecisionKind::waiting:
      must(b->stands == Stands::nowhere, "a purchase is answered once");
      must(phase_ == Phase::open, "nobody joins the line of a sale that is not open");
      must(!fits(s.purchase) || (strict && !line_.empty()), "nobody waits who could be served");
      must(b->quantity <= available() + held_, "nobody waits in vain");
      must(line_.size() < terms_.line_limit, "the line stays within its limit");
      take(*b);
      b->stands = Stands::in_line;
      line_.push_back(s.purchase);
      must(s.place == line_.size(), "the place told is the place in line");
      break;
    case DecisionKind::offered: {
      must(b->stands == Stands::in_line, "an offer goes to one who waits");
      const auto place = std::find(line_.begin(), line_.end(), s.purchase);
      must(std::none_of(line_.begin(), place, fits), "no offer passes one who fits");
      must(!strict || place == line_.begin(), "no offer passes the first in line");
      line_.erase(place);
      b->was_offer = true;
      begin_hold(s, *b);
      break;
    }

    case DecisionKind::refused:
      if (b != nullptr && b->stands == Stands::nowhere) {
        b->stands = Stands::refused;
        const std::int64_t left = available() + held_;
        if (s.reason == Reason::sold_out) must(left == 0, "sold out means nothing is left");
        if (s.reason == Reason::insufficient_stock) {
          must(left > 0 && left < b->quantity, "insufficient means less than asked for is left");
        }
        if (s.reason == Reason::line_full) {
          must(line_.size() >= terms_.line_limit, "line_full means that it is");
        }
        if (s.reason == Reason::over_limit) {
          must(units_[b->customer] + b->quantity > terms_.limit_per_customer.value,
               "over_limit means that the customer would be");
        }
      }
      break;

    case DecisionKind::expired:
      must(b->stands == Stands::holding, "only a hold expires");
      must(b->deadline <= at_, "no hold expires before its deadline");
      while (!holds_.empty() && buys_[holds_.front()].stands != Stands::holding) {
        holds_.pop_front();
      }
      must(holds_.front() == s.purchase, "holds expire in the order that they began");
      b->expired = true;
      end_hold(*b);
      units_[b->customer] -= b->quantity;
      break;
    case DecisionKind::cancelled:
    case DecisionKind::declined:
      if (s.kind == DecisionKind::declined) {
        must(b->was_offer && b->stands == Stands::holding, "only an offer is declined");
      }
      if (b->stands == Stands::in_line) {
        line_.erase(std::find(line_.begin(), line_.end(), s.purchase));
        b->stands = Stands::gone;
      } else {
        must(b->stands == Stands::holding, "only a hold or a place is given up");
        end_hold(*b);
      }
      units_[b->customer] -= b->quantity;
      break;
    case DecisionKind::ordered:
      if (b->stands == Stands::holding) {
        must(b->deadline > at_, "no hold is paid past its deadline");
        end_hold(*b);
      } else {
        must(b->stands == Stands::gone && b->expired, "only a hold, or one that expired, is paid");
        must(line_.empty() && b->quantity <= available(), "a late payment takes from nobody");
        must(phase_ != Phase::paused && phase_ != Phase::closed,
             "a late payment takes nothing from a sale that is stopped");
        take(*b);
      }
      b->stands = Stands::ordered;
      sold_ += b->quantity;
      break;
    case DecisionKind::refunded:
      must(b->stands == Stands::ordered, "only an order is refunded, and once");
      b->stands = Stands::refunded;
      sold_ -= b->quantity;
      units_[b->customer] -= b->quantity;
      if (!std::get<OrderRefunded>(*event_).restock) stocked_ -= b->quantity;
      break;

    case DecisionKind::released:
      must(b->stands == Stands::in_line, "only one who waits is released");
      must(phase_ == Phase::ended || phase_ == Phase::closed || b->quantity > available() + held_,
           "nobody is released who could still be served");
      line_.erase(std::find(line_.begin(), line_.end(), s.purchase));
      b->stands = Stands::gone;
      units_[b->customer] -= b->quantity;
      ++released_;
      break;
    case DecisionKind::line_released:
      must(line_.empty(), "after the release of the line nobody waits");
      must(s.quantity > 0 && s.quantity <= released_, "the release of the line is counted");
      break;
    case DecisionKind::sold_out:
      must(!sold_out_, "sold out is said once");
      must(available() + held_ == 0, "sold out means nothing is left");
      sold_out_ = true;
      break;
    case DecisionKind::payment_failure_noted:
    case DecisionKind::refund_due:
    case DecisionKind::noted: break;
  }
  if (available() + held_ > 0) sold_out_ = false;
  must(available() >= 0 && held_ >= 0 && sold_ >= 0, "no count is negative");
}

void Watcher::after(const Sale& sale, const Said&) {
  const Counters& c = sale.counters();
  must(c.stocked.value == stocked_ && c.held.value == held_ && c.sold.value == sold_ &&
           c.available.value == available() && c.waiting == line_.size(),
       "the counters follow from the decisions");
  if (stocked_ == sold_ && sale.exists()) must(sold_out_, "sold out is said when it happens");
  for (const auto& [customer, units] : units_) {
    const auto index = sale.find_customer(customer);
    must(index && sale.customer_units(*index).value == units, "units follow from the decisions");
  }
  for (const auto& [seq, b] : buys_) {
    if (b.stands != Stands::holding) continue;
    must(b.deadline > at_, "no hold outlives its deadline");
    must(b.holds_begun == 1 && b.holds_ended == 0, "a hold stands once");
  }
  if (sale.phase() == Phase::open) {
    const auto fits = [&](std::uint64_t seq) { return buys_[seq].quantity <= available(); };
    if (terms_.line_policy == LinePolicy::strict) {
      must(line_.empty() || !fits(line_.front()), "no unit lies idle before the first in line");
    } else {
      must(std::none_of(line_.begin(), line_.end(), fits), "no unit lies idle before who fits");
    }
  }
}

}  // namespace fairsale::test
