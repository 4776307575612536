#include "api/metrics.hpp"

#include <prometheus/text_serializer.h>

#include <cmath>
#include <sstream>

#include "core/json/json.hpp"

namespace fairsale::api {

namespace {

prometheus::Counter& counter(prometheus::Registry& r, const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(r).Add({});
}

prometheus::Gauge& gauge(prometheus::Registry& r, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(r).Add({});
}

prometheus::Family<prometheus::Gauge>& gauges(prometheus::Registry& r, const char* name,
                                              const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(r);
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
                               .Register(registry)),
      outbox_taken_(prometheus::BuildCounter()
                        .Name("fairsale_outbox_taken_total")
                        .Help("Messages that a consumer of the outbox has taken.")
                        .Register(registry)),
      outbox_behind_(prometheus::BuildGauge()
                         .Name("fairsale_outbox_behind_skus")
                         .Help("SKUs of which there are, or may be, messages for a consumer.")
                         .Register(registry)),
      outbox_failures_(prometheus::BuildGauge()
                           .Name("fairsale_outbox_failures")
                           .Help("Failures of a consumer since it last took something.")
                           .Register(registry)),
      cluster_ready_(gauges(registry, "fairsale_cluster_ready",
                            "1 when this node of a cluster can do its work, else 0.")),
      cluster_nodes_(gauges(registry, "fairsale_cluster_nodes",
                            "Nodes of the cluster that are alive, by role, this one included.")),
      cluster_requests_(gauges(registry, "fairsale_cluster_requests_under_way",
                               "Requests of clients that wait for what processors answer.")),
      cluster_generation_(
          gauges(registry, "fairsale_cluster_generation", "Generation of a partition's stream.")),
      cluster_message_(gauges(registry, "fairsale_cluster_message",
                              "Message of a partition's stream up to which the log has come.")),
      cluster_lag_messages_(gauges(registry, "fairsale_cluster_lag_messages",
                                   "Messages behind the furthest processor that is heard of; 0 "
                                   "when behind by generations.")),
      cluster_lag_generations_(gauges(registry, "fairsale_cluster_lag_generations",
                                      "Generations of a partition's stream behind the furthest "
                                      "processor that is heard of.")),
      cluster_stopped_(gauges(registry, "fairsale_cluster_stopped",
                              "1 when nothing more of a partition is taken until somebody has "
                              "looked at it, else 0.")),
      cluster_waits_(gauges(registry, "fairsale_cluster_waits",
                            "1 when nothing of a partition is taken just now, else 0.")),
      cluster_next_ready_(gauges(registry, "fairsale_cluster_next_ready",
                                 "1 when a partition has a stream to go over to when its own is "
                                 "silent, else 0.")),
      cluster_changes_(prometheus::BuildCounter()
                           .Name("fairsale_cluster_stream_changes_total")
                           .Help("Times that a partition went over to another generation of its "
                                 "stream.")
                           .Register(registry)),
      cluster_processor_generation_(
          gauges(registry, "fairsale_cluster_processor_generation",
                 "Generation of a partition's stream at each processor that takes it, as that says "
                 "in its heartbeats.")),
      cluster_processor_message_(gauges(registry, "fairsale_cluster_processor_message",
                                        "Message of that stream up to which it has come.")) {
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

std::string Metrics::json() const {
  const auto count = [](const auto& metric) { return static_cast<std::uint64_t>(metric.Value()); };
  const auto turns = turn_seconds.Collect().histogram;
  std::string out;
  fmt::format_to(
      std::back_inserter(out),
      R"({{"requests":{},"events":{},"blocks":{},"rate_limited":{},"overloaded":{},)"
      R"("denied":{},"connections":{},"turns":{{"count":{},"seconds":{:.6f},"buckets":[)",
      count(requests), count(events), count(blocks), count(rate_limited), count(overloaded),
      count(denied), count(connections), turns.sample_count, turns.sample_sum);
  for (const auto& bucket : turns.bucket) {
    if (out.back() != '[') out += ',';
    const bool bounded = std::isfinite(bucket.upper_bound);
    fmt::format_to(std::back_inserter(out), R"({{"up_to":{},"count":{}}})",
                   bounded ? fmt::format("{}", bucket.upper_bound) : "null",
                   bucket.cumulative_count);
  }
  out += "]}}";
  return out;
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

void Metrics::outbox(const std::vector<ConsumerStatus>& consumers) {
  const std::scoped_lock lock(outbox_mutex_);
  std::map<std::string, OutboxSeries> before;
  before.swap(outbox_);
  for (const ConsumerStatus& c : consumers) {
    auto node = before.extract(c.name);
    if (node.empty()) {
      const prometheus::Labels labels{{"consumer", c.name}};
      outbox_[c.name] = {&outbox_taken_.Add(labels), &outbox_behind_.Add(labels),
                         &outbox_failures_.Add(labels)};
    } else {
      outbox_.insert(std::move(node));
    }
    const OutboxSeries& series = outbox_[c.name];
    series.taken->Increment(static_cast<double>(c.taken) - series.taken->Value());
    series.behind->Set(static_cast<double>(c.skus_behind));
    series.failures->Set(c.failures);
  }
  for (const auto& [name, gone] : before) {
    outbox_taken_.Remove(gone.taken);
    outbox_behind_.Remove(gone.behind);
    outbox_failures_.Remove(gone.failures);
  }
}

void Metrics::cluster(const ClusterFigures& figures) {
  const std::scoped_lock lock(cluster_mutex_);
  cluster_ready_.Add({}).Set(figures.not_ready.empty() ? 1 : 0);
  cluster_nodes_.Add({{"role", "processor"}}).Set(static_cast<double>(figures.processors));
  cluster_nodes_.Add({{"role", "edge"}}).Set(static_cast<double>(figures.edges));
  cluster_requests_.Add({}).Set(static_cast<double>(figures.requests_under_way));
  for (const auto& p : figures.partitions) {
    const prometheus::Labels labels{{"partition", std::to_string(p.id.value)}};
    cluster_generation_.Add(labels).Set(p.position.generation);
    cluster_message_.Add(labels).Set(static_cast<double>(p.position.sequence));
    cluster_lag_messages_.Add(labels).Set(static_cast<double>(p.lag_messages));
    cluster_lag_generations_.Add(labels).Set(p.lag_generations);
    cluster_stopped_.Add(labels).Set(p.stopped.empty() ? 0 : 1);
    cluster_waits_.Add(labels).Set(p.waits.empty() ? 0 : 1);
    cluster_next_ready_.Add(labels).Set(p.next_ready ? 1 : 0);
    // Whoever asks later may have seen more already.
    prometheus::Counter& changes = cluster_changes_.Add(labels);
    const double more = static_cast<double>(p.changes) - changes.Value();
    if (more > 0) changes.Increment(more);
  }
  std::map<std::pair<std::string, std::string>, TakerSeries> before;
  before.swap(cluster_takers_);
  for (const auto& taker : figures.takers) {
    const std::pair key{std::to_string(taker.partition.value), taker.node};
    const prometheus::Labels labels{{"partition", key.first}, {"node", key.second}};
    before.erase(key);
    const TakerSeries series{&cluster_processor_generation_.Add(labels),
                             &cluster_processor_message_.Add(labels)};
    series.generation->Set(taker.position.generation);
    series.message->Set(static_cast<double>(taker.position.sequence));
    cluster_takers_[key] = series;
  }
  for (const auto& [_, gone] : before) {
    cluster_processor_generation_.Remove(gone.generation);
    cluster_processor_message_.Remove(gone.message);
  }
}

}  // namespace fairsale::api
