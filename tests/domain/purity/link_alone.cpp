// Sells one unit with nothing linked but the domain library: no test framework, no other library.
#include "core/domain/sale.hpp"

namespace {

using namespace fairsale;

class Silence final : public DecisionSink {
 public:
  void on(const Decision&) override {}
};

class Count final : public ByteSink {
 public:
  void write(std::span<const std::byte> part) override { bytes += part.size(); }
  std::size_t bytes = 0;
};

class Nothing final : public ByteSource {
 public:
  std::span<const std::byte> next() override { return {}; }
};

}  // namespace

int main() {
  const Terms terms{.stock = Quantity{1},
                    .price = Money{MinorUnits{100}, Currency{{'E', 'U', 'R'}}},
                    .starts_at = Timestamp{1},
                    .hold = Duration{10},
                    .limit_per_customer = Quantity{1},
                    .units_per_purchase = Quantity{1}};
  Sale sale;
  Silence silence;
  sale.apply(Seq{1}, Timestamp{1}, SaleScheduled{*SkuName::from("demo"), kRulesV1, terms, {}},
             silence);
  sale.apply(Seq{2}, Timestamp{1},
             PurchaseAttempted{*CustomerId::from("A"), IdempotencyKey{}, Quantity{1}}, silence);
  const Decision d =
      sale.apply(Seq{3}, Timestamp{2},
                 PaymentReceived{Seq{2}, *PaymentReference::from("r"), terms.price}, silence);
  Count count;
  sale.serialize(count);
  Nothing nothing;
  const bool sold = d.kind == DecisionKind::ordered && sale.counters().sold == Quantity{1};
  return sold && !sale.check() && count.bytes > 0 && !Sale::restore(nothing) ? 0 : 1;
}
