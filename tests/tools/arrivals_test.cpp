#include "tools/rush/arrivals.hpp"

#include <gtest/gtest.h>

#include <algorithm>

namespace fairsale::rush {
namespace {

std::size_t between(const std::vector<std::int64_t>& arrivals, double from, double to) {
  return static_cast<std::size_t>(std::count_if(arrivals.begin(), arrivals.end(), [&](auto t) {
    const double seconds = static_cast<double>(t) / 1e6;
    return seconds >= from && seconds < to;
  }));
}

TEST(Arrivals, SpikeIsAHundredTimesTheBaseline) {
  const auto curve = rate_curve({.attempts = 200'000, .spike_seconds = 5});
  ASSERT_TRUE(curve) << curve.error().message;
  Random random(1);
  const auto arrivals = plan_arrivals(*curve, 200'000, random);
  ASSERT_EQ(arrivals.size(), 200'000U);
  EXPECT_TRUE(std::is_sorted(arrivals.begin(), arrivals.end()));
  // 1 s of baseline, 5 s of spike, 1 s of baseline: 502 parts.
  const double part = 200'000 / 502.0;
  EXPECT_NEAR(static_cast<double>(between(arrivals, 0, 1)), part, part / 4);
  EXPECT_NEAR(static_cast<double>(between(arrivals, 1, 6)), 500 * part, 10 * part);
  EXPECT_NEAR(static_cast<double>(between(arrivals, 2, 3)), 100 * part, 4 * part);
  EXPECT_NEAR(static_cast<double>(between(arrivals, 6, 7.001)), part, part / 4);
}

TEST(Arrivals, FlatRateIsFlat) {
  const auto curve = rate_curve({.attempts = 10'000, .flat_rate = 1000});
  ASSERT_TRUE(curve);
  Random random(2);
  const auto arrivals = plan_arrivals(*curve, 10'000, random);
  EXPECT_NEAR(static_cast<double>(between(arrivals, 0, 5)), 5000, 250);
  EXPECT_LE(arrivals.back(), 10'000'000);
}

TEST(Arrivals, BaselineFixesTheLengthOfTheSpike) {
  const auto curve = rate_curve({.attempts = 10'200, .baseline = 100, .spike = 100});
  ASSERT_TRUE(curve);
  EXPECT_DOUBLE_EQ((*curve)[1].seconds, 1.0);
  EXPECT_DOUBLE_EQ((*curve)[1].per_second, 10'000);
}

TEST(Arrivals, RestComesAtTheBaseline) {
  const auto curve =
      rate_curve({.attempts = 2'000, .baseline = 100, .spike = 10, .spike_seconds = 1});
  ASSERT_TRUE(curve);
  EXPECT_DOUBLE_EQ((*curve)[2].seconds, 9.0);
}

TEST(Arrivals, ContradictionsAreExplained) {
  EXPECT_FALSE(rate_curve({.attempts = 0}));
  EXPECT_FALSE(rate_curve({.attempts = 10, .spike = 0.5}));
  EXPECT_FALSE(rate_curve({.attempts = 10, .baseline = 100}));
  const auto both =
      rate_curve({.attempts = 10, .baseline = 100, .spike = 100, .spike_seconds = 10});
  ASSERT_FALSE(both);
  EXPECT_NE(both.error().message.find("--spike-seconds"), std::string::npos);
}

TEST(Arrivals, SeedRepeatsThePlan) {
  const auto curve = rate_curve({.attempts = 1000});
  Random a(3);
  Random b(3);
  Random c(4);
  EXPECT_EQ(plan_arrivals(*curve, 1000, a), plan_arrivals(*curve, 1000, b));
  EXPECT_NE(plan_arrivals(*curve, 1000, b), plan_arrivals(*curve, 1000, c));
}

}  // namespace
}  // namespace fairsale::rush
