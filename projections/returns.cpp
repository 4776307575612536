#include "projections/returns.hpp"

#include <algorithm>
#include <cmath>

namespace fairsale {

namespace {

double halves(Duration passed, Duration half_life) {
  return static_cast<double>(passed.value) / static_cast<double>(half_life.value);
}

}  // namespace

void Returns::Course::fade(Timestamp now) {
  if (now <= at) return;
  const double left = std::exp2(-halves(Duration{now.value - at.value}, half_life));
  for (double* sum : {&purchases, &returned, &unpaid, &ended}) *sum *= left;
  at = now;
}

void Returns::seed(SkuId sku, const Sale& sale) {
  skus_[sku.value] = {.stocked = sale.counters().stocked, .course = std::nullopt};
}

void Returns::on_decision(SkuId sku, const Sale& sale, const Decision& d) {
  bool held = true;
  bool paid = false;
  switch (d.kind) {
    case DecisionKind::scheduled:
    case DecisionKind::changed:
    case DecisionKind::stock_adjusted: skus_[sku.value].stocked = sale.counters().stocked; return;
    case DecisionKind::expired:
    case DecisionKind::declined: break;
    case DecisionKind::cancelled:
      // Who gave up a place in line never held anything.
      if (sale.purchase(*sale.find_purchase(d.purchase)).until.value == 0) return;
      break;
    case DecisionKind::ordered: paid = true; break;
    case DecisionKind::refunded: held = false; break;
    default: return;
  }
  PerSku& known = skus_[sku.value];
  const Quantity before = known.stocked;
  known.stocked = sale.counters().stocked;
  if (!held && known.stocked != before) return;
  if (!known.course) {
    const Duration hold = sale.terms().hold;
    known.course.emplace(Course{.first = sale.time(),
                                .at = sale.time(),
                                .half_life = Duration{std::max(hold.value, kLeastHalfLife.value)},
                                .hold = hold});
  }
  Course& c = *known.course;
  c.fade(sale.time());
  const double units = d.quantity.value;
  if (held) c.ended += units;
  if (paid) return;
  if (held) c.unpaid += units;
  c.returned += units;
  c.purchases += 1;
}

std::optional<Duration> Returns::estimate(SkuId sku, const Sale& sale, std::uint64_t units) const {
  const auto found = skus_.find(sku.value);
  if (found == skus_.end() || !found->second.course) return std::nullopt;
  Course c = *found->second.course;
  const Duration observed{sale.time().value - c.first.value};
  c.fade(sale.time());
  if (observed < kLeastTime || c.purchases < kLeastReturns) return std::nullopt;
  // The integral of 2^(-t / half-life) over the time in which it came back.
  const double time =
      static_cast<double>(c.half_life.value) / std::log(2.0) *
      (1 - std::exp2(-halves(Duration{observed.value + c.hold.value}, c.half_life)));
  const double rate = c.returned / time;
  const double share = c.ended > 0 ? c.unpaid / c.ended : 0;
  const auto needed = static_cast<double>(units);
  const auto held = static_cast<double>(sale.counters().held.value);
  if (needed * (1 - share) > held * share) return std::nullopt;
  return Duration{std::llround(needed / rate)};
}

}  // namespace fairsale
