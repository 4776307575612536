#include "tools/rush/histogram.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tools/rush/random.hpp"

namespace fairsale::rush {
namespace {

TEST(Histogram, IsExactForSmallValues) {
  Histogram h;
  for (std::uint64_t v = 1; v <= 100; ++v) h.record(v);
  EXPECT_EQ(h.count(), 100U);
  EXPECT_EQ(h.percentile(50), 50U);
  EXPECT_EQ(h.percentile(99), 99U);
  EXPECT_EQ(h.percentile(100), 100U);
  EXPECT_EQ(h.percentile(0), 1U);
  EXPECT_EQ(h.max(), 100U);
  EXPECT_DOUBLE_EQ(h.mean(), 50.5);
}

TEST(Histogram, SaysNothingWhenEmpty) {
  const Histogram h;
  EXPECT_EQ(h.percentile(99), 0U);
  EXPECT_EQ(h.max(), 0U);
  EXPECT_EQ(h.mean(), 0);
}

TEST(Histogram, NeverFallsBelowTheTruthAndNeverMoreThanOnePercentAbove) {
  Random random(7);
  for (int round = 0; round < 20; ++round) {
    Histogram h;
    std::vector<std::uint64_t> values(1000);
    for (std::uint64_t& v : values) {
      v = static_cast<std::uint64_t>(std::pow(2.0, random.uniform() * 38));
      h.record(v);
    }
    std::sort(values.begin(), values.end());
    for (const double percent : {1.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
      const auto rank = static_cast<std::size_t>(std::ceil(percent / 100 * 1000));
      const std::uint64_t truth = values[rank - 1];
      EXPECT_GE(h.percentile(percent), truth);
      EXPECT_LE(static_cast<double>(h.percentile(percent)), static_cast<double>(truth) * 1.008 + 1);
    }
  }
}

TEST(Histogram, HoldsWhatIsTooLargeAtItsBound) {
  Histogram h;
  h.record(UINT64_MAX);
  EXPECT_EQ(h.max(), std::uint64_t{1} << 40);
  EXPECT_EQ(h.percentile(50), std::uint64_t{1} << 40);
}

}  // namespace
}  // namespace fairsale::rush
