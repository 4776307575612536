// All chance of a simulation: numbers that follow from the seed and from nothing else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace fairsale::sim {

// SplitMix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014).
class Chance {
 public:
  // Each stream of a seed is independent of the others, so that leaving one out changes no other.
  Chance(std::uint64_t seed, std::uint64_t stream)
      : state_(mix(seed + kGolden) ^ mix(~stream * kGolden)) {}

  std::uint64_t next() { return mix(state_ += kGolden); }

  // 0 to n - 1; n >= 1.
  std::uint32_t below(std::uint64_t n) {
    return static_cast<std::uint32_t>(((next() >> 32) * n) >> 32);
  }
  std::int64_t between(std::int64_t low, std::int64_t high) {
    return low + below(static_cast<std::uint64_t>(high - low + 1));
  }
  bool one_in(std::uint32_t n) { return below(n) == 0; }

  template <class T>
  T pick(std::initializer_list<T> from) {
    return *(from.begin() + below(from.size()));
  }

 private:
  static constexpr std::uint64_t kGolden = 0x9e37'79b9'7f4a'7c15;

  static std::uint64_t mix(std::uint64_t z) {
    z = (z ^ (z >> 30)) * 0xbf58'476d'1ce4'e5b9;
    z = (z ^ (z >> 27)) * 0x94d0'49bb'1331'11eb;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

}  // namespace fairsale::sim
