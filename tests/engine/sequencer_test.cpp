#include "core/engine/sequencer.hpp"

#include <algorithm>

#include "core/engine/engine.hpp"
#include "tests/engine/shop.hpp"

namespace fairsale::test {
namespace {

TEST(Sequencer, WhateverWaitsBecomesOneBlockAndOneSync) {
  MemoryLog log;
  Shop shop(log);
  shop.submit("a", scheduled("a", 3));
  for (int i = 0; i < 5; ++i) shop.submit("a", attempt(fmt::format("c{}", i), "k"));
  shop.submit("b", scheduled("b", 1));
  EXPECT_TRUE(shop.recorder.order.empty()) << "nothing is answered before the turn";

  const auto report = shop.sequencer.turn(shop.recorder);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->events, 7u);
  EXPECT_EQ(report->blocks, 2u);
  EXPECT_EQ(shop.recorder.answers.size(), 7u);
  EXPECT_EQ(shop.recorder.answers[2].decision.kind, DecisionKind::reserved);
  EXPECT_EQ(shop.recorder.answers[6].decision.kind, DecisionKind::waiting);
  EXPECT_EQ(shop.decisions.commits, 2) << "projections commit once per SKU and turn";

  int blocks = 0;
  ASSERT_TRUE(log.read(sku_id("a"), Seq{1}, [&](const BlockView& b) {
    ++blocks;
    EXPECT_EQ(b.header().count, 6u);
    EXPECT_EQ(b.header().time, kOpening);
    return true;
  }));
  EXPECT_EQ(blocks, 1);
}

TEST(Sequencer, AFullInboxRefusesAndRecordsNothing) {
  MemoryLog log;
  Shop shop(log, {.inbox_limit = 3});
  shop.submit("a", scheduled("a", 1));
  shop.submit("a", attempt("x", "1"));
  shop.submit("a", attempt("y", "1"));
  EXPECT_EQ(shop.admission, Admission::accepted);
  shop.submit("a", attempt("z", "1"));
  EXPECT_EQ(shop.admission, Admission::overloaded);
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_EQ(shop.sequencer.find(sku_id("a"))->seq(), Seq{3});
  EXPECT_EQ(shop.now("a", attempt("z", "1")).kind, DecisionKind::waiting) << "room again";
}

TEST(Sequencer, MoreThanABlockHoldsBecomesSeveralBlocksOfOneCommit) {
  MemoryLog log;
  Shop shop(log, {.inbox_limit = 3 * kMaxBlockEvents});
  shop.submit("a", scheduled("a", 1));
  for (std::uint32_t i = 0; i < 2 * kMaxBlockEvents; ++i) {
    shop.submit("a", attempt(fmt::format("c{}", i), "k"));
  }
  const auto report = shop.sequencer.turn(shop.recorder);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->blocks, 3u);
  EXPECT_EQ(report->events, 2 * kMaxBlockEvents + 1);
  EXPECT_EQ(shop.recorder.answers.size(), 2 * kMaxBlockEvents + 1);
  const auto folded =
      fold(log, {sku_id("a"), *shop.sequencer.head(sku_id("a"))}, FoldFrom::start, nullptr);
  ASSERT_TRUE(folded) << folded.error().message;
  EXPECT_EQ(state_digest(folded->sale), state_digest(*shop.sequencer.find(sku_id("a"))));
}

TEST(Sequencer, MoreSkusThanATurnCommitsAreServedInTheNextOnesInOrder) {
  MemoryLog log;
  Shop shop(log);
  constexpr int kSkus = 1500;
  for (int i = 0; i < kSkus; ++i) {
    const auto sku = fmt::format("sku-{}", i);
    shop.submit(sku, scheduled(sku, 1));
    shop.submit(sku, attempt("first", "k"));
    shop.submit(sku, attempt("second", "k"));
  }
  std::size_t events = 0;
  while (shop.sequencer.waiting() > 0) {
    const auto report = shop.sequencer.turn(shop.recorder);
    ASSERT_TRUE(report);
    ASSERT_GT(report->events, 0u);
    events += report->events;
  }
  EXPECT_EQ(events, 3u * kSkus);
  for (int i = 0; i < kSkus; ++i) {
    const std::uint64_t first = 3 * static_cast<std::uint64_t>(i) + 2;
    EXPECT_EQ(shop.recorder.answers.at(first).decision.kind, DecisionKind::reserved);
    EXPECT_EQ(shop.recorder.answers.at(first + 1).decision.kind, DecisionKind::waiting);
  }
}

TEST(Sequencer, NobodyIsAnsweredWhenTheLogFails) {
  MemoryLog log;
  Shop shop(log);
  shop.now("a", scheduled("a", 1));
  log.fail_next_append({Fault::io, "fdatasync: Input/output error"});
  const auto ticket = shop.submit("a", attempt("x", "1"));
  const auto turn = shop.sequencer.turn(shop.recorder);
  ASSERT_FALSE(turn);
  EXPECT_EQ(turn.error().message, "fdatasync: Input/output error");
  EXPECT_FALSE(shop.recorder.answers.contains(ticket));
  EXPECT_EQ(shop.sequencer.find(sku_id("a"))->seq(), Seq{1}) << "undecided too";
}

TEST(Sequencer, ADeadlineThatPassesBecomesAnEvent) {
  MemoryLog log;
  Shop shop(log);
  shop.now("a", scheduled("a", 1));
  const Decision held = shop.now("a", attempt("x", "1"));
  shop.now("a", attempt("y", "1"));
  EXPECT_EQ(held.until, kOpening + Duration{60'000});

  shop.clock.advance(Duration{59'999});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_EQ(shop.decisions.count(DecisionKind::expired), 0u);
  ASSERT_TRUE(shop.sequencer.next_turn_in());
  EXPECT_LE(shop.sequencer.next_turn_in()->value, 50);

  shop.clock.advance(Duration{1});
  const auto report = shop.sequencer.turn(shop.recorder);
  ASSERT_TRUE(report);
  EXPECT_EQ(report->events, 1u);
  EXPECT_EQ(shop.decisions.count(DecisionKind::expired), 1u);
  EXPECT_EQ(shop.decisions.count(DecisionKind::offered), 1u);
}

TEST(Sequencer, ASaleOpensByItselfAtItsStart) {
  MemoryLog log;
  Shop shop(log);
  auto event = scheduled("a", 1);
  event.terms.starts_at = kOpening + Duration{5'000};
  shop.now("a", event);
  EXPECT_EQ(shop.sequencer.find(sku_id("a"))->phase(), Phase::scheduled);
  shop.clock.advance(Duration{5'000});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_EQ(shop.sequencer.find(sku_id("a"))->phase(), Phase::open);
}

TEST(Sequencer, LogTimeGoesOnWhenTheWallClockIsSetBack) {
  MemoryLog log;
  Shop shop(log);
  shop.now("a", scheduled("a", 1));
  shop.now("a", attempt("x", "1"));
  shop.clock.set_wall(Timestamp{kOpening.value - 3'600'000});

  const Decision second = shop.now("a", attempt("y", "1"));
  EXPECT_EQ(second.kind, DecisionKind::waiting);
  EXPECT_EQ(shop.sequencer.find(sku_id("a"))->time(), kOpening);

  // The hold still ends 60 seconds after it began, not an hour and 60 seconds.
  shop.clock.advance(Duration{60'000});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_EQ(shop.decisions.count(DecisionKind::expired), 1u);
  EXPECT_EQ(shop.sequencer.find(sku_id("a"))->time(), kOpening + Duration{60'000});
}

TEST(Sequencer, ADeadlineIsNoticedAtOnceWhenTheWallClockIsSetForward) {
  MemoryLog log;
  Shop shop(log);
  shop.now("a", scheduled("a", 1));
  shop.now("a", attempt("x", "1"));
  shop.clock.set_wall(kOpening + Duration{60'000});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_EQ(shop.decisions.count(DecisionKind::expired), 1u);
}

TEST(Sequencer, ADeadlineThatASlowWallClockHasNotReachedIsWaitedForAndNotPolled) {
  MemoryLog log;
  {
    Shop before(log);
    before.now("a", scheduled("a", 1));
    before.now("a", attempt("x", "1"));
  }
  Shop shop(log);
  shop.clock.advance(Duration{30'000});
  auto folded = fold(log, log.heads()->front(), FoldFrom::start, nullptr);
  ASSERT_TRUE(folded);
  shop.sequencer.adopt(sku_id("a"), std::move(*folded));

  shop.clock.advance(Duration{30'000});
  shop.clock.set_wall(kOpening + Duration{59'995});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_EQ(shop.decisions.count(DecisionKind::expired), 0u);
  EXPECT_EQ(shop.sequencer.next_turn_in(), Duration{5});
  shop.clock.advance(Duration{5});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_EQ(shop.decisions.count(DecisionKind::expired), 1u);
}

TEST(Sequencer, AnEventOfAnUnknownSkuIsNotRecorded) {
  MemoryLog log;
  Shop shop(log);
  shop.submit("nothing", attempt("x", "1"));
  EXPECT_EQ(shop.admission, Admission::unknown_sale);
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_TRUE(log.heads()->empty());
}

TEST(Sequencer, AFewEventsAreNotWorthASnapshot) {
  MemoryLog log;
  Shop shop(log, {.snapshot_least = 3});
  shop.now("a", scheduled("a", 1));
  shop.now("a", attempt("x", "1"));
  shop.now("b", scheduled("b", 1));
  shop.now("b", attempt("x", "1"));
  shop.now("b", attempt("y", "1"));
  EXPECT_EQ(shop.sequencer.stop().snapshots, 1u);
  EXPECT_FALSE(*log.snapshot(sku_id("a"), Seq{~0ULL}));
  EXPECT_TRUE(*log.snapshot(sku_id("b"), Seq{~0ULL}));
}

TEST(Sequencer, AGracefulStopLeavesASnapshotAtTheHead) {
  MemoryLog log;
  Shop shop(log, {.snapshot_least = 1});
  shop.now("a", scheduled("a", 1));
  shop.now("a", attempt("x", "1"));
  EXPECT_EQ(shop.sequencer.stop().snapshots, 1u);
  const auto snapshot = log.snapshot(sku_id("a"), Seq{~0ULL});
  ASSERT_TRUE(snapshot && *snapshot);
  EXPECT_EQ((*snapshot)->head, *shop.sequencer.head(sku_id("a")));
  EXPECT_EQ((*snapshot)->state, state_digest(*shop.sequencer.find(sku_id("a"))));
}

TEST(Sequencer, SnapshotsAreTakenUnderLoadAndAtRest) {
  MemoryLog log;
  Shop shop(log, {.snapshot_every = 100, .snapshot_idle = 10});
  shop.now("a", scheduled("a", 1));
  for (int i = 0; i < 98; ++i) shop.now("a", attempt(fmt::format("c{}", i), "k"));
  EXPECT_FALSE(*log.snapshot(sku_id("a"), Seq{~0ULL}));
  shop.now("a", attempt("one more", "k"));
  EXPECT_EQ((*log.snapshot(sku_id("a"), Seq{~0ULL}))->head.seq, Seq{100});

  for (int i = 0; i < 60; ++i) shop.now("a", attempt(fmt::format("d{}", i), "k"));
  for (int i = 0; i < 3; ++i) {
    shop.clock.advance(Duration{1'000});
    ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  }
  EXPECT_EQ((*log.snapshot(sku_id("a"), Seq{~0ULL}))->head.seq, Seq{160});
}

// A snapshot only saves time, so one that cannot be written stops nothing.
TEST(Sequencer, ASnapshotThatCannotBeWrittenIsReportedAndTheSaleGoesOn) {
  struct NoRoomForSnapshots final : MemoryLog {
    Result<void> put_snapshot(SkuId, const Head&, const Sale&) override {
      ++tried;
      return fail(Fault::full, "no space left for snapshots");
    }
    int tried = 0;
  } log;
  Shop shop(log, {.snapshot_every = 2, .snapshot_least = 1});
  shop.submit("a", scheduled("a", 1));
  shop.submit("a", attempt("x", "1"));
  const auto report = shop.sequencer.turn(shop.recorder);
  ASSERT_TRUE(report);
  ASSERT_TRUE(report->snapshot_error);
  EXPECT_EQ(report->snapshot_error->message, "no space left for snapshots");
  EXPECT_EQ(shop.recorder.answers.at(2).decision.kind, DecisionKind::reserved);
  EXPECT_EQ(shop.now("a", attempt("y", "1")).kind, DecisionKind::waiting);
  EXPECT_EQ(log.tried, 1) << "tried again only after as many events again";
  EXPECT_TRUE(shop.sequencer.stop().snapshot_error);
}

TEST(Engine, SkusAreSpreadOverShardsAndFoundAgainUnderAnotherNumberOfShards) {
  MemoryLog log;
  ManualClock clock(kOpening);
  std::map<std::string, Digest> states;
  {
    Decisions a;
    Decisions b;
    std::vector<SaleObserver*> observers{&a, &b};
    auto engine = Engine::open(log, clock, observers, {});
    ASSERT_TRUE(engine);
    Recorder recorder;
    for (int i = 0; i < 20; ++i) {
      const auto sku = fmt::format("sku-{}", i);
      Sequencer& shard = (*engine)->shard((*engine)->shard_of(sku_id(sku)));
      shard.submit(sku_id(sku), scheduled(sku, 1), {});
      shard.submit(sku_id(sku), attempt("x", sku), {});
      ASSERT_TRUE(shard.turn(recorder));
      states[sku] = state_digest(*shard.find(sku_id(sku)));
    }
    EXPECT_GT((*engine)->shard(0).skus(), 0u);
    EXPECT_GT((*engine)->shard(1).skus(), 0u);
  }
  Decisions observers[3];
  std::vector<SaleObserver*> three{&observers[0], &observers[1], &observers[2]};
  auto engine = Engine::open(log, clock, three, {});
  ASSERT_TRUE(engine);
  for (const auto& [sku, state] : states) {
    const Sale* sale = (*engine)->shard((*engine)->shard_of(sku_id(sku))).find(sku_id(sku));
    ASSERT_NE(sale, nullptr);
    EXPECT_EQ(state_digest(*sale), state);
  }
}

// What a turn commits follows from what came in and from the clock alone, so that two runs commit
// the same. fairsale-sim 21 once took another course the second time: SKUs that were due at one
// moment were taken in the order of their addresses.
TEST(Sequencer, SkusThatAreDueTogetherAreTakenInTheOrderOfTheirIds) {
  struct Watched final : MemoryLog {
    Result<void> append(std::span<const BlockWrite> blocks) override {
      order.clear();
      for (const BlockWrite& b : blocks) order.push_back(b.sku);
      return MemoryLog::append(blocks);
    }
    std::vector<SkuId> order;
  } log;
  Shop shop(log);
  for (int i = 0; i < 20; ++i) {
    auto event = scheduled(fmt::format("sku-{}", i), 1);
    event.terms.starts_at = kOpening + Duration{1000};
    shop.now(event.sku.view(), event);
  }
  shop.clock.advance(Duration{1000});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  ASSERT_EQ(log.order.size(), 20u);
  EXPECT_TRUE(std::is_sorted(log.order.begin(), log.order.end()));
}

}  // namespace
}  // namespace fairsale::test
