// The same arrivals under other terms.
#include "tools/what_if/what_if.hpp"

#include <gtest/gtest.h>

#include "tests/engine/shop.hpp"

namespace fairsale::cli {
namespace {

using test::attempt;
using test::scheduled;
using test::Shop;

struct WhatIfs : ::testing::Test {
  Seq happen(const Event& event) {
    shop.now("a", event);
    return shop.sequencer.head(sku_id("a"))->seq;
  }
  Seq buy(std::string_view customer, std::uint32_t quantity = 1) {
    return happen(attempt(customer, "k", quantity));
  }
  void pay(Seq purchase) {
    happen(PaymentReceived{purchase,
                           *PaymentReference::from(fmt::format("p{}", ++payments)),
                           {MinorUnits{1000}, Currency{{'E', 'U', 'R'}}}});
  }
  WhatIf under(const Overrides& overrides, std::size_t list = 10) {
    const auto w = what_if(log, {sku_id("a"), *shop.sequencer.head(sku_id("a"))}, overrides, list);
    EXPECT_TRUE(w) << w.error().message;
    return *w;
  }
  static std::uint64_t refused(const Outcome& o, Reason r) {
    return o.refused[static_cast<std::size_t>(r)];
  }

  MemoryLog log;
  Shop shop{log};
  int payments = 0;
};

TEST_F(WhatIfs, UnderTheSameTermsNothingDiffers) {
  happen(scheduled("a", 2));
  const Seq anna = buy("anna");
  buy("bert");
  const Seq carl = buy("carl");
  pay(anna);
  happen(PurchaseCancelled{carl});
  shop.clock.advance(Duration{60'000});
  happen(TimePassed{});
  const WhatIf w = under({});
  EXPECT_EQ(w.held.gained, Tally{});
  EXPECT_EQ(w.held.lost, Tally{});
  EXPECT_EQ(w.ordered.gained, Tally{});
  EXPECT_EQ(w.ordered.lost, Tally{});
  EXPECT_EQ(w.real.attempts, 3u);
  EXPECT_EQ(w.real.reserved, (Tally{2, 2}));
  EXPECT_EQ(w.real.waited, (Tally{1, 1}));
  EXPECT_EQ(w.real.given_up, (Tally{1, 1}));
  EXPECT_EQ(w.real.expired, (Tally{1, 1}));
  EXPECT_EQ(w.real.ordered, (Tally{1, 1}));
  EXPECT_EQ(w.real.revenue, 1000);
  EXPECT_EQ(w.real.counters, w.other.counters);
  EXPECT_EQ(w.real.reserved, w.other.reserved);
  EXPECT_EQ(w.real.refused, w.other.refused);
}

TEST_F(WhatIfs, LessStockLosesTheLastWinners) {
  happen(scheduled("a", 2));
  const Seq anna = buy("anna");
  const Seq bert = buy("bert");
  pay(anna);
  pay(bert);
  buy("carl");  // sold out
  const WhatIf w = under({.stock = Quantity{1}});
  EXPECT_EQ(w.ordered.lost, (Tally{1, 1}));
  EXPECT_EQ(w.ordered.first_lost, std::vector{bert});
  EXPECT_EQ(w.ordered.gained, Tally{});
  EXPECT_EQ(w.other.refunds_due, 1u) << "bert's payment bought nothing";
  EXPECT_EQ(w.other.revenue, 1000);
  EXPECT_EQ(w.other.waited, (Tally{1, 1})) << "bert waited until anna had paid";
  EXPECT_EQ(refused(w.real, Reason::sold_out), 1u);
  EXPECT_EQ(refused(w.other, Reason::sold_out), 1u);
  ASSERT_TRUE(w.real.sold_out);
  ASSERT_TRUE(w.other.sold_out);
  EXPECT_LE(*w.other.sold_out, *w.real.sold_out);
}

TEST_F(WhatIfs, MoreStockGivesAChanceToWhoNeverPaid) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  pay(anna);
  const Seq bert = buy("bert");
  shop.clock.advance(Duration{60'000});
  happen(TimePassed{});
  const WhatIf w = under({.stock = Quantity{5}});
  EXPECT_EQ(w.held.gained, (Tally{1, 1}));
  EXPECT_EQ(w.held.first_gained, std::vector{bert});
  EXPECT_EQ(w.ordered.gained, Tally{});
  EXPECT_EQ(w.other.expired, (Tally{1, 1}));
  EXPECT_TRUE(w.real.sold_out);
  EXPECT_FALSE(w.other.sold_out);
  EXPECT_FALSE(w.other.all_taken);
  EXPECT_EQ(w.other.counters.available, Quantity{4});
}

TEST_F(WhatIfs, AShorterHoldExpiresWhatWasPaidLater) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  buy("bert");
  shop.clock.advance(Duration{30'000});
  pay(anna);
  const WhatIf w = under({.hold = Duration{10'000}});
  EXPECT_EQ(w.other.expired, (Tally{1, 1}));
  EXPECT_EQ(w.other.offered, (Tally{1, 1}));
  EXPECT_EQ(w.ordered.lost, (Tally{1, 1}));
  EXPECT_EQ(w.other.refunds_due, 1u);
  EXPECT_EQ(w.held.gained, (Tally{1, 1}));
}

TEST_F(WhatIfs, LimitsRefuseOtherAttempts) {
  auto sale = scheduled("a", 4);
  happen(sale);
  buy("anna", 2);
  buy("bert");
  happen(attempt("bert", "k2"));
  buy("carl");  // waits
  const WhatIf one = under({.units_per_purchase = Quantity{1}});
  EXPECT_EQ(refused(one.other, Reason::quantity_invalid), 1u);
  EXPECT_EQ(one.held.gained, (Tally{1, 1}));
  EXPECT_EQ(one.held.lost, (Tally{1, 2}));
  const WhatIf limit = under({.limit_per_customer = Quantity{1}});
  EXPECT_EQ(refused(limit.other, Reason::over_limit), 2u);
  const WhatIf line = under({.line_limit = 0});
  EXPECT_EQ(refused(line.other, Reason::line_full), 1u);
  EXPECT_EQ(line.other.waited, Tally{});
}

TEST_F(WhatIfs, AnotherLinePolicyLetsTheSmallerPass) {
  happen(scheduled("a", 2));
  buy("anna");
  buy("bert", 2);  // does not fit
  const Seq carl = buy("carl");
  const WhatIf w = under({.line_policy = LinePolicy::skip_if_unfit});
  EXPECT_EQ(w.held.first_gained, std::vector{carl});
}

TEST_F(WhatIfs, TheOverrideWinsOverTheOperatorsChanges) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  pay(anna);
  happen(StockAdjusted{Quantity{3}, *Actor::from("olga"), *Why::from("more")});
  auto changed = test::terms(3);
  changed.line_limit = 7;
  happen(SaleChanged{changed, *Actor::from("olga"), *Why::from("PUT")});
  buy("bert");
  const WhatIf stock = under({.stock = Quantity{1}});
  EXPECT_EQ(stock.real.counters.stocked, Quantity{3});
  EXPECT_EQ(stock.other.counters.stocked, Quantity{1});
  EXPECT_EQ(stock.other.terms.line_limit, 7u) << "what is not overridden changes as it did";
  EXPECT_EQ(stock.other.operator_refused, 0u);
  EXPECT_EQ(refused(stock.other, Reason::sold_out), 1u);
  const WhatIf line = under({.line_limit = 5});
  EXPECT_EQ(line.other.terms.line_limit, 5u);
}

// A refund that writes off happens only where there is an order; the change after it leaves the
// stock as it is in either sale.
TEST_F(WhatIfs, AChangeThatLeftTheStockAloneDoesSoInTheOtherSale) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  buy("bert");
  shop.clock.advance(Duration{30'000});
  pay(anna);  // with a shorter hold, bert has the unit by then
  happen(OrderRefunded{anna, false, *Actor::from("olga"), *Why::from("lost")});
  auto changed = test::terms(0);
  changed.line_limit = 7;
  happen(SaleChanged{changed, *Actor::from("olga"), *Why::from("PUT")});
  const WhatIf w = under({.hold = Duration{10'000}});
  EXPECT_EQ(w.real.counters.stocked, Quantity{0});
  EXPECT_EQ(w.other.counters.stocked, Quantity{1});
  EXPECT_EQ(w.real.terms.line_limit, 7u);
  EXPECT_EQ(w.other.terms.line_limit, 7u);
  EXPECT_EQ(w.other.operator_refused, 0u);
}

TEST_F(WhatIfs, WhoDeclinedAnOfferCancelsWhereThereIsNone) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  const Seq bert = buy("bert");
  happen(PurchaseCancelled{anna});
  happen(OfferDeclined{bert});
  const WhatIf w = under({.stock = Quantity{2}});
  EXPECT_EQ(w.other.given_up, (Tally{2, 2}));
  EXPECT_EQ(w.other.counters.available, Quantity{2});
}

TEST_F(WhatIfs, ListsAreBoundedAndTheStoreIsLeftAlone) {
  happen(scheduled("a", 1));
  for (int i = 0; i < 20; ++i) buy(fmt::format("c{}", i));
  const Head before = log.heads()->front().head;
  const WhatIf w = under({.stock = Quantity{20}}, 3);
  EXPECT_EQ(w.held.gained, (Tally{19, 19}));
  EXPECT_EQ(w.held.first_gained.size(), 3u);
  EXPECT_EQ(log.heads()->front().head, before);
}

TEST_F(WhatIfs, TermsThatNoSaleCanBeHeldUnderAreRefused) {
  happen(scheduled("a", 1));
  const auto w =
      what_if(log, {sku_id("a"), *shop.sequencer.head(sku_id("a"))}, {.hold = Duration{0}}, 0);
  ASSERT_FALSE(w);
  EXPECT_EQ(w.error().fault, Fault::invalid);
}

}  // namespace
}  // namespace fairsale::cli
