// Why a purchase went as it did, told from the log.
#include "core/explain/explain.hpp"

#include <set>

#include "tests/engine/shop.hpp"

namespace fairsale::test {
namespace {

struct Explained : ::testing::Test {
  Seq happen(const Event& event) {
    shop.now("a", event);
    return shop.sequencer.head(sku_id("a"))->seq;
  }
  Seq buy(std::string_view customer, std::string_view key = "k", std::uint32_t quantity = 1) {
    return happen(attempt(customer, key, quantity));
  }
  Seq pay(Seq purchase, std::int64_t amount = 1000) {
    return happen(PaymentReceived{purchase,
                                  *PaymentReference::from(fmt::format("p{}", ++payments)),
                                  {MinorUnits{amount}, Currency{{'E', 'U', 'R'}}}});
  }
  void after(std::int64_t ms) { shop.clock.advance(Duration{ms}); }

  SkuHead head() { return {sku_id("a"), *shop.sequencer.head(sku_id("a"))}; }
  Result<Explanation> of(Seq purchase, bool names = false) {
    return explain(log, head(), {.purchase = purchase, .names = names});
  }
  Story story(Seq purchase) {
    auto e = of(purchase);
    EXPECT_TRUE(e) << e.error().message;
    EXPECT_EQ(e->stories.size(), 1u);
    return e->stories.at(0);
  }
  static std::vector<DecisionKind> kinds(const Story& s) {
    std::vector<DecisionKind> all;
    for (const Step& step : s.steps) all.push_back(step.decision);
    return all;
  }
  static Tally became(const Story& s, PurchaseStatus status) {
    return s.ahead->became[static_cast<std::size_t>(status)];
  }

  MemoryLog log;
  MemoryLog forged;
  Shop shop{log};
  int payments = 0;
};

using K = DecisionKind;

TEST_F(Explained, WhoBoughtAtOnceHasAShortStory) {
  happen(scheduled("a", 2));
  const Seq anna = buy("anna");
  pay(anna);
  const Story s = story(anna);
  EXPECT_EQ(s.status, PurchaseStatus::ordered);
  EXPECT_EQ(kinds(s), (std::vector{K::reserved, K::ordered}));
  EXPECT_EQ(s.before.available, Quantity{2});
  EXPECT_FALSE(s.ahead);
  EXPECT_FALSE(s.afterwards);
  EXPECT_EQ(outcome_of(s), "It got its units: they were held for it at once, and it paid.");
}

TEST_F(Explained, WhoWaitedInVainLearnsWhoWasAheadAndHowNearItCame) {
  happen(scheduled("a", 3));
  const Seq anna = buy("anna");
  const Seq bert = buy("bert");
  const Seq carl = buy("carl");
  const Seq dora = buy("dora");  // 1st in line
  const Seq emil = buy("emil");  // 2nd
  const Seq fred = buy("fred");  // 3rd: it is about him
  buy("gina");                   // 4th, behind him
  pay(anna);
  happen(PurchaseCancelled{bert});  // offered to dora; fred is 2nd
  happen(PurchaseCancelled{emil});  // fred is 1st
  pay(dora);
  pay(carl);  // sold out: the line is released
  const Story s = story(fred);
  EXPECT_EQ(s.status, PurchaseStatus::released);
  EXPECT_EQ(s.reason, Reason::sold_out);
  EXPECT_EQ(s.first_place, 3u);
  EXPECT_EQ(s.best_place, 1u);
  EXPECT_EQ(s.before, (Counters{Quantity{3}, Quantity{0}, Quantity{3}, Quantity{0}, 2}));
  ASSERT_TRUE(s.ahead);
  EXPECT_EQ(s.ahead->waiting, (Tally{2, 2}));
  EXPECT_EQ(s.ahead->holding, (Tally{3, 3}));
  EXPECT_EQ(s.ahead->ordered, Tally{});
  EXPECT_EQ(became(s, PurchaseStatus::ordered), (Tally{3, 3}));
  EXPECT_EQ(became(s, PurchaseStatus::cancelled), (Tally{2, 2}));
  ASSERT_EQ(s.ahead->nearest.size(), 5u);
  EXPECT_EQ(s.ahead->nearest.back().purchase, emil);
  EXPECT_EQ(s.ahead->nearest.back().then, PurchaseStatus::waiting);
  EXPECT_EQ(s.ahead->nearest.back().now, PurchaseStatus::cancelled);
  EXPECT_EQ(s.overtaken_by, Tally{});
  EXPECT_EQ(kinds(s), (std::vector{K::waiting, K::released}));
}

TEST_F(Explained, AReleasedLineDoesNotMoveUp) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  buy("bert");
  buy("carl");
  const Seq dora = buy("dora");
  pay(anna);
  const Story s = story(dora);
  EXPECT_EQ(s.best_place, 3u);
  EXPECT_EQ(s.reason, Reason::sold_out);
}

TEST_F(Explained, WhatCameBackAfterwardsIsTold) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  pay(anna);
  const Seq bert = buy("bert");  // refused: sold out
  happen(OrderRefunded{anna, true, *Actor::from("olga"), *Why::from("returned")});
  const Seq refund = head().head.seq;
  const Seq carl = buy("carl");
  pay(carl);
  const Story s = story(bert);
  EXPECT_EQ(s.reason, Reason::sold_out);
  ASSERT_TRUE(s.ahead);
  EXPECT_EQ(s.ahead->ordered, (Tally{1, 1}));
  EXPECT_EQ(became(s, PurchaseStatus::refunded), (Tally{1, 1}));
  ASSERT_TRUE(s.afterwards);
  EXPECT_EQ(s.afterwards->since, bert);
  EXPECT_EQ(s.afterwards->came_back, (Tally{1, 1}));
  EXPECT_EQ(s.afterwards->served, (Tally{1, 1}));
  EXPECT_EQ(s.afterwards->chance, refund);
  EXPECT_EQ(story(carl).status, PurchaseStatus::ordered);
}

TEST_F(Explained, AWriteOffBringsNothingBackAndMoreStockDoes) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  pay(anna);
  const Seq bert = buy("bert");
  happen(OrderRefunded{anna, false, *Actor::from("olga"), *Why::from("lost")});
  EXPECT_EQ(story(bert).afterwards->came_back, Tally{});
  EXPECT_FALSE(story(bert).afterwards->chance);
  const Seq more = happen(StockAdjusted{Quantity{5}, *Actor::from("olga"), *Why::from("found")});
  EXPECT_EQ(story(bert).afterwards->stock_added, 5u);
  EXPECT_EQ(story(bert).afterwards->chance, more);
}

// What was free then belonged to the line, and who left the line gave no units back.
TEST_F(Explained, AnotherAttemptHasNoChanceBehindALine) {
  auto sale = scheduled("a", 2);
  sale.terms.line_limit = 1;
  happen(sale);
  const Seq anna = buy("anna");
  const Seq bert = buy("bert");
  const Seq carl = buy("carl", "k", 2);  // waits for both
  const Seq dora = buy("dora");          // the line is full
  EXPECT_EQ(story(dora).reason, Reason::line_full);
  happen(PurchaseCancelled{anna});  // one is free, and carl wants two
  EXPECT_EQ(story(dora).afterwards->came_back, (Tally{1, 1}));
  EXPECT_FALSE(story(dora).afterwards->chance);
  const Seq left = happen(PurchaseCancelled{carl});
  EXPECT_EQ(story(dora).afterwards->came_back, (Tally{1, 1}));
  EXPECT_EQ(story(dora).afterwards->chance, left);
  EXPECT_EQ(story(bert).status, PurchaseStatus::reserved);
}

// An expiry is folded in with the next arrival, which may take what it freed in the same event.
TEST_F(Explained, AnotherAttemptHasItsChanceBeforeTheOneThatTookIt) {
  auto sale = scheduled("a", 1);
  sale.terms.line_limit = 0;
  happen(sale);
  buy("ben");
  const Seq anna = buy("anna");
  EXPECT_EQ(story(anna).reason, Reason::line_full);
  after(60'000);
  const Seq carl = buy("carl");  // ben's hold has run out
  EXPECT_EQ(story(carl).status, PurchaseStatus::reserved);
  const Story s = story(anna);
  ASSERT_TRUE(s.afterwards);
  EXPECT_EQ(s.afterwards->chance, Seq{carl.value - 1});
  EXPECT_EQ(s.afterwards->chance_at, story(carl).at);
  EXPECT_EQ(text_of(*of(anna)).find("At no moment"), std::string::npos);
  // Carl himself had none: he got the unit.
  EXPECT_FALSE(story(carl).afterwards);
}

TEST_F(Explained, WhoCameTooEarlyHadItsChanceWhenTheFirstAttemptOpenedTheSale) {
  auto sale = scheduled("a", 1);
  sale.terms.starts_at = kOpening + Duration{10'000};
  happen(sale);
  const Seq anna = buy("anna");
  EXPECT_EQ(story(anna).reason, Reason::not_started);
  EXPECT_FALSE(story(anna).afterwards->chance);
  after(10'000);
  const Seq carl = buy("carl");  // opens the sale and takes all
  EXPECT_EQ(story(anna).afterwards->chance, Seq{carl.value - 1});
}

TEST_F(Explained, ThereIsAChanceBeforeAPauseThatComesWithAnExpiry) {
  auto sale = scheduled("a", 1);
  sale.terms.line_limit = 0;
  happen(sale);
  buy("ben");
  const Seq anna = buy("anna");
  after(60'000);
  const Seq pause = happen(SalePaused{.actor = *Actor::from("olga"), .why = *Why::from("stop")});
  EXPECT_EQ(story(anna).afterwards->chance, Seq{pause.value - 1});
}

// What an expiry frees goes to the line first: nobody else could have had it in between.
TEST_F(Explained, ThereIsNoChanceBetweenAnExpiryAndTheOfferThatFollows) {
  auto sale = scheduled("a", 1);
  sale.terms.line_limit = 1;
  happen(sale);
  buy("ben");
  buy("dora");  // waits
  const Seq anna = buy("anna");
  EXPECT_EQ(story(anna).reason, Reason::line_full);
  after(60'000);
  buy("carl");
  EXPECT_FALSE(story(anna).afterwards->chance);
}

TEST_F(Explained, NamesAreQuotedWhereTheyCouldFakeALine) {
  happen(scheduled("a", 1));
  buy("ben\n  x\x1b[2J");
  const Seq anna = buy("anna=b");
  const std::string text = text_of(*of(anna, true));
  EXPECT_NE(text.find(R"( "ben\n  x\u001b[2J"  )"), std::string::npos) << text;
  EXPECT_NE(text.find(R"( "anna=b"  )"), std::string::npos) << text;
}

TEST_F(Explained, WhetherTheEndIsProvisionalIsToldWhenItIsKnown) {
  happen(scheduled("a", 1));
  auto e = of(buy("anna"));
  const auto json = [&] {
    std::string out;
    append_json(out, *e);
    return out;
  };
  EXPECT_EQ(json().find("provisional"), std::string::npos);
  e->provisional = false;
  EXPECT_NE(json().find(R"("provisional":false)"), std::string::npos);
  EXPECT_EQ(text_of(*e).find("provisional"), std::string::npos);
  e->provisional = true;
  EXPECT_NE(json().find(R"("provisional":true)"), std::string::npos);
  EXPECT_NE(text_of(*e).find("(provisional)\n"), std::string::npos);
}

TEST_F(Explained, WhoPaidTooLateLearnsTheDeadline) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  const Seq bert = buy("bert");
  after(60'000);
  pay(anna);  // its hold has run out and bert has got the offer
  const Story s = story(anna);
  EXPECT_EQ(kinds(s), (std::vector{K::reserved, K::expired, K::refund_due}));
  EXPECT_EQ(s.steps.back().reason, Reason::hold_expired);
  EXPECT_EQ(s.status, PurchaseStatus::expired);
  EXPECT_EQ(s.afterwards->served, (Tally{1, 1}));
  EXPECT_EQ(kinds(story(bert)), (std::vector{K::waiting, K::offered}));
  EXPECT_EQ(story(bert).best_place, 1u);
}

TEST_F(Explained, ALatePaymentThatIsHonouredLeavesNothingToRegret) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  after(60'000);
  happen(TimePassed{});
  EXPECT_TRUE(story(anna).afterwards);
  pay(anna);
  EXPECT_FALSE(story(anna).afterwards);
  EXPECT_EQ(story(anna).status, PurchaseStatus::ordered);
}

TEST_F(Explained, WhoAskedForMoreIsOvertakenUnderSkipIfUnfitOnly) {
  auto sale = scheduled("a", 2);
  sale.terms.line_policy = LinePolicy::skip_if_unfit;
  happen(sale);
  buy("anna");
  const Seq bert = buy("bert", "k", 2);  // one is free, two are wanted
  const Seq carl = buy("carl");          // takes the one that is free
  const Story s = story(bert);
  EXPECT_EQ(s.status, PurchaseStatus::waiting);
  EXPECT_EQ(s.overtaken_by, (Tally{1, 1}));
  EXPECT_EQ(story(carl).status, PurchaseStatus::reserved);
}

TEST_F(Explained, WhatTheOperatorDidMeanwhileBelongsToTheStory) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  const Seq bert = buy("bert");
  happen(SalePaused{*Actor::from("olga"), *Why::from("fire alarm")});
  happen(PurchaseCancelled{anna});
  happen(SaleClosed{*Actor::from("olga"), *Why::from("fire")});
  const Story s = story(bert);
  EXPECT_EQ(kinds(s), (std::vector{K::waiting, K::paused, K::closed, K::released}));
  EXPECT_FALSE(s.steps[1].own);
  EXPECT_EQ(s.reason, Reason::closed);
}

TEST_F(Explained, ACustomerIsToldOfAllAttemptsAndTheirRetries) {
  happen(scheduled("a", 1));
  const Seq first = buy("anna", "k1");
  buy("bert");
  buy("anna", "k1");     // a retry
  buy("anna", "k1", 2);  // the same key for something else
  const Seq second = buy("anna", "k2");
  const Seq third = buy("anna", "k3");
  const auto e = explain(log, head(), {.customer = *CustomerId::from("anna"), .names = true});
  ASSERT_TRUE(e) << e.error().message;
  ASSERT_EQ(e->stories.size(), 3u);
  EXPECT_EQ(e->stories[0].attempt, first);
  EXPECT_EQ(e->stories[0].customer, "anna");
  ASSERT_EQ(e->stories[0].steps.size(), 3u);
  EXPECT_TRUE(e->stories[0].steps[1].repeated);
  EXPECT_EQ(e->stories[0].steps[2].reason, Reason::key_reused);
  EXPECT_EQ(e->stories[1].attempt, second);
  EXPECT_EQ(e->stories[1].status, PurchaseStatus::waiting);
  EXPECT_EQ(e->stories[2].attempt, third);
  EXPECT_EQ(e->stories[2].reason, Reason::over_limit);
  EXPECT_FALSE(e->stories[2].ahead) << "nobody else had to do with that";

  const auto nobody = explain(log, head(), {.customer = *CustomerId::from("zoe")});
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().fault, Fault::not_found);
}

TEST_F(Explained, CustomersAreNamedOnlyWhenAskedFor) {
  happen(scheduled("a", 1));
  buy("anna");
  const Seq bert = buy("bert");
  EXPECT_EQ(text_of(*of(bert)).find("anna"), std::string::npos);
  EXPECT_EQ(text_of(*of(bert)).find("bert"), std::string::npos);
  const std::string named = text_of(*of(bert, true));
  EXPECT_NE(named.find("anna"), std::string::npos);
  EXPECT_NE(named.find("bert"), std::string::npos);
  std::string json;
  append_json(json, *of(bert));
  EXPECT_EQ(json.find("anna"), std::string::npos);
}

TEST_F(Explained, AnotherPositionIsRefusedWithWhatIsThere) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  const Seq retry = buy("anna");
  const Seq paid = pay(anna);
  const Seq reused = buy("anna", "k", 2);
  const auto wrong = [&](Seq seq) {
    const auto e = of(seq);
    EXPECT_FALSE(e);
    return e ? "" : e.error().message;
  };
  EXPECT_EQ(wrong(Seq{1}), "position 1: no purchase was attempted there: it is a SaleScheduled");
  EXPECT_NE(wrong(paid).find("PaymentReceived about the purchase of position 2"),
            std::string::npos);
  EXPECT_NE(wrong(retry).find("retry of the purchase of position 2"), std::string::npos);
  EXPECT_NE(wrong(Seq{6}).find("positions 1 to 5"), std::string::npos);
  EXPECT_NE(wrong(Seq{0}).find("positions 1 to 5"), std::string::npos);
  const Story s = story(reused);
  EXPECT_FALSE(s.is_purchase);
  EXPECT_EQ(s.reason, Reason::key_reused);
}

TEST_F(Explained, FromASnapshotTheStoryIsTheSame) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  buy("bert");
  const Seq carl = buy("carl");
  happen(PurchaseCancelled{anna});
  const auto text = [&] { return text_of(*of(carl)); };
  const std::string from_start = text();
  const auto at_3 = fold(log, head(), FoldFrom::start, nullptr, Seq{3});
  ASSERT_TRUE(log.put_snapshot(sku_id("a"), at_3->head, at_3->sale));
  EXPECT_EQ(text(), from_start);
}

// A snapshot vouches only for itself: here one of a sale in which anna's unit was carl's to have.
TEST_F(Explained, FromTheStartNoSnapshotIsBelieved) {
  happen(scheduled("a", 1));
  buy("anna");
  buy("bert");
  const auto at_3 = fold(log, head(), FoldFrom::start, nullptr, Seq{3});
  Shop other(forged);
  other.now("a", scheduled("a", 5));
  other.now("a", attempt("anna", "k"));
  other.now("a", attempt("bert", "k"));
  ASSERT_TRUE(log.put_snapshot(sku_id("a"), at_3->head, *other.sequencer.find(sku_id("a"))));
  const Seq carl = buy("carl");
  EXPECT_EQ(story(carl).status, PurchaseStatus::reserved) << "the snapshot is taken at its word";
  const auto e = explain(log, head(), {.purchase = carl, .names = false, .from = FoldFrom::start});
  ASSERT_TRUE(e) << e.error().message;
  EXPECT_EQ(e->stories.at(0).status, PurchaseStatus::waiting);
}

TEST_F(Explained, StepsAndStoriesAreBounded) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  for (std::size_t i = 0; i < kMaxSteps + 5; ++i) buy("anna");
  EXPECT_EQ(story(anna).steps.size(), kMaxSteps);
  EXPECT_EQ(story(anna).steps_left_out, 6u);
  for (std::size_t i = 0; i < kMaxStories + 3; ++i) buy("anna", fmt::format("more{}", i));
  const auto e = explain(log, head(), {.customer = *CustomerId::from("anna")});
  EXPECT_EQ(e->stories.size(), kMaxStories);
  EXPECT_EQ(e->stories_left_out, 4u);
}

TEST_F(Explained, CanBeBrokenOff) {
  happen(scheduled("a", 1));
  const Seq anna = buy("anna");
  std::uint64_t read = 0;
  const auto e = explain(log, head(), {.purchase = anna}, [&](std::uint64_t events) {
    read += events;
    return read < 2;
  });
  ASSERT_FALSE(e);
  EXPECT_EQ(e.error().fault, Fault::busy);
  EXPECT_EQ(read, 2u);
}

// A new reason or kind of decision needs a sentence of its own.
TEST(Sentences, EveryReasonAndKindOfDecisionHasOne) {
  std::set<std::string_view> seen;
  unsigned named = 0;
  for (unsigned i = 0; i < 256; ++i) {
    const auto reason = static_cast<Reason>(i);
    const auto kind = static_cast<DecisionKind>(i);
    for (const auto& [name, sentence] : {std::pair{name_of(reason), sentence_of(reason)},
                                         std::pair{name_of(kind), sentence_of(kind)}}) {
      if (name == "unknown") {
        EXPECT_TRUE(sentence.empty()) << i;
        continue;
      }
      ++named;
      ASSERT_FALSE(sentence.empty()) << name;
      EXPECT_EQ(sentence.back(), '.') << name;
      EXPECT_TRUE(seen.insert(sentence).second) << "twice: " << sentence;
    }
  }
  EXPECT_EQ(named, 29u + 23u);
}

}  // namespace
}  // namespace fairsale::test
