// Snapshots that are taken beside the sequencer.
#include "core/engine/snapshotter.hpp"

#include "core/log/digest.hpp"
#include "tests/engine/shop.hpp"

namespace fairsale::test {
namespace {

constexpr Seq kNewest{~0ULL};

TEST(Snapshotter, TakesWhatTheSequencerAsksForWhileTheSaleGoesOn) {
  MemoryLog log;
  Snapshotter snapshotter(log);
  Shop shop(log, {.snapshot_every = 100, .snapshot_idle = 10, .snapshotter = &snapshotter});
  shop.now("a", scheduled("a", 1));
  for (int i = 0; i < 99; ++i) shop.now("a", attempt(fmt::format("c{}", i), "k"));
  const Digest at_100 = state_digest(*shop.sequencer.find(sku_id("a")));
  shop.now("a", attempt("one more", "k"));
  snapshotter.wait_until_idle();
  EXPECT_EQ(snapshotter.taken(), 1u);
  const auto first = log.snapshot(sku_id("a"), kNewest);
  ASSERT_TRUE(first && *first);
  EXPECT_EQ((*first)->head.seq, Seq{100});
  EXPECT_EQ((*first)->state, at_100);

  // The next one builds on it; at rest fewer events are enough.
  for (int i = 0; i < 59; ++i) shop.now("a", attempt(fmt::format("d{}", i), "k"));
  for (int i = 0; i < 3; ++i) {
    shop.clock.advance(Duration{1'000});
    ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  }
  snapshotter.stop();
  const auto second = log.snapshot(sku_id("a"), kNewest);
  ASSERT_TRUE(second && *second);
  EXPECT_EQ((*second)->head, *shop.sequencer.head(sku_id("a")));
  EXPECT_EQ((*second)->state, state_digest(*shop.sequencer.find(sku_id("a"))));
  EXPECT_EQ(shop.sequencer.stop().snapshots, 0u) << "there is nothing left to save";
}

TEST(Snapshotter, TellsAFailureOnceAndGoesOn) {
  struct Full final : MemoryLog {
    Result<void> put_snapshot(SkuId, const Head&, const Sale&) override {
      return fail(Fault::full, "no space left for snapshots");
    }
  } log;
  Shop shop(log);
  shop.now("a", scheduled("a", 1));
  Snapshotter snapshotter(log);
  EXPECT_TRUE(snapshotter.want({sku_id("a"), *shop.sequencer.head(sku_id("a"))}));
  snapshotter.wait_until_idle();
  EXPECT_EQ(snapshotter.taken(), 0u);
  const auto error = snapshotter.take_error();
  ASSERT_TRUE(error);
  EXPECT_EQ(error->message, "no space left for snapshots");
  EXPECT_FALSE(snapshotter.take_error());
}

// A snapshot that comes late is of the newest position, not one of each that was asked for.
TEST(Snapshotter, TakesOneOfTheNewestPositionForAllThatWereAskedForMeanwhile) {
  struct Slow final : MemoryLog {
    Result<void> put_snapshot(SkuId sku, const Head& at, const Sale& sale) override {
      std::unique_lock lock(mutex);
      ++begun;
      changed.notify_all();
      changed.wait(lock, [this] { return open; });
      return MemoryLog::put_snapshot(sku, at, sale);
    }
    std::mutex mutex;
    std::condition_variable changed;
    int begun = 0;
    bool open = false;
  } log;
  Shop shop(log);
  Snapshotter snapshotter(log);
  const auto ask = [&] {
    EXPECT_TRUE(snapshotter.want({sku_id("a"), *shop.sequencer.head(sku_id("a"))}));
  };
  shop.now("a", scheduled("a", 1));
  ask();
  {
    std::unique_lock lock(log.mutex);
    log.changed.wait(lock, [&] { return log.begun == 1; });
  }
  for (int i = 0; i < 5; ++i) {
    shop.now("a", attempt(fmt::format("c{}", i), "k"));
    ask();
  }
  {
    const std::scoped_lock lock(log.mutex);
    log.open = true;
  }
  log.changed.notify_all();
  snapshotter.stop();
  EXPECT_EQ(snapshotter.taken(), 2u);
  EXPECT_EQ((*log.snapshot(sku_id("a"), kNewest))->head, *shop.sequencer.head(sku_id("a")));
}

// A store keeps no snapshot that is newer than the one that it is given.
TEST(Snapshotter, IsDoneBeforeTheLastSnapshotOfAStop) {
  struct Late final : MemoryLog {
    Result<void> put_snapshot(SkuId sku, const Head& at, const Sale& sale) override {
      std::unique_lock lock(mutex);
      begun = true;
      changed.notify_all();
      // The first has time enough to come last.
      if (at.seq == Seq{10}) {
        changed.wait_for(lock, std::chrono::milliseconds(300), [this] { return !order.empty(); });
      }
      order.push_back(at.seq);
      changed.notify_all();
      return MemoryLog::put_snapshot(sku, at, sale);
    }
    std::mutex mutex;
    std::condition_variable changed;
    bool begun = false;
    std::vector<Seq> order;
  } log;
  Snapshotter snapshotter(log);
  Shop shop(log, {.snapshot_every = 10, .snapshot_least = 1, .snapshotter = &snapshotter});
  shop.now("a", scheduled("a", 1));
  for (int i = 0; i < 9; ++i) shop.now("a", attempt(fmt::format("c{}", i), "k"));
  {
    std::unique_lock lock(log.mutex);
    log.changed.wait(lock, [&] { return log.begun; });
  }
  shop.now("a", attempt("one more", "k"));
  EXPECT_EQ(shop.sequencer.stop().snapshots, 1u);
  snapshotter.stop();
  EXPECT_EQ(log.order, (std::vector{Seq{10}, Seq{11}}));
}

TEST(Snapshotter, TakesAllThatWasAskedForBeforeItStopsAndNoMore) {
  MemoryLog log;
  Shop shop(log);
  Snapshotter snapshotter(log);
  for (const std::string name : {"a", "b", "c"}) {
    shop.now(name, scheduled(name, 1));
    EXPECT_TRUE(snapshotter.want({sku_id(name), *shop.sequencer.head(sku_id(name))}));
  }
  snapshotter.stop();
  EXPECT_EQ(snapshotter.taken(), 3u);
  EXPECT_FALSE(snapshotter.want({sku_id("a"), *shop.sequencer.head(sku_id("a"))}));
}

}  // namespace
}  // namespace fairsale::test
