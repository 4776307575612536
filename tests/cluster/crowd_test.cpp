#include "core/cluster/crowd.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace fairsale::cluster {
namespace {

// How long a batch of this crowd waits, and how many it has then: asked every millisecond after a
// batch of `size` that took `took` was answered, while `waiting(ms)` are there.
struct Wait {
  std::int64_t ms = 0;
  std::size_t size = 0;
  bool operator==(const Wait&) const = default;
};
template <class Waiting>
Wait wait(std::size_t size, std::int64_t took, Waiting waiting) {
  Crowd crowd;
  const Duration answered{1'000};
  crowd.answered({.size = size, .waiting = waiting(0), .took = Duration{took}, .at = answered});
  for (std::int64_t ms = 0;; ++ms) {
    if (!crowd.worth_waiting(waiting(ms), Duration{answered.value + ms})) return {ms, waiting(ms)};
  }
}

// So many come a millisecond, `before` were there when the batch was answered, and no more than
// `all` ever come.
auto coming(std::size_t per_ms, std::size_t before = 0, std::size_t all = 1'000'000) {
  return [=](std::int64_t ms) {
    return std::min(all, before + per_ms * static_cast<std::size_t>(ms));
  };
}

TEST(Crowd, IsNotWaitedForBeforeAnybodyWasAnswered) {
  Crowd crowd;
  EXPECT_FALSE(crowd.worth_waiting(1, Duration{0}));
  EXPECT_FALSE(crowd.worth_waiting(1, Duration{5'000}));
}

TEST(Crowd, ThatComesAgainAtOnceIsWaitedForUntilAllAreThere) {
  EXPECT_EQ(wait(256, 4, coming(52, 0, 256)), (Wait{5, 256}));
  EXPECT_EQ(wait(256, 8, coming(26, 0, 256)), (Wait{10, 256})) << "on a machine half as fast";
  EXPECT_EQ(wait(200, 4, coming(52, 56, 256)), (Wait{4, 256})) << "with those that waited already";
}

TEST(Crowd, IsNotWaitedForWhenTheRestOfItDoesNotCome) {
  EXPECT_EQ(wait(256, 4, coming(50, 0, 200)), (Wait{6, 200}));
  EXPECT_EQ(wait(256, 4, coming(1, 0, 1)), (Wait{4, 1}));
  EXPECT_EQ(wait(256, 4, coming(0)), (Wait{2, 0}));
}

TEST(Crowd, OfWhomEachComesInHisOwnTimeIsWaitedForAMoment) {
  // Ten a millisecond, and 60 came during the batch.
  EXPECT_EQ(wait(120, 6, coming(10, 60)), (Wait{4, 100}));
  EXPECT_EQ(wait(80, 4, coming(10, 40)), (Wait{2, 60}));
}

TEST(Crowd, OfAFewIsNotMadeToTakeInThoseThatWait) {
  EXPECT_EQ(wait(10, 4, coming(0, 10)), (Wait{0, 10}));
  EXPECT_EQ(wait(10, 4, coming(0, 8)), (Wait{2, 8}));
  EXPECT_EQ(wait(1, 4, coming(0, 1)), (Wait{0, 1}));
}

TEST(Crowd, IsNeverWaitedForLongerThanAMoment) {
  EXPECT_EQ(wait(1'000'000, 200, coming(10)), (Wait{12, 120}));
}

}  // namespace
}  // namespace fairsale::cluster
