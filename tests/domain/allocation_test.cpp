// A warm sale decides without allocating. Every allocation of this program is counted.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <new>
#include <vector>

#include "core/domain/sale.hpp"

namespace {

std::size_t allocations = 0;

void* counted(std::size_t n) {
  ++allocations;
  if (void* p = std::malloc(n)) return p;
  std::abort();
}

}  // namespace

void* operator new(std::size_t n) { return counted(n); }
void* operator new[](std::size_t n) { return counted(n); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }

namespace fairsale {
namespace {

// Counts what it hears by kind, in place.
class Tally final : public DecisionSink {
 public:
  void on(const Decision& d) override { ++of[static_cast<std::size_t>(d.kind)]; }
  std::size_t heard(DecisionKind k) const { return of[static_cast<std::size_t>(k)]; }
  std::array<std::size_t, 32> of{};
};

class Script {
 public:
  explicit Script(std::size_t room) {
    sale_.reserve(room);
    const Terms terms{.stock = Quantity{3'000},
                      .price = Money{MinorUnits{100}, Currency{{'E', 'U', 'R'}}},
                      .starts_at = Timestamp{1},
                      .hold = Duration{2'000},
                      .limit_per_customer = Quantity{3},
                      .units_per_purchase = Quantity{3},
                      .line_limit = 20'000,
                      .line_policy = LinePolicy::skip_if_unfit};
    send(SaleScheduled{*SkuName::from("demo"), kRulesV1, terms, {}});
  }

  // One of everything that shoppers and the shop do, about a moving window of purchases.
  void decide(std::size_t i) {
    const auto purchase = [&](std::size_t back) {
      return Seq{sale_.seq().value > back ? sale_.seq().value - back : 0};
    };
    switch (i % 10) {
      case 7: at_.value += 5; [[fallthrough]];
      case 0:
      case 1:
      case 2: attempt(i, i); break;
      case 3: attempt(i - 2, i - 2); break;  // again, word for word
      case 4: send(PurchaseCancelled{purchase(2)}); break;
      case 5: {
        PaymentReceived e{
            purchase(i % 50 == 5 ? 5 : 4), {}, Money{MinorUnits{100}, Currency{{'E', 'U', 'R'}}}};
        e.amount.amount.value *= static_cast<std::int64_t>(1 + (i - 5) % 3);
        e.reference = *PaymentReference::from("ref");
        send(e);
        break;
      }
      case 6: send(PaymentFailed{purchase(3), *PaymentReference::from("ref")}); break;
      case 8: send(OfferDeclined{purchase(1'000)}); break;
      case 9:
        if (i % 100 == 99) {
          send(TimePassed{});
        } else {
          send(OrderRefunded{purchase(8), true, {}, {}});
        }
        break;
    }
  }

  const Sale& sale() const { return sale_; }
  Tally tally;

 private:
  void attempt(std::size_t who, std::size_t key) {
    std::array<char, 40> name{"customer-with-a-name-of-usual-length-"};
    for (std::size_t d = 0, n = who; d < 8; ++d, n /= 10) {
      name[30 - d] = static_cast<char>('0' + n % 10);
    }
    PurchaseAttempted e;
    e.customer = *CustomerId::from({name.data(), 36});
    std::memcpy(e.key.bytes.data(), &key, sizeof key);
    e.quantity = Quantity{static_cast<std::uint32_t>(1 + who % 3)};
    send(e);
  }

  void send(const Event& e) { sale_.apply(Seq{sale_.seq().value + 1}, at_, e, tally); }

  Sale sale_;
  Timestamp at_{1};
};

TEST(Allocation, AHundredThousandMixedDecisionsAllocateNothing) {
  Script script(110'000);
  for (std::size_t i = 0; i < 1'000; ++i) script.decide(i);

  const std::size_t before = allocations;
  for (std::size_t i = 1'000; i < 101'000; ++i) script.decide(i);
  EXPECT_EQ(allocations - before, 0u);

  // The mix is one: everything that can happen often did.
  for (const auto kind : {DecisionKind::reserved, DecisionKind::waiting, DecisionKind::offered,
                          DecisionKind::expired, DecisionKind::cancelled, DecisionKind::declined,
                          DecisionKind::ordered, DecisionKind::refund_due, DecisionKind::refunded,
                          DecisionKind::refused, DecisionKind::payment_failure_noted}) {
    EXPECT_GT(script.tally.heard(kind), 100u) << name_of(kind);
  }
  EXPECT_FALSE(script.sale().check());
}

// Without room made beforehand memory grows by doubling: a few allocations, however many purchases.
TEST(Allocation, GrowthIsByDoubling) {
  Script script(0);
  const std::size_t before = allocations;
  for (std::size_t i = 0; i < 100'000; ++i) script.decide(i);
  EXPECT_LT(allocations - before, 150u);
}

TEST(Allocation, TheCountCounts) {
  const std::size_t before = allocations;
  const std::vector<int> v(100);
  EXPECT_EQ(allocations - before, 1u);
}

}  // namespace
}  // namespace fairsale
