#include "core/engine/snapshotter.hpp"

#include <algorithm>
#include <new>
#include <utility>

#include "core/engine/recovery.hpp"
#include "core/log/priority.hpp"

namespace fairsale {

Snapshotter::Snapshotter(EventLog& log) : log_(log), thread_([this] { run(); }) {}

Snapshotter::~Snapshotter() { stop(); }

bool Snapshotter::want(const SkuHead& sku) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return false;
    const auto same = std::find_if(wanted_.begin(), wanted_.end(),
                                   [&](const SkuHead& w) { return w.sku == sku.sku; });
    if (same != wanted_.end()) {
      *same = sku;
      return true;
    }
    if (wanted_.size() >= kMaxWanted) return false;
    wanted_.push_back(sku);
  }
  changed_.notify_all();
  return true;
}

void Snapshotter::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

std::optional<Error> Snapshotter::take_error() {
  if (!failed_.exchange(false)) return std::nullopt;
  const std::scoped_lock lock(mutex_);
  return std::exchange(error_, std::nullopt);
}

void Snapshotter::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return wanted_.empty() && !busy_; });
}

void Snapshotter::run() {
  work_in_background();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !wanted_.empty(); });
    if (wanted_.empty()) return;
    const SkuHead sku = wanted_.front();
    wanted_.pop_front();
    busy_ = true;
    lock.unlock();
    auto done = take(sku);
    lock.lock();
    busy_ = false;
    if (done) {
      taken_.fetch_add(1, std::memory_order_relaxed);
    } else {
      error_ = std::move(done.error());
      failed_.store(true);
    }
    changed_.notify_all();
  }
}

Result<void> Snapshotter::take(const SkuHead& sku) {
  // It is as large as the sale: when there is no room for it, the sale goes on without.
  try {
    return fold_and_put(sku);
  } catch (const std::bad_alloc&) {
    return fail(Fault::full, "there is no memory for the snapshot of a sale");
  }
}

Result<void> Snapshotter::fold_and_put(const SkuHead& sku) {
  const auto folded = fold(log_, sku, FoldFrom::snapshot, nullptr);
  if (!folded) return tl::unexpected(folded.error());
  return log_.put_snapshot(sku.sku, folded->head, folded->sale);
}

}  // namespace fairsale
