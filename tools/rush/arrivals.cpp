#include "tools/rush/arrivals.hpp"

#include <cmath>

namespace fairsale::rush {

Result<std::vector<RatePiece>> rate_curve(const CurveOptions& o) {
  const auto attempts = static_cast<double>(o.attempts);
  if (o.attempts == 0) return fail(Fault::invalid, "--attempts must be at least 1");
  if (o.flat_rate > 0) return std::vector<RatePiece>{{attempts / o.flat_rate, o.flat_rate}};
  if (o.spike < 1) return fail(Fault::invalid, "--spike is a factor of at least 1");
  if (o.lead_seconds < 0 || o.tail_seconds < 0 || o.spike_seconds < 0 || o.baseline < 0) {
    return fail(Fault::invalid, "durations and rates cannot be negative");
  }
  const double calm = o.lead_seconds + o.tail_seconds;
  double baseline = o.baseline;
  double spike_seconds = o.spike_seconds;
  double tail = o.tail_seconds;
  if (baseline == 0) {
    if (spike_seconds == 0) spike_seconds = 10;
    baseline = attempts / (calm + o.spike * spike_seconds);
  } else if (spike_seconds == 0) {
    spike_seconds = (attempts - baseline * calm) / (baseline * o.spike);
    if (spike_seconds <= 0) {
      return fail(Fault::invalid,
                  "at this --baseline all attempts come before the spike: lower it, raise "
                  "--attempts, or shorten --lead-seconds and --tail-seconds");
    }
  } else {
    const double before = baseline * (o.lead_seconds + o.spike * spike_seconds);
    if (before > attempts) {
      return fail(Fault::invalid,
                  "--baseline and --spike-seconds make more than --attempts: give only one of "
                  "the two, or raise --attempts");
    }
    tail = (attempts - before) / baseline;
  }
  return std::vector<RatePiece>{
      {o.lead_seconds, baseline}, {spike_seconds, baseline * o.spike}, {tail, baseline}};
}

std::vector<std::int64_t> plan_arrivals(const std::vector<RatePiece>& curve, std::size_t count,
                                        Random& random) {
  double total = 0;
  for (const RatePiece& p : curve) total += p.seconds * p.per_second;

  // Sums of exponential gaps, scaled to the total, are ordered uniform points: no sort needed.
  std::vector<double> points(count);
  double sum = 0;
  for (double& point : points) {
    sum -= std::log1p(-random.uniform());
    point = sum;
  }
  sum -= std::log1p(-random.uniform());

  // The inverse of the cumulative rate is piecewise linear; points come in order, so one pass.
  std::vector<std::int64_t> arrivals(count);
  std::size_t piece = 0;
  double count_before = 0;
  double time_before = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const double wanted = points[i] / sum * total;
    while (piece + 1 < curve.size() &&
           count_before + curve[piece].seconds * curve[piece].per_second <= wanted) {
      count_before += curve[piece].seconds * curve[piece].per_second;
      time_before += curve[piece].seconds;
      ++piece;
    }
    const double seconds = time_before + (wanted - count_before) / curve[piece].per_second;
    arrivals[i] = static_cast<std::int64_t>(seconds * 1e6);
  }
  return arrivals;
}

}  // namespace fairsale::rush
