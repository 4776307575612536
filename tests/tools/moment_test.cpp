// Time travel: a sale at any position and at any time of its log.
#include "tools/moment/moment.hpp"

#include <gtest/gtest.h>

#include "core/log/digest.hpp"
#include "tests/engine/shop.hpp"

namespace fairsale::cli {
namespace {

using test::attempt;
using test::kOpening;
using test::scheduled;
using test::Shop;

struct Moments : ::testing::Test {
  // A minute between events, so that each has a time of its own; holds stand for one.
  void happen(const Event& event) {
    shop.now("a", event);
    digests.push_back(state_digest(*shop.sequencer.find(sku_id("a"))));
    times.push_back(shop.sequencer.find(sku_id("a"))->time());
    shop.clock.advance(Duration{10'000});
  }

  Moments() {
    happen(scheduled("a", 2));
    happen(attempt("anna", "k"));   // 2, at 10 s, until 70 s
    happen(attempt("bert", "k"));   // 3, at 20 s, until 80 s
    happen(attempt("carla", "k"));  // 4, waits
    happen(attempt("dora", "k"));   // 5, waits
    happen(attempt("emil", "k", 0));
    head = log.heads()->front();
  }

  MemoryLog log;
  MemoryLog forged;
  Shop shop{log};
  std::vector<Digest> digests;
  std::vector<Timestamp> times;
  SkuHead head;
};

TEST_F(Moments, AreTheStateAfterEachPosition) {
  for (std::uint64_t at = 1; at <= digests.size(); ++at) {
    const auto m = moment_at(log, head, Seq{at});
    ASSERT_TRUE(m) << m.error().message;
    EXPECT_EQ(state_digest(m->sale), digests[at - 1]) << at;
    EXPECT_EQ(m->now, times[at - 1]);
  }
  EXPECT_FALSE(moment_at(log, head, Seq{0})->sale.exists());
  const auto beyond = moment_at(log, head, Seq{7});
  ASSERT_FALSE(beyond);
  EXPECT_EQ(beyond.error().fault, Fault::not_found);
}

TEST_F(Moments, OfATimeAreAfterTheLastEventAtOrBeforeIt) {
  for (std::uint64_t at = 1; at <= times.size(); ++at) {
    const Timestamp t = times[at - 1];
    EXPECT_EQ(*position_at(log, head, t), Seq{at});
    EXPECT_EQ(*position_at(log, head, Timestamp{t.value - 1}), Seq{at - 1});
    EXPECT_EQ(*position_at(log, head, Timestamp{t.value + 9'999}), Seq{at});
  }
  EXPECT_EQ(*position_at(log, head, Timestamp{0}), Seq{0});
  EXPECT_EQ(*position_at(log, head, kNever), Seq{6});
}

TEST_F(Moments, OfOneBlockWithSeveralEventsAreAfterTheLastOfThem) {
  for (int i = 0; i < 5; ++i) shop.submit("a", attempt(fmt::format("more{}", i), "k"));
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  head = log.heads()->front();
  const Timestamp together = shop.sequencer.find(sku_id("a"))->time();
  EXPECT_EQ(*position_at(log, head, together), head.head.seq);
  EXPECT_EQ(*position_at(log, head, Timestamp{together.value - 1}), Seq{6});
}

TEST_F(Moments, StartFromTheNearestSnapshotBefore) {
  const auto at_3 = fold(log, head, FoldFrom::start, nullptr, Seq{3});
  ASSERT_TRUE(log.put_snapshot(head.sku, at_3->head, at_3->sale));
  EXPECT_EQ(moment_at(log, head, Seq{2})->from, Seq{0});
  EXPECT_EQ(moment_at(log, head, Seq{3})->from, Seq{3});
  const auto m = moment_at(log, head, Seq{5});
  EXPECT_EQ(m->from, Seq{3});
  EXPECT_EQ(state_digest(m->sale), digests[4]);
}

TEST_F(Moments, FromTheStartBelieveNoSnapshot) {
  Shop other(forged);
  other.now("a", scheduled("a", 77));
  other.now("a", attempt("anna", "k"));
  other.now("a", attempt("bert", "k"));
  const auto at_3 = fold(log, head, FoldFrom::start, nullptr, Seq{3});
  ASSERT_TRUE(log.put_snapshot(head.sku, at_3->head, *other.sequencer.find(head.sku)));
  EXPECT_EQ(moment_at(log, head, Seq{5})->sale.counters().stocked, Quantity{77});
  const Way whole{.from = FoldFrom::start, .observer = nullptr};
  const auto m = moment_at(log, head, Seq{5}, whole);
  EXPECT_EQ(m->from, Seq{0});
  EXPECT_EQ(state_digest(m->sale), digests[4]);
  EXPECT_EQ(state_digest(moment_at(log, head, times[4], whole)->sale), digests[4]);
}

TEST_F(Moments, ShowWhatTimeBroughtAsDueAndNotAsDone) {
  const auto at = [&](std::int64_t ms) {
    auto m = moment_at(log, head, Timestamp{kOpening.value + ms});
    EXPECT_TRUE(m);
    return look_at(*m, std::nullopt, std::nullopt);
  };
  EXPECT_EQ(at(69'999).due.holds.purchases, 0u);
  EXPECT_EQ(at(70'000).due.holds.purchases, 1u);
  EXPECT_EQ(at(80'000).due.holds.units, 2u);
  EXPECT_EQ(at(80'000).line.purchases, 2u) << "nobody has been offered anything yet";
  EXPECT_FALSE(at(80'000).due.end);
}

TEST_F(Moments, TellWhenASaleIsDueToOpenAndToEnd) {
  auto later = scheduled("b", 1);
  later.terms.starts_at = Timestamp{kOpening.value + 600'000};
  later.terms.ends_at = Timestamp{kOpening.value + 700'000};
  shop.now("b", later);
  const SkuHead b{sku_id("b"), *shop.sequencer.head(sku_id("b"))};
  const auto due = [&](std::int64_t ms) {
    return look_at(*moment_at(log, b, Timestamp{kOpening.value + ms}), {}, {}).due;
  };
  EXPECT_FALSE(due(599'999).opening);
  EXPECT_TRUE(due(600'000).opening);
  EXPECT_FALSE(due(600'000).end);
  EXPECT_TRUE(due(700'000).end);
}

TEST_F(Moments, TellACustomersStanding) {
  const auto m = moment_at(log, head, Seq{6});
  const auto customer = m->sale.find_customer("dora");
  ASSERT_TRUE(customer);
  const Look look = look_at(*m, customer, std::nullopt);
  ASSERT_EQ(look.chosen.size(), 1u);
  EXPECT_EQ(look.chosen[0].place, 2u);
  EXPECT_EQ(look.next, (std::vector{Seq{4}, Seq{5}}));
  EXPECT_FALSE(moment_at(log, head, Seq{4})->sale.find_customer("dora"));
  const Look by_id = look_at(*m, std::nullopt, Seq{2});
  ASSERT_EQ(by_id.chosen.size(), 1u);
  EXPECT_EQ(m->sale.purchase(by_id.chosen[0].purchase).status, PurchaseStatus::reserved);
}

}  // namespace
}  // namespace fairsale::cli
