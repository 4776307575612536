// When each attempt of a crowd arrives: an open loop that does not wait for the server.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/log/result.hpp"
#include "tools/rush/random.hpp"

namespace fairsale::rush {

// A stretch of time at one mean rate.
struct RatePiece {
  double seconds = 0;
  double per_second = 0;
};

struct CurveOptions {
  std::size_t attempts = 0;
  double flat_rate = 0;      // > 0: no spike, this rate throughout
  double baseline = 0;       // arrivals/s before and after the spike; 0: what makes all fit
  double spike = 100;        // the spike's rate is this many times the baseline
  double spike_seconds = 0;  // 0: what makes all attempts fit, or 10 when the baseline is open too
  double lead_seconds = 1;   // at the baseline, before the spike
  double tail_seconds = 1;   // at the baseline, after it
};

// The curve whose integral is `attempts`. What does not fit into a curve that is fully given comes
// at the baseline rate afterwards. Fault::invalid when the options contradict each other.
Result<std::vector<RatePiece>> rate_curve(const CurveOptions&);

// Microseconds from the start, ascending: `count` arrivals of a Poisson process with that rate,
// given that there are so many. Deterministic for a seed.
std::vector<std::int64_t> plan_arrivals(const std::vector<RatePiece>&, std::size_t count, Random&);

}  // namespace fairsale::rush
