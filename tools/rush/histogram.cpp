#include "tools/rush/histogram.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace fairsale::rush {

// Values below 2^kSubBits have a bucket each. Above, the power of two chooses a group of
// 2^kSubBits buckets and the bits after the leading one choose within it.
std::size_t Histogram::bucket_of(std::uint64_t value) {
  const auto width = static_cast<unsigned>(std::bit_width(value));
  if (width <= kSubBits) return value;
  const unsigned shift = width - kSubBits - 1;
  return (std::size_t{shift} << kSubBits) + (value >> shift);
}

std::uint64_t Histogram::end_of(std::size_t bucket) {
  if (bucket < (std::size_t{2} << kSubBits)) return bucket;
  const std::size_t shift = (bucket >> kSubBits) - 1;
  const std::uint64_t top = (bucket & ((1U << kSubBits) - 1)) + (1U << kSubBits);
  return ((top + 1) << shift) - 1;
}

void Histogram::record(std::uint64_t value) {
  value = std::min(value, kMaxValue);
  ++buckets_[bucket_of(value)];
  ++count_;
  max_ = std::max(max_, value);
  sum_ += static_cast<double>(value);
}

double Histogram::mean() const { return count_ == 0 ? 0 : sum_ / static_cast<double>(count_); }

std::uint64_t Histogram::percentile(double percent) const {
  if (count_ == 0) return 0;
  const double share = std::clamp(percent, 0.0, 100.0) / 100 * static_cast<double>(count_);
  const auto wanted = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::ceil(share)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < buckets_.size(); ++i) {
    seen += buckets_[i];
    if (seen >= wanted) return std::min(end_of(i), max_);
  }
  return max_;
}

}  // namespace fairsale::rush
