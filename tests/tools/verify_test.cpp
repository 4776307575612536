// Honest evidence passes, whatever the sale went through; each lie is found by the check that is
// named for it.
#include "tools/rush/verify.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>

#include "tools/rush/random.hpp"

namespace fairsale::rush {
namespace {

class NoSink final : public DecisionSink {
 public:
  void on(const Decision&) override {}
};

// A sale and a crowd that lives through it and notes what it is told.
class History {
 public:
  struct Options {
    std::uint32_t stock = 10;
    std::uint32_t limit = 3;
    std::uint32_t units = 1;
    std::uint32_t line_limit = 1000;
    LinePolicy policy = LinePolicy::strict;
  };

  explicit History(const Options& o) : options_(o) {
    SaleScheduled e;
    e.sku = *SkuName::from("demo");
    e.terms.stock = Quantity{o.stock};
    e.terms.price = {MinorUnits{1}, Currency{{'E', 'U', 'R'}}};
    e.terms.hold = Duration{1000};
    e.terms.limit_per_customer = Quantity{o.limit};
    e.terms.units_per_purchase = Quantity{o.units};
    e.terms.line_limit = o.line_limit;
    e.terms.line_policy = o.policy;
    apply(e);
  }

  std::size_t attempt(std::uint32_t customer, std::uint32_t quantity) {
    PurchaseAttempted e;
    e.customer = *CustomerId::from("c" + std::to_string(customer));
    e.key.bytes[0] = static_cast<std::uint8_t>(claims.size());
    e.key.bytes[1] = static_cast<std::uint8_t>(claims.size() >> 8);
    e.quantity = Quantity{quantity};
    const Decision d = apply(e);
    Claim c{.customer = customer, .quantity = static_cast<std::uint16_t>(quantity)};
    c.first = d.kind == DecisionKind::reserved  ? First::reserved
              : d.kind == DecisionKind::waiting ? First::waiting
                                                : First::refused;
    c.status =
        static_cast<std::uint16_t>(c.first == First::reserved  ? 201
                                   : c.first == First::waiting ? 202
                                                               : documented_status(d.reason));
    c.reason = d.reason;
    c.place = d.place;
    c.seq = d.purchase.value;
    c.position = c.seq;
    claims.push_back(c);
    return claims.size() - 1;
  }

  void pay(std::size_t i) {
    PaymentReceived e;
    e.purchase = Seq{claims[i].seq};
    e.reference = *PaymentReference::from("p" + std::to_string(i));
    e.amount = {MinorUnits{claims[i].quantity}, Currency{{'E', 'U', 'R'}}};
    const Decision d = apply(e);
    claims[i].payment =
        d.kind == DecisionKind::ordered ? PaymentAnswer::ordered : PaymentAnswer::refund_due;
  }

  void give_up(std::size_t i) {
    const bool offered = status(i) == PurchaseStatus::offered;
    const Decision d = offered ? apply(OfferDeclined{Seq{claims[i].seq}})
                               : apply(PurchaseCancelled{Seq{claims[i].seq}});
    if (d.kind == DecisionKind::refused) return;
    claims[i].cancel = offered ? CancelAnswer::declined : CancelAnswer::cancelled;
  }

  void look(std::size_t i) {
    Claim& c = claims[i];
    if (c.first != First::waiting) return;
    const PurchaseStatus s = status(i);
    if (s == PurchaseStatus::waiting) {
      c.waiting_at = sale.seq().value;
    } else if (c.offered_at == 0 &&
               (s == PurchaseStatus::offered || s == PurchaseStatus::expired ||
                s == PurchaseStatus::ordered || s == PurchaseStatus::declined)) {
      c.offered_at = sale.seq().value;
    }
  }

  void wait(std::int64_t ms) {
    time_.value += ms;
    apply(TimePassed{});
  }

  PurchaseStatus status(std::size_t i) const { return of(i).status; }

  Evidence evidence() {
    observed.clear();
    for (std::size_t i = 0; i < claims.size(); ++i) {
      observed.push_back({Observed::Read::found, of(i).status, of(i).reason, of(i).quantity});
    }
    const Counters& c = sale.counters();
    return {.claims = claims,
            .observed = observed,
            .sale = {.stock = c.stocked.value,
                     .available = c.available.value,
                     .held = c.held.value,
                     .sold = c.sold.value,
                     .waiting = c.waiting,
                     .limit_per_customer = options_.limit,
                     .line_limit = options_.line_limit,
                     .price = 1,
                     .currency = "EUR",
                     .state = "open",
                     .strict = options_.policy == LinePolicy::strict,
                     .position = sale.seq().value},
            .at_rest = true,
            .alone = true};
  }

  Sale sale;
  std::vector<Claim> claims;
  std::vector<Observed> observed;

 private:
  const Purchase& of(std::size_t i) const {
    return sale.purchase(*sale.find_purchase(Seq{claims[i].seq}));
  }
  Decision apply(const Event& e) { return sale.apply(Seq{sale.seq().value + 1}, time_, e, sink_); }

  Options options_;
  Timestamp time_{1000};
  NoSink sink_;
};

// 10 units: 10 reserved, 5 wait; 4 pay, the rest leaves; all who waited are offered a unit.
History usual() {
  History h({});
  for (std::uint32_t i = 0; i < 15; ++i) h.attempt(i, 1);
  for (std::size_t i = 10; i < 15; ++i) h.look(i);
  for (std::size_t i = 0; i < 4; ++i) h.pay(i);
  h.wait(1000);
  for (std::size_t i = 10; i < 13; ++i) h.look(i);
  h.pay(10);
  return h;
}

std::map<std::string, std::uint64_t> found(const Evidence& e) {
  Violations v;
  check_evidence(e, v);
  std::map<std::string, std::uint64_t> counts;
  for (const auto& [check, f] : v.by_check()) {
    if (f.count != 0) counts[check] = f.count;
  }
  return counts;
}

using Counts = std::map<std::string, std::uint64_t>;

TEST(Verify, UsualCoursePasses) {
  History h = usual();
  EXPECT_EQ(found(h.evidence()), Counts{});
}

TEST(Verify, WhateverASaleGoesThroughPasses) {
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    Random random(seed);
    History h({.stock = 1 + static_cast<std::uint32_t>(random.below(20)),
               .limit = 1 + static_cast<std::uint32_t>(random.below(6)),
               .units = 1 + static_cast<std::uint32_t>(random.below(4)),
               .line_limit = static_cast<std::uint32_t>(random.below(30)),
               .policy = random.below(2) == 0 ? LinePolicy::strict : LinePolicy::skip_if_unfit});
    h.attempt(0, 1);
    for (int step = 0; step < 300; ++step) {
      const std::size_t any = random.below(h.claims.size());
      switch (random.below(8)) {
        case 0:
        case 1:
        case 2:
          h.attempt(static_cast<std::uint32_t>(random.below(20)),
                    1 + static_cast<std::uint32_t>(random.below(4)));
          break;
        case 3:
          if (h.claims[any].payment == PaymentAnswer::none) h.pay(any);
          break;
        case 4: h.give_up(any); break;
        case 5: h.wait(static_cast<std::int64_t>(random.below(400))); break;
        default: h.look(any);
      }
    }
    const Evidence e = h.evidence();
    ASSERT_EQ(found(e), Counts{}) << "seed " << seed;
  }
}

TEST(Verify, CountersThatDoNotAddUp) {
  History h = usual();
  Evidence e = h.evidence();
  e.sale.available += 1;
  EXPECT_EQ(found(e), (Counts{{"counters", 1}}));
}

TEST(Verify, MoreSoldThanStock) {
  History h = usual();
  Evidence e = h.evidence();
  e.sale.stock = 4;
  e.sale.available = 4 - e.sale.held - e.sale.sold;
  EXPECT_EQ(found(e).count("counters"), 1U);
}

TEST(Verify, LostPurchase) {
  History h = usual();
  Evidence e = h.evidence();
  h.observed[3].read = Observed::Read::missing;
  EXPECT_EQ(found(e), (Counts{{"kept", 1}, {"tally", 1}}));
}

TEST(Verify, ForgottenPayment) {
  History h = usual();
  Evidence e = h.evidence();
  h.observed[3].status = PurchaseStatus::expired;
  EXPECT_EQ(found(e), (Counts{{"kept", 1}, {"tally", 1}}));
}

TEST(Verify, OrderThatNobodyPaidFor) {
  History h = usual();
  h.claims[2].payment = PaymentAnswer::none;
  EXPECT_EQ(found(h.evidence()), (Counts{{"kept", 1}}));
}

TEST(Verify, PaymentWithoutAnAnswerMayHaveCounted) {
  History h = usual();
  h.claims[2].payment = PaymentAnswer::sent;
  EXPECT_EQ(found(h.evidence()), Counts{});
}

TEST(Verify, RefusalThatTurnedIntoAPurchase) {
  History h({.stock = 1, .line_limit = 0});
  h.attempt(0, 1);
  h.attempt(1, 1);
  Evidence e = h.evidence();
  EXPECT_EQ(found(e), Counts{});
  h.observed[1] = {Observed::Read::found, PurchaseStatus::reserved, Reason::none, 1};
  EXPECT_EQ(found(e).count("kept"), 1U);
}

TEST(Verify, OneIdForTwo) {
  History h = usual();
  h.claims[1].seq = h.claims[0].seq;
  h.claims[1].position = h.claims[0].seq;
  EXPECT_EQ(found(h.evidence()).count("ids"), 1U);
}

TEST(Verify, PositionThatIsNotTheIds) {
  History h = usual();
  h.claims[1].position += 1;
  EXPECT_EQ(found(h.evidence()), (Counts{{"ids", 1}}));
}

TEST(Verify, RefusalWithAnotherStatus) {
  History h({.stock = 1, .limit = 1});
  h.attempt(0, 1);
  h.attempt(0, 1);
  ASSERT_EQ(h.claims[1].reason, Reason::over_limit);
  EXPECT_EQ(found(h.evidence()), Counts{});
  h.claims[1].status = 409;
  EXPECT_EQ(found(h.evidence()), (Counts{{"statuses", 1}}));
}

TEST(Verify, CustomerOverTheLimit) {
  History h = usual();
  for (std::size_t i = 0; i < 4; ++i) h.claims[i].customer = 0;
  EXPECT_EQ(found(h.evidence()), (Counts{{"limits", 1}}));
}

TEST(Verify, PurchasesThatDoNotAddUpToTheSale) {
  History h = usual();
  Evidence e = h.evidence();
  e.sale.sold -= 1;
  e.sale.held += 1;
  EXPECT_EQ(found(e), (Counts{{"tally", 1}}));
  e.at_rest = false;
  EXPECT_EQ(found(e), Counts{});
}

TEST(Verify, PutToWaitWhileUnitsAreFree) {
  History h = usual();
  Evidence e = h.evidence();
  e.sale.stock += 1;
  e.sale.available += 1;
  EXPECT_EQ(found(e), (Counts{{"first_come", 1}}));
  e.alone = false;  // others may have had that unit
  EXPECT_EQ(found(e), Counts{});
}

TEST(Verify, ReservedAtOnceWhileAnotherWaits) {
  History h = usual();
  // A late attempt is told "reserved" although 13 and 14 were seen to wait after it came.
  h.claims[14].first = First::reserved;
  h.claims[14].status = 201;
  h.claims[14].offered_at = 0;
  EXPECT_EQ(found(h.evidence()).count("no_passing"), 1U);
}

TEST(Verify, OfferedBeforeWhoStoodInFront) {
  History h = usual();
  h.claims[11].waiting_at = h.claims[12].offered_at;  // 11 waited still when 12 had an offer
  EXPECT_EQ(found(h.evidence()), (Counts{{"line_order", 1}}));
}

TEST(Verify, PassedOverToTheEnd) {
  History h = usual();
  Evidence e = h.evidence();
  ASSERT_EQ(h.observed[11].status, PurchaseStatus::offered);
  h.claims[11].offered_at = 0;
  h.observed[11] = {Observed::Read::found, PurchaseStatus::released, Reason::sold_out, 1};
  EXPECT_EQ(found(e).at("line_order"), 3U);  // 12, 13 and 14 came after it
}

TEST(Verify, ReservedAfterSoldOut) {
  History h({.stock = 1});
  h.attempt(0, 1);
  h.pay(0);
  h.attempt(1, 1);
  ASSERT_EQ(h.claims[1].reason, Reason::sold_out);
  EXPECT_EQ(found(h.evidence()), Counts{});
  h.attempt(2, 1);
  h.claims[2].first = First::reserved;
  h.claims[2].status = 201;
  EXPECT_EQ(found(h.evidence()).count("first_come"), 1U);
}

TEST(Verify, LineFullBeforeItIs) {
  History h({.stock = 1, .line_limit = 1});
  h.attempt(0, 1);
  h.attempt(1, 1);
  h.attempt(2, 1);
  ASSERT_EQ(h.claims[2].reason, Reason::line_full);
  EXPECT_EQ(found(h.evidence()), Counts{});
  Evidence e = h.evidence();
  e.sale.line_limit = 2;
  EXPECT_EQ(found(e), (Counts{{"first_come", 1}}));
}

TEST(Verify, PlaceBehindMoreThanJoined) {
  History h = usual();
  h.claims[10].place = 2;
  EXPECT_EQ(found(h.evidence()), (Counts{{"places", 1}}));
  h.claims[10].place = 0;
  EXPECT_EQ(found(h.evidence()), (Counts{{"places", 1}}));
}

TEST(Verify, WhatCannotBeProvenIsNotHeldAgainstTheServer) {
  History h = usual();
  h.claims[0].first = First::none;  // one answer never came
  Evidence e = h.evidence();
  e.sale.stock += 1;
  e.sale.available += 1;
  EXPECT_EQ(found(e), Counts{});
}

TEST(Violations, KeepsTheFirstAndCountsAll) {
  Violations v;
  for (int i = 0; i < 1000; ++i) v.add("kept", std::to_string(i));
  v.ran("ids");
  EXPECT_EQ(v.total(), 1000U);
  EXPECT_FALSE(v.none());
  EXPECT_EQ(v.by_check().at("kept").count, 1000U);
  EXPECT_EQ(v.by_check().at("kept").first.size(), 10U);
  EXPECT_EQ(v.by_check().at("ids").count, 0U);
}

}  // namespace
}  // namespace fairsale::rush
