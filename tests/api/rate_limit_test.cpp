#include "api/rate_limit.hpp"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace fairsale::api {
namespace {

using namespace std::chrono_literals;
using Clock = RateLimiter::Clock;

const Clock::time_point kStart{std::chrono::hours(1000)};

http::ClientAddress v4(std::uint8_t last) {
  http::ClientAddress a;
  a.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last};
  return a;
}

http::ClientAddress v6(std::uint8_t network, std::uint8_t host) {
  http::ClientAddress a;
  a.bytes = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, network, 0, 0, 0, 0, 0, 0, 0, host};
  return a;
}

TEST(RateLimit, AllowsABurstThenTheRate) {
  RateLimiter limiter({10, 20}, 1024);
  for (std::uint32_t i = 0; i < 20; ++i) {
    const Verdict v = limiter.take("alice", kStart);
    ASSERT_TRUE(v.allowed) << i;
    EXPECT_EQ(v.remaining, 19 - i);
  }
  const Verdict refused = limiter.take("alice", kStart);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.retry_after, 100ms);
  EXPECT_EQ(refused.reset, 2000ms);
  EXPECT_FALSE(limiter.take("alice", kStart + 99ms).allowed);
  EXPECT_TRUE(limiter.take("alice", kStart + refused.retry_after).allowed);
  EXPECT_FALSE(limiter.take("alice", kStart + 100ms).allowed);
  EXPECT_TRUE(limiter.take("bob", kStart + 100ms).allowed) << "each customer has its own bucket";
}

TEST(RateLimit, BeingRefusedCostsNothing) {
  RateLimiter limiter({10, 1}, 1024);
  EXPECT_TRUE(limiter.take("alice", kStart).allowed);
  for (int i = 0; i < 1000; ++i) EXPECT_FALSE(limiter.take("alice", kStart + 50ms).allowed);
  EXPECT_TRUE(limiter.take("alice", kStart + 100ms).allowed);
}

TEST(RateLimit, FillsUpNoFurtherThanTheBurst) {
  RateLimiter limiter({10, 5}, 1024);
  for (int i = 0; i < 5; ++i) limiter.take("alice", kStart);
  int allowed = 0;
  for (int i = 0; i < 50; ++i) allowed += limiter.take("alice", kStart + 1h).allowed ? 1 : 0;
  EXPECT_EQ(allowed, 5);
}

TEST(RateLimit, ZeroIsNoLimit) {
  RateLimiter limiter({0, 1}, 1024);
  EXPECT_FALSE(limiter.enabled());
  EXPECT_EQ(limiter.memory_bytes(), 0U);
  for (int i = 0; i < 1000; ++i) EXPECT_TRUE(limiter.take("alice", kStart).allowed);
}

TEST(RateLimit, CountsIpv6ByItsNetwork) {
  RateLimiter limiter({1, 2}, 1024);
  EXPECT_TRUE(limiter.take(v6(1, 1), kStart).allowed);
  EXPECT_TRUE(limiter.take(v6(1, 2), kStart).allowed);
  EXPECT_FALSE(limiter.take(v6(1, 3), kStart).allowed);
  EXPECT_TRUE(limiter.take(v6(2, 1), kStart).allowed);
  EXPECT_TRUE(limiter.take(v4(1), kStart).allowed);
  EXPECT_TRUE(limiter.take(v4(1), kStart).allowed);
  EXPECT_FALSE(limiter.take(v4(1), kStart).allowed);
  EXPECT_TRUE(limiter.take(v4(2), kStart).allowed);
}

TEST(RateLimit, AMillionCustomersFitInFixedMemoryAndEachGetsItsTurn) {
  RateLimiter limiter({10, 20});
  const std::size_t before = limiter.memory_bytes();
  EXPECT_LE(before, std::size_t{16} << 20);
  int refused = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    // One second, in which all of them come once.
    const auto now = kStart + std::chrono::microseconds(i);
    refused += limiter.take("customer-" + std::to_string(i), now).allowed ? 0 : 1;
  }
  EXPECT_EQ(refused, 0);
  EXPECT_EQ(limiter.memory_bytes(), before);
}

TEST(RateLimit, AFloodOfNamesDoesNotRefillANoisyCustomersBucket) {
  RateLimiter limiter({10, 20}, 1024);  // far too small for what follows
  int allowed = 0;
  int flood = 0;
  // Ten seconds: the noisy customer asks a thousand times a second, a hundred new names between.
  for (int ms = 0; ms < 10'000; ++ms) {
    const auto now = kStart + std::chrono::milliseconds(ms);
    allowed += limiter.take("noisy", now).allowed ? 1 : 0;
    for (int i = 0; i < 100; ++i) limiter.take("name-" + std::to_string(flood++), now);
  }
  EXPECT_LE(allowed, 20 + 100) << "no more than burst and rate allow";
}

TEST(RateLimit, KeysThatDriveEachOtherOutGainNothing) {
  // One set of four places for sixteen names, which take turns in driving each other out.
  RateLimiter limiter({10, 20}, 4);
  std::vector<int> allowed(16);
  for (int round = 0; round < 100; ++round) {
    for (std::size_t name = 0; name < allowed.size(); ++name) {
      for (int i = 0; i < 20; ++i) {
        allowed[name] += limiter.take("name-" + std::to_string(name), kStart).allowed ? 1 : 0;
      }
    }
  }
  int all = 0;
  for (const int one : allowed) {
    EXPECT_LE(one, 20);
    all += one;
  }
  EXPECT_LE(all, 4 * 20);
}

TEST(RateLimit, ANoisyCustomerDoesNotStarveOthers) {
  RateLimiter limiter({10, 20}, 4096);
  int refused = 0;
  for (int ms = 0; ms < 10'000; ++ms) {
    const auto now = kStart + std::chrono::milliseconds(ms);
    for (int i = 0; i < 100; ++i) limiter.take("noisy", now);
    // A thousand others, each once a second.
    refused += limiter.take("other-" + std::to_string(ms % 1000), now).allowed ? 0 : 1;
  }
  EXPECT_EQ(refused, 0);
}

TEST(RateLimit, ThreadsShareABucket) {
  RateLimiter limiter({1, 10'000}, 1024);
  std::atomic<int> allowed{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 5'000; ++i) allowed += limiter.take("alice", kStart).allowed ? 1 : 0;
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_EQ(allowed, 10'000);
}

TEST(RateLimit, ExtremeRatesDoNotOverflow) {
  for (const Rate rate : {Rate{1e-9, 4'000'000'000}, Rate{1e300, 4'000'000'000}, Rate{1e9, 1}}) {
    RateLimiter limiter(rate, 64);
    EXPECT_TRUE(limiter.take("alice", kStart).allowed);
    EXPECT_TRUE(limiter.take("alice", kStart + std::chrono::hours(1'000'000)).allowed);
  }
}

TEST(RateLimit, SaysSoInHeaders) {
  RateLimiter limiter({10, 20}, 1024);
  std::string out;
  append_rate_headers(out, "customer", limiter.rate(), limiter.take("alice", kStart));
  EXPECT_EQ(out, "RateLimit-Policy: \"customer\";q=20;w=2\r\nRateLimit: \"customer\";r=19;t=1\r\n");
  for (int i = 0; i < 20; ++i) limiter.take("alice", kStart);
  out.clear();
  append_rate_headers(out, "customer", limiter.rate(), limiter.take("alice", kStart));
  EXPECT_EQ(out,
            "RateLimit-Policy: \"customer\";q=20;w=2\r\nRateLimit: \"customer\";r=0;t=2\r\n"
            "Retry-After: 1\r\n");
}

}  // namespace
}  // namespace fairsale::api
