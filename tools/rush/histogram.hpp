// Latencies in log-linear buckets: 128 to each power of two, so that a percentile is at most 0.8 %
// above the truth, in memory that does not grow with the number of values.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fairsale::rush {

// Values are microseconds; what is above 2^40 (12 days) counts as 2^40. Not thread-safe.
class Histogram {
 public:
  void record(std::uint64_t value);

  std::uint64_t count() const { return count_; }
  std::uint64_t max() const { return max_; }
  double mean() const;

  // The smallest value (rounded up to its bucket's end, but never above max()) that at least this
  // percentage of the values do not exceed. 0 when there are none.
  std::uint64_t percentile(double percent) const;

 private:
  static constexpr unsigned kSubBits = 7;
  static constexpr unsigned kMaxBits = 40;
  static constexpr std::uint64_t kMaxValue = std::uint64_t{1} << kMaxBits;

  static std::size_t bucket_of(std::uint64_t value);
  static std::uint64_t end_of(std::size_t bucket);

  std::array<std::uint64_t, (kMaxBits - kSubBits + 2) << kSubBits> buckets_{};
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
  double sum_ = 0;
};

}  // namespace fairsale::rush
