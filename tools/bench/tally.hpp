// Counts of a measurement: answers by role and kind, and how long they took.
#pragma once

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "tools/bench/answer.hpp"
#include "tools/bench/traffic.hpp"
#include "tools/rush/histogram.hpp"

namespace fairsale::bench {

class Tally {
 public:
  using Kinds = std::vector<std::pair<Label, std::uint64_t>>;

  void count(Role, const Label&);
  // The same, and it took so long (microseconds). What was pushed back (HTTP 429 and 503) is apart
  // from what was answered.
  void count(Role, const Label&, std::uint64_t latency_us);

  const Kinds& kinds(Role role) const { return kinds_[static_cast<std::size_t>(role)]; }
  const rush::Histogram& latency() const { return latency_; }
  const rush::Histogram& pushed_back() const { return pushed_back_; }
  std::uint64_t answers() const;

 private:
  std::array<Kinds, kRoles> kinds_;
  rush::Histogram latency_;
  rush::Histogram pushed_back_;
};

}  // namespace fairsale::bench
