#include "tools/what_if/what_if.hpp"

#include "core/engine/recovery.hpp"

namespace fairsale::cli {

namespace {

// A sale, and the count of what was decided in it.
class World final : public DecisionSink {
 public:
  void apply(Seq seq, Timestamp at, const Event& event) {
    at_ = at;
    const Decision answer = sale_.apply(seq, at, event, *this);
    const auto* attempt = std::get_if<PurchaseAttempted>(&event);
    if (answer.kind == DecisionKind::refused && !answer.repeated) {
      if (attempt != nullptr) {
        ++out_.refused[static_cast<std::size_t>(answer.reason)];
      } else if (answer.purchase == Seq{0}) {
        ++out_.operator_refused;
      }
    }
    if (attempt != nullptr && !answer.repeated) ++out_.attempts;
  }

  void prefetch(const Event& event) { sale_.prefetch(event); }

  void on(const Decision& d) override {
    switch (d.kind) {
      case DecisionKind::reserved: out_.reserved.add(d.quantity.value); break;
      case DecisionKind::waiting: out_.waited.add(d.quantity.value); break;
      case DecisionKind::offered: out_.offered.add(d.quantity.value); break;
      case DecisionKind::expired: out_.expired.add(d.quantity.value); break;
      case DecisionKind::cancelled:
      case DecisionKind::declined: out_.given_up.add(d.quantity.value); break;
      case DecisionKind::refund_due: ++out_.refunds_due; break;
      case DecisionKind::sold_out:
        if (!out_.sold_out) out_.sold_out = at_;
        break;
      default: break;
    }
    if (!out_.all_taken && sale_.counters().available == Quantity{0}) out_.all_taken = at_;
  }

  Outcome finish() {
    out_.terms = sale_.terms();
    out_.counters = sale_.counters();
    out_.phase = sale_.phase();
    for (std::uint32_t i = 0; i < sale_.purchases(); ++i) {
      const Purchase& p = sale_.purchase(PurchaseIndex{i});
      if (p.status == PurchaseStatus::ordered) out_.ordered.add(p.quantity);
    }
    out_.revenue = static_cast<std::int64_t>(out_.ordered.units) * sale_.terms().price.amount.value;
    return out_;
  }

  const Sale& sale() const { return sale_; }

 private:
  Sale sale_;
  Outcome out_;
  Timestamp at_;
};

void override_terms(Terms& t, const Overrides& o) {
  if (o.stock) t.stock = *o.stock;
  if (o.hold) t.hold = *o.hold;
  if (o.limit_per_customer) t.limit_per_customer = *o.limit_per_customer;
  if (o.units_per_purchase) t.units_per_purchase = *o.units_per_purchase;
  if (o.line_limit) t.line_limit = *o.line_limit;
  if (o.line_policy) t.line_policy = *o.line_policy;
}

// The event as it comes to the other sale.
class Other {
 public:
  explicit Other(const Overrides& overrides) : overrides_(overrides) {}

  Event operator()(const Event& event, const Sale& real, const Sale& other) {
    if (const auto* e = std::get_if<SaleScheduled>(&event)) return alter(*e);
    if (const auto* e = std::get_if<SaleChanged>(&event)) return alter(*e, real, other);
    if (const auto* e = std::get_if<StockAdjusted>(&event)) return alter(*e);
    if (const auto* e = std::get_if<OfferDeclined>(&event)) return alter(*e, other);
    return event;
  }

  bool unsellable() const { return unsellable_; }

 private:
  Event alter(SaleScheduled e) {
    // What was refused stays so: a sale must not begin at different positions.
    if (check_terms(e.terms) != TermsFault::none) return e;
    override_terms(e.terms, overrides_);
    unsellable_ |= check_terms(e.terms) != TermsFault::none;
    return e;
  }

  Event alter(SaleChanged e, const Sale& real, const Sale& other) {
    const bool stock_as_it_was = e.terms.stock == real.counters().stocked;
    override_terms(e.terms, overrides_);
    if (stock_as_it_was) e.terms.stock = other.counters().stocked;
    return e;
  }

  Event alter(StockAdjusted e) {
    if (overrides_.stock) e.stock = *overrides_.stock;
    return e;
  }

  Event alter(const OfferDeclined& e, const Sale& other) {
    const auto index = other.find_purchase(e.purchase);
    const bool offered = index && (other.purchase(*index).status == PurchaseStatus::offered ||
                                   other.purchase(*index).status == PurchaseStatus::declined);
    if (offered) return e;
    return PurchaseCancelled{e.purchase, e.by};
  }

  const Overrides& overrides_;
  bool unsellable_ = false;
};

void compare(Affected& d, bool before, bool now, const Purchase& p, std::size_t list) {
  if (before == now) return;
  (now ? d.gained : d.lost).add(p.quantity);
  auto& first = now ? d.first_gained : d.first_lost;
  if (first.size() < list) first.push_back(p.seq);
}

}  // namespace

Result<WhatIf> what_if(const EventLog& log, const SkuHead& sku, const Overrides& overrides,
                       std::size_t list, const std::function<void(std::uint64_t)>& watch) {
  World real;
  World other;
  Other alter(overrides);
  const auto done =
      follow(log, sku, Head{}, sku.head.seq, [&](const BlockView& block) -> Result<void> {
        const Timestamp at = block.header().time;
        const auto decoded = block.for_each(
            [&](Seq seq, const Event& event) {
              if (seq > sku.head.seq) return;
              const Event altered = alter(event, real.sale(), other.sale());
              real.apply(seq, at, event);
              other.apply(seq, at, altered);
            },
            [&](const Event& event) {
              real.prefetch(event);
              other.prefetch(event);
            });
        if (!decoded) return decoded;
        if (alter.unsellable()) {
          return fail(Fault::invalid, "no sale can be held under these terms");
        }
        if (watch) watch(block.header().count);
        return {};
      });
  if (!done) return tl::unexpected(done.error());

  WhatIf result{.real = {}, .other = {}, .held = {}, .ordered = {}, .head = sku.head};
  // Whatever the terms, an attempt is kept as a purchase, so both sales have the same.
  for (std::uint32_t i = 0; i < real.sale().purchases(); ++i) {
    const Purchase& a = real.sale().purchase(PurchaseIndex{i});
    const Purchase& b = other.sale().purchase(PurchaseIndex{i});
    compare(result.held, a.until.value != 0, b.until.value != 0, a, list);
    compare(result.ordered, a.status == PurchaseStatus::ordered,
            b.status == PurchaseStatus::ordered, a, list);
  }
  result.real = real.finish();
  result.other = other.finish();
  return result;
}

}  // namespace fairsale::cli
