#include "api/metrics.hpp"

#include <prometheus/text_serializer.h>

#include <sstream>

namespace fairsale::api {

namespace {

prometheus::Counter& counter(prometheus::Registry& r, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(r).Add({});
}

prometheus::Gauge& gauge(prometheus::Registry& r, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(r).Add({});
}

prometheus::Histogram& histogram(prometheus::Registry& r, const char* name, const char* help,
                                 const prometheus::Histogram::BucketBoundaries& buckets) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(r).Add({}, buckets);
}

}  // namespace

Metrics::Metrics()
    : requests(counter(registry, "fairsale_http_requests_total", "Requests handed to the API.")),
      events(counter(registry, "fairsale_log_events_total", "Events made durable.")),
      blocks(counter(registry, "fairsale_log_blocks_total", "Blocks made durable.")),
      log_bytes(counter(registry, "fairsale_log_bytes_total", "Bytes of blocks made durable.")),
      snapshots(counter(registry, "fairsale_snapshots_total", "Snapshots taken.")),
      rate_limited(counter(registry, "fairsale_rate_limited_total", "Requests answered with 429.")),
      overloaded(counter(registry, "fairsale_overloaded_total",
                         "Requests answered with 503 because the inbox was full.")),
      denied(counter(registry, "fairsale_denied_total", "Requests answered with 401 or 403.")),
      edge_refused(counter(registry, "fairsale_http_refused_total",
                           "Requests that were malformed or over a bound.")),
      edge_timeouts(counter(registry, "fairsale_http_timeouts_total",
                            "Slow requests, idle connections and stalled answers given up.")),
      turn_events(histogram(registry, "fairsale_turn_events", "Events in one commit.",
                            {1, 4, 16, 64, 256, 1024, 4096})),
      turn_seconds(histogram(
          registry, "fairsale_turn_seconds", "Time to commit and decide what had arrived.",
          {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1})),
      connections(gauge(registry, "fairsale_http_connections", "Open connections.")),
      skus(gauge(registry, "fairsale_skus", "SKUs with a log.")),
      projection_lag_(prometheus::BuildGauge()
                          .Name("fairsale_projection_lag_events")
                          .Help("Events in the log that a stored projection does not show yet.")
                          .Register(registry)),
      projection_progress_(prometheus::BuildGauge()
                               .Name("fairsale_projection_progress")
                               .Help("How far a projection's rebuild has come; 1 when none is "
                                     "under way.")
                               .Register(registry)) {
  auto& kinds = prometheus::BuildCounter()
                    .Name("fairsale_answers_total")
                    .Help("Answers to events, by decision.")
                    .Register(registry);
  auto& reasons = prometheus::BuildCounter()
                      .Name("fairsale_refusals_total")
                      .Help("Refusals, by reason.")
                      .Register(registry);
  for (std::size_t i = 1; i < kKinds; ++i) {
    const auto name = name_of(static_cast<DecisionKind>(i));
    if (name != "unknown") kinds_[i] = &kinds.Add({{"decision", std::string(name)}});
  }
  for (std::size_t i = 1; i < kReasons; ++i) {
    const auto name = name_of(static_cast<Reason>(i));
    if (name != "unknown") reasons_[i] = &reasons.Add({{"reason", std::string(name)}});
  }
}

std::string Metrics::text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, registry.Collect());
  return std::move(out).str();
}

void Metrics::projection(std::string_view name, double lag, double progress) {
  const prometheus::Labels labels{{"projection", std::string(name)}};
  projection_lag_.Add(labels).Set(lag);
  projection_progress_.Add(labels).Set(progress);
}

void Metrics::answered(const std::array<std::uint32_t, kKinds>& kinds,
                       const std::array<std::uint32_t, kReasons>& reasons) {
  for (std::size_t i = 0; i < kKinds; ++i) {
    if (kinds[i] != 0 && kinds_[i] != nullptr) kinds_[i]->Increment(kinds[i]);
  }
  for (std::size_t i = 0; i < kReasons; ++i) {
    if (reasons[i] != 0 && reasons_[i] != nullptr) reasons_[i]->Increment(reasons[i]);
  }
}

}  // namespace fairsale::api
