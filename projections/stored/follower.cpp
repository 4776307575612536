#include "projections/stored/follower.hpp"

#include <utility>

namespace fairsale {

void Bell::ring() {
  rung_.store(true);
  if (!asleep_.load()) return;
  { const std::scoped_lock lock(mutex_); }  // who is about to sleep has looked, or will be woken
  changed_.notify_one();
}

void Bell::wait(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  asleep_.store(true);
  changed_.wait_for(lock, patience, [&] { return rung_.load(); });
  asleep_.store(false);
  rung_.store(false);
}

void StretchQueue::put(std::vector<Stretch>& stretches) {
  {
    const std::scoped_lock lock(mutex_);
    for (Stretch& s : stretches) {
      events_.fetch_add(s.to.value - s.from.value, std::memory_order_relaxed);
      const std::size_t rows = s.rows();
      const auto found = index_.find(s.sku.value);
      const bool known = found != index_.end();
      // After a loss a SKU's later stretches do not follow what waits.
      const bool follows = !known || waiting_[found->second].to == s.from;
      if (!follows || rows_ + rows > kMaxRows || (!known && waiting_.size() >= kMaxSkus)) {
        lost_ = true;
        continue;
      }
      if (known) {
        Stretch& before = waiting_[found->second];
        rows_ -= before.rows();
        before.join(std::move(s));
        rows_ += before.rows();
      } else {
        rows_ += rows;
        index_.emplace(s.sku.value, waiting_.size());
        waiting_.push_back(std::move(s));
      }
    }
  }
  stretches.clear();
  bell_.ring();
}

bool StretchQueue::take(std::vector<Stretch>& out) {
  std::unordered_map<std::uint64_t, std::size_t> index;  // freed when the lock is open again
  const std::scoped_lock lock(mutex_);
  out.swap(waiting_);
  index.swap(index_);
  rows_ = 0;
  return std::exchange(lost_, false);
}

void ProjectionFollower::seed(SkuId sku, const Sale& sale) {
  if (!sale.exists()) without_sale_.try_emplace(sku.value, sale.seq());
}

void ProjectionFollower::on_decision(SkuId, const Sale& sale, const Decision& d) {
  if (!active_) return;
  collect(open_, sale, d);
  collect_message(open_, sale, d);
}

void ProjectionFollower::on_commit(SkuId sku, const Sale& sale) {
  // Where the SKU's stretch before this one ended is where it was rendered last.
  Seq from;
  auto rendered = availability_.latest(sku);
  if (rendered) from = rendered->previous;
  if (from.value == 0) {
    const auto found = without_sale_.find(sku.value);
    if (found != without_sale_.end()) {
      from = found->second;
      found->second = sale.seq();
      if (sale.exists()) without_sale_.erase(found);
    }
  }
  if (!active_) return;
  open_.sku = sku;
  open_.from = from;
  open_.to = sale.seq();
  open_.rendered = std::move(rendered);
  collect_second(open_, sale);
  turn_.push_back(std::move(open_));
  open_ = Stretch{};
}

}  // namespace fairsale
