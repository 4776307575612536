// Token buckets for millions of keys in fixed memory, shared by all workers without locks.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "api/http/worker.hpp"

namespace fairsale::api {

// Within these bounds no sum of the limiter's can overflow.
inline constexpr double kMinRate = 0.001;
inline constexpr double kMaxRate = 1e9;
inline constexpr std::uint32_t kMaxBurst = 1'000'000;

struct Rate {
  double per_second = 10;    // kMinRate to kMaxRate; 0: no limit
  std::uint32_t burst = 20;  // the bucket's size, 1 to kMaxBurst
};

struct Verdict {
  bool allowed = true;
  std::uint32_t remaining = 0;               // tokens left
  std::chrono::milliseconds retry_after{0};  // until one token is there; 0 when allowed
  std::chrono::milliseconds reset{0};        // until the bucket is full again
};

// Each bucket is one number, the time at which it will be full again (the generic cell rate
// algorithm), kept in a set-associative table of fixed size.
//
// What happens when more keys are active than the table holds: a new key takes the place of the
// fullest bucket of its set, and takes over its level. A full bucket is the same as none, so
// usually that costs nobody anything. When every bucket of the set is in debt, the newcomer starts
// with the smallest debt of the set. So a key is never credited with tokens it has spent: one that
// is driven out by a flood of other names comes back with at least its old debt, and the one in the
// deepest debt, the noisy one, is driven out last. The price is that under such a flood a new key
// may begin with a bucket that is not full. Keys are spread by a secret, random hash, so nobody can
// aim at another's set.
//
// Thread-safe; calls neither lock nor allocate.
class RateLimiter {
 public:
  using Clock = std::chrono::steady_clock;

  // `capacity` (keys) is rounded up to a power of two; 16 bytes each.
  explicit RateLimiter(const Rate&, std::size_t capacity = std::size_t{1} << 20);

  bool enabled() const { return interval_ns_ != 0; }

  // Takes a token of the customer's or the address's bucket. IPv6 addresses share a bucket by /64.
  Verdict take(std::string_view customer, Clock::time_point now);
  Verdict take(const http::ClientAddress&, Clock::time_point now);

  std::size_t memory_bytes() const;
  const Rate& rate() const { return rate_; }

 private:
  struct Entry {
    std::atomic<std::uint64_t> key{0};  // 0: free
    std::atomic<std::int64_t> full_at{0};
  };
  static constexpr std::size_t kWays = 4;
  struct alignas(64) Set {  // one cache line
    std::array<Entry, kWays> ways;
  };

  Verdict take_key(std::uint64_t key, Clock::time_point now);

  Rate rate_;
  std::int64_t interval_ns_ = 0;  // between tokens
  std::int64_t depth_ns_ = 0;     // interval * burst
  std::uint64_t seed_[2] = {};
  std::size_t set_mask_ = 0;
  std::unique_ptr<Set[]> sets_;
};

// Appends the header fields of an answer to a limited request:
// RateLimit-Policy: "customer";q=20;w=2, RateLimit: "customer";r=0;t=2 and, unless allowed,
// Retry-After in whole seconds, rounded up.
void append_rate_headers(std::string& out, std::string_view policy, const Rate&, const Verdict&);

}  // namespace fairsale::api
