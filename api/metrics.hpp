// What the server tells Prometheus. Nothing personal is ever a label: no customer, no SKU.
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "api/cluster/figures.hpp"
#include "core/domain/decision.hpp"
#include "projections/outbox/dispatcher.hpp"

namespace fairsale::api {

// Thread-safe. Desks add once per turn, not once per request.
class Metrics {
 public:
  static constexpr std::size_t kReasons = 64;
  static constexpr std::size_t kKinds = 32;

  Metrics();

  // The Prometheus text format, version 0.0.4.
  std::string text() const;

  // The figures that change fast, as one JSON object: counters since the start, and the histogram
  // of turns with cumulative counts, so that rates and quantiles come from the difference of two.
  std::string json() const;

  // Answers to events, by kind of decision and by reason of refusal.
  void answered(const std::array<std::uint32_t, kKinds>& kinds,
                const std::array<std::uint32_t, kReasons>& reasons);

  // How far behind the log a stored projection is, and how far its rebuild has come (1: none is
  // under way).
  void projection(std::string_view name, double lag, double progress);

  // How each consumer of the outbox does; those that are gone are not shown any more.
  void outbox(const std::vector<ConsumerStatus>&);

  // How this node of a cluster does. A server that is alone shows nothing of it.
  void cluster(const ClusterFigures&);

  prometheus::Registry registry;
  prometheus::Counter& requests;
  prometheus::Counter& events;
  prometheus::Counter& blocks;
  prometheus::Counter& log_bytes;
  prometheus::Counter& snapshots;
  prometheus::Counter& rate_limited;
  prometheus::Counter& overloaded;
  prometheus::Counter& denied;
  prometheus::Counter& edge_refused;
  prometheus::Counter& edge_timeouts;
  prometheus::Histogram& turn_events;
  prometheus::Histogram& turn_seconds;
  prometheus::Gauge& connections;
  prometheus::Gauge& skus;

 private:
  std::array<prometheus::Counter*, kKinds> kinds_{};
  std::array<prometheus::Counter*, kReasons> reasons_{};
  prometheus::Family<prometheus::Gauge>& projection_lag_;
  prometheus::Family<prometheus::Gauge>& projection_progress_;
  prometheus::Family<prometheus::Counter>& outbox_taken_;
  prometheus::Family<prometheus::Gauge>& outbox_behind_;
  prometheus::Family<prometheus::Gauge>& outbox_failures_;

  prometheus::Family<prometheus::Gauge>& cluster_ready_;
  prometheus::Family<prometheus::Gauge>& cluster_nodes_;
  prometheus::Family<prometheus::Gauge>& cluster_requests_;
  prometheus::Family<prometheus::Gauge>& cluster_generation_;
  prometheus::Family<prometheus::Gauge>& cluster_message_;
  prometheus::Family<prometheus::Gauge>& cluster_lag_messages_;
  prometheus::Family<prometheus::Gauge>& cluster_lag_generations_;
  prometheus::Family<prometheus::Gauge>& cluster_stopped_;
  prometheus::Family<prometheus::Gauge>& cluster_waits_;
  prometheus::Family<prometheus::Gauge>& cluster_next_ready_;
  prometheus::Family<prometheus::Counter>& cluster_changes_;
  prometheus::Family<prometheus::Gauge>& cluster_processor_generation_;
  prometheus::Family<prometheus::Gauge>& cluster_processor_message_;

  struct OutboxSeries {
    prometheus::Counter* taken;
    prometheus::Gauge* behind;
    prometheus::Gauge* failures;
  };
  std::mutex outbox_mutex_;
  std::map<std::string, OutboxSeries> outbox_;  // by consumer
  struct TakerSeries {
    prometheus::Gauge* generation;
    prometheus::Gauge* message;
  };
  std::mutex cluster_mutex_;
  std::map<std::pair<std::string, std::string>, TakerSeries> cluster_takers_;  // partition, node
};

}  // namespace fairsale::api
