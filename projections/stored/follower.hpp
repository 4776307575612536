// How what a shard has decided gets to the thread that stores it: a bounded queue, put into once
// per turn. A purchase never waits for it. What finds no room is lost, and read from the log later.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "core/engine/observer.hpp"
#include "projections/stored/rows.hpp"

namespace fairsale {

// Wakes one thread when there is something to do. Thread-safe; cheap when it is awake.
class Bell {
 public:
  void ring();
  // Returns when it rings, has rung since the last time, or after `patience`.
  void wait(std::chrono::milliseconds patience);

 private:
  std::atomic<bool> rung_{false};
  std::atomic<bool> asleep_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
};

// Stretches of many SKUs; one SKU's are joined while they wait, so that what is seldom taken out
// costs little. Thread-safe.
class StretchQueue {
 public:
  static constexpr std::size_t kMaxSkus = 16'384;
  static constexpr std::size_t kMaxRows = 32'768;  // orders, refunds, messages and seconds in all

  explicit StretchQueue(Bell& bell) : bell_(bell) {}

  // Moves the stretches in and leaves the vector empty.
  void put(std::vector<Stretch>& stretches);
  // Swaps what is there into `out`, which must be empty. A SKU appears once. Returns true when
  // something was lost since the last time.
  bool take(std::vector<Stretch>& out);

  // Events in the stretches that were ever put in, lost ones included.
  std::uint64_t events() const { return events_.load(std::memory_order_relaxed); }

 private:
  Bell& bell_;
  std::mutex mutex_;
  std::vector<Stretch> waiting_;
  std::unordered_map<std::uint64_t, std::size_t> index_;  // into waiting_, by SKU
  std::size_t rows_ = 0;
  bool lost_ = false;
  std::atomic<std::uint64_t> events_{0};
};

// Collects what a shard decides. Runs behind the shard's AvailabilityProjection, whose renderings
// it passes on; on the shard's thread throughout.
class ProjectionFollower final : public SaleObserver {
 public:
  ProjectionFollower(const AvailabilityProjection& availability, StretchQueue& queue)
      : availability_(availability), queue_(queue) {}

  // What is decided before goes by unseen: recovery is caught up on from the log. Call before the
  // shard's first turn.
  void begin() { active_ = true; }

  // Gives the turn's stretches to the queue.
  void hand_over() {
    if (!turn_.empty()) queue_.put(turn_);
  }

  void seed(SkuId sku, const Sale& sale) override;
  void on_decision(SkuId sku, const Sale& sale, const Decision& d) override;
  void on_commit(SkuId sku, const Sale& sale) override;

 private:
  const AvailabilityProjection& availability_;
  StretchQueue& queue_;
  bool active_ = false;
  Stretch open_;                                         // of the SKU whose decisions are coming in
  std::vector<Stretch> turn_;                            // finished
  std::unordered_map<std::uint64_t, Seq> without_sale_;  // logs whose sale was never accepted
};

}  // namespace fairsale
