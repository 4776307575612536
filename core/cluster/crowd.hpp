// How long a batch waits for more: those that were answered last may come again, and what a batch
// costs hardly depends on how many share it.
//
// Waiting costs those that wait already, and saves each that comes meanwhile the time of a batch at
// least and of two at most. So a batch waits while more are to come within one and a half times a
// batch's time, as fast as they came lately, than wait now; and until all are there that were
// answered. If clients come each in their own time that is half of a batch's time; a crowd that
// comes again at once is waited for.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/domain/types.hpp"

namespace fairsale::cluster {

// Of one SKU at one origin. Times are of one steady clock, in milliseconds.
class Crowd {
 public:
  struct Answered {
    std::size_t size = 0;     // of the batch
    std::size_t waiting = 0;  // others that came meanwhile
    Duration took{0};
    Duration at{0};
  };
  void answered(const Answered& last) {
    // Two halves of a crowd would take turns for ever if each waited for its own.
    const std::size_t all = last.size + last.waiting;
    expected_ = all < kMany ? last.size : all;
    took_ = last.took;
    answered_at_ = looked_at_ = last.at;
    waited_ = last.waiting;
  }

  // Whether those that wait do well to wait for more; to be asked again within a millisecond.
  bool worth_waiting(std::size_t waiting, Duration now) {
    if (waiting >= expected_ || now.value >= answered_at_.value + kAtMost.value) return false;
    const std::int64_t since = now.value - looked_at_.value;
    if (since >= kLookEvery.value) {
      const auto wait = static_cast<std::int64_t>(waiting);
      const auto came = wait - static_cast<std::int64_t>(waited_);
      if (came * 3 * took_.value <= wait * 2 * since) expected_ = 0;
      looked_at_ = now;
      waited_ = waiting;
    }
    return expected_ > 0;
  }

 private:
  static constexpr Duration kLookEvery{2};
  static constexpr Duration kAtMost{12};
  // So many that what they cost counts for more than a moment does.
  static constexpr std::size_t kMany = 32;

  std::size_t expected_ = 0;  // 0: nobody
  Duration took_{0};
  Duration answered_at_{0};
  Duration looked_at_{0};
  std::size_t waited_ = 0;  // then
};

}  // namespace fairsale::cluster
