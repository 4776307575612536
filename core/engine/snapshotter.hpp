// Takes snapshots in a thread of its own, so that no purchase waits for one. It never looks at a
// sequencer's sale: it folds the log, from the snapshot before, and so needs the memory of one more
// sale for as long as it takes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "core/log/event_log.hpp"

namespace fairsale {

class Snapshotter {
 public:
  // The log must outlive it.
  explicit Snapshotter(EventLog& log);
  ~Snapshotter();  // as stop()
  Snapshotter(const Snapshotter&) = delete;
  Snapshotter& operator=(const Snapshotter&) = delete;

  // Asks for a snapshot of the SKU as of a head that is durable, in place of one that was asked for
  // and not begun. Returns false when too many are
  // asked for already: ask again later. From any thread; returns at once.
  bool want(const SkuHead&);

  // Takes those that were asked for and no more. From one thread.
  void stop();

  std::uint64_t taken() const { return taken_.load(std::memory_order_relaxed); }

  // The latest failure, once. It costs time at the next start, nothing else.
  std::optional<Error> take_error();

  // Returns when nothing is asked for or under way. From any thread.
  void wait_until_idle();

 private:
  static constexpr std::size_t kMaxWanted = 4096;

  void run();
  Result<void> take(const SkuHead&);
  Result<void> fold_and_put(const SkuHead&);

  EventLog& log_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<SkuHead> wanted_;
  bool busy_ = false;
  bool stopping_ = false;
  std::optional<Error> error_;
  std::atomic<std::uint64_t> taken_{0};
  std::atomic<bool> failed_{false};
  std::thread thread_;
};

}  // namespace fairsale
