// How a sale stood at some moments, however long it lasted: of each interval the last moment, in
// intervals that double in length when there would be too many.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/domain/sale.hpp"

namespace fairsale::audit {

struct Moment {
  Seq seq;
  Timestamp at;
  Counters counters;
};

class Timeline {
 public:
  static constexpr std::size_t kMost = 800;

  // `key` is what the intervals are of (time or position); it never decreases.
  void add(std::uint64_t key, const Moment& m) {
    if (moments_.empty()) first_ = key;
    if (moments_.size() == kMost && interval(key) != interval(moments_.back().key)) thin_out();
    if (!moments_.empty() && interval(key) == interval(moments_.back().key)) {
      moments_.back() = {key, m};
    } else {
      moments_.push_back({key, m});
    }
  }

  std::vector<Moment> moments() const {
    std::vector<Moment> all;
    all.reserve(moments_.size());
    for (const Kept& k : moments_) all.push_back(k.moment);
    return all;
  }

 private:
  struct Kept {
    std::uint64_t key;
    Moment moment;
  };

  std::uint64_t interval(std::uint64_t key) const { return (key - first_) >> shift_; }

  void thin_out() {
    while (moments_.size() > kMost / 2 && shift_ < 63) {
      ++shift_;
      std::size_t kept = 0;
      for (std::size_t i = 0; i < moments_.size(); ++i) {
        const bool last_of_interval =
            i + 1 == moments_.size() || interval(moments_[i + 1].key) != interval(moments_[i].key);
        if (last_of_interval) moments_[kept++] = moments_[i];
      }
      moments_.resize(kept);
    }
  }

  std::vector<Kept> moments_;
  std::uint64_t first_ = 0;
  unsigned shift_ = 0;
};

}  // namespace fairsale::audit
