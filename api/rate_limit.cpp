#include "api/rate_limit.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <random>

#include <fmt/format.h>

namespace fairsale::api {

namespace {

// SipHash-1-3 (J.-P. Aumasson, D. J. Bernstein): a keyed hash whose collisions cannot be found from
// outside.
class SipHash {
 public:
  SipHash(std::uint64_t k0, std::uint64_t k1)
      : v_{k0 ^ 0x736f6d6570736575ULL, k1 ^ 0x646f72616e646f6dULL, k0 ^ 0x6c7967656e657261ULL,
           k1 ^ 0x7465646279746573ULL} {}

  std::uint64_t operator()(std::string_view bytes) {
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, 8);
      absorb(word);
    }
    std::uint64_t tail = static_cast<std::uint64_t>(bytes.size()) << 56;
    for (std::size_t shift = 0; i < bytes.size(); ++i, shift += 8) {
      tail |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])) << shift;
    }
    absorb(tail);
    v_[2] ^= 0xff;
    for (int round = 0; round < 3; ++round) mix();
    return v_[0] ^ v_[1] ^ v_[2] ^ v_[3];
  }

 private:
  void absorb(std::uint64_t word) {
    v_[3] ^= word;
    mix();
    v_[0] ^= word;
  }
  void mix() {
    v_[0] += v_[1];
    v_[1] = std::rotl(v_[1], 13) ^ v_[0];
    v_[0] = std::rotl(v_[0], 32);
    v_[2] += v_[3];
    v_[3] = std::rotl(v_[3], 16) ^ v_[2];
    v_[0] += v_[3];
    v_[3] = std::rotl(v_[3], 21) ^ v_[0];
    v_[2] += v_[1];
    v_[1] = std::rotl(v_[1], 17) ^ v_[2];
    v_[2] = std::rotl(v_[2], 32);
  }

  std::uint64_t v_[4];
};

// 0 stands for a free place.
constexpr std::uint64_t usable(std::uint64_t key) { return key == 0 ? 1 : key; }

std::chrono::milliseconds ceil_ms(std::int64_t ns) {
  return std::chrono::milliseconds((ns + 999'999) / 1'000'000);
}

}  // namespace

RateLimiter::RateLimiter(const Rate& rate, std::size_t capacity) : rate_(rate) {
  if (!(rate_.per_second > 0)) return;
  rate_.per_second = std::clamp(rate_.per_second, kMinRate, kMaxRate);
  rate_.burst = std::clamp<std::uint32_t>(rate_.burst, 1, kMaxBurst);
  interval_ns_ = std::llround(1e9 / rate_.per_second);
  depth_ns_ = interval_ns_ * rate_.burst;
  std::random_device random;
  for (auto& word : seed_) word = (std::uint64_t{random()} << 32) | random();
  const std::size_t sets = std::bit_ceil(std::max<std::size_t>(capacity / kWays, 1));
  set_mask_ = sets - 1;
  sets_ = std::make_unique<Set[]>(sets);
}

Verdict RateLimiter::take(std::string_view customer, Clock::time_point now) {
  if (!enabled()) return {};
  return take_key(usable(SipHash(seed_[0], seed_[1])(customer)), now);
}

Verdict RateLimiter::take(const http::ClientAddress& address, Clock::time_point now) {
  if (!enabled()) return {};
  // A household or a rented machine has a whole /64 of IPv6 addresses.
  const std::size_t significant = address.is_v4() ? 16 : 8;
  const std::string_view bytes(reinterpret_cast<const char*>(address.bytes.data()), significant);
  return take_key(usable(SipHash(seed_[0], seed_[1])(bytes)), now);
}

Verdict RateLimiter::take_key(std::uint64_t key, Clock::time_point when) {
  const std::int64_t now =
      std::chrono::duration_cast<std::chrono::nanoseconds>(when.time_since_epoch()).count();
  auto& set = sets_[key & set_mask_].ways;
  Entry* entry = nullptr;
  for (std::size_t i = 0; i < kWays; ++i) {
    if (set[i].key.load(std::memory_order_relaxed) == key) entry = &set[i];
  }
  if (entry == nullptr) {
    // The fullest bucket's place and level. Should another thread take the place at the same time,
    // both keys are charged to one bucket for once.
    entry = &set[0];
    for (std::size_t i = 1; i < kWays; ++i) {
      if (set[i].full_at.load(std::memory_order_relaxed) <
          entry->full_at.load(std::memory_order_relaxed)) {
        entry = &set[i];
      }
    }
    entry->key.store(key, std::memory_order_relaxed);
  }

  std::int64_t full_at = entry->full_at.load(std::memory_order_relaxed);
  for (;;) {
    const std::int64_t base = std::max(full_at, now);
    const std::int64_t next = base + interval_ns_;
    Verdict v;
    if (next - now > depth_ns_) {
      v.allowed = false;
      v.retry_after = ceil_ms(next - now - depth_ns_);
      v.reset = ceil_ms(base - now);
      return v;
    }
    if (entry->full_at.compare_exchange_weak(full_at, next, std::memory_order_relaxed)) {
      v.remaining = static_cast<std::uint32_t>((depth_ns_ - (next - now)) / interval_ns_);
      v.reset = ceil_ms(next - now);
      return v;
    }
  }
}

std::size_t RateLimiter::memory_bytes() const { return sets_ ? (set_mask_ + 1) * sizeof(Set) : 0; }

void append_rate_headers(std::string& out, std::string_view policy, const Rate& rate,
                         const Verdict& verdict) {
  const auto seconds = [](std::chrono::milliseconds ms) { return (ms.count() + 999) / 1000; };
  const auto window =
      rate.per_second > 0 ? static_cast<std::int64_t>(std::ceil(rate.burst / rate.per_second)) : 0;
  fmt::format_to(std::back_inserter(out),
                 "RateLimit-Policy: \"{0}\";q={1};w={2}\r\nRateLimit: \"{0}\";r={3};t={4}\r\n",
                 policy, rate.burst, window, verdict.remaining, seconds(verdict.reset));
  if (!verdict.allowed) {
    fmt::format_to(std::back_inserter(out), "Retry-After: {}\r\n", seconds(verdict.retry_after));
  }
}

}  // namespace fairsale::api
