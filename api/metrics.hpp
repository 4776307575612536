// What the server tells Prometheus. Nothing personal is ever a label: no customer, no SKU.
#pragma once

#include <array>
#include <string>
#include <string_view>

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include "core/domain/decision.hpp"

namespace fairsale::api {

// Thread-safe. Desks add once per turn, not once per request.
class Metrics {
 public:
  static constexpr std::size_t kReasons = 64;
  static constexpr std::size_t kKinds = 32;

  Metrics();

  // The Prometheus text format, version 0.0.4.
  std::string text() const;

  // Answers to events, by kind of decision and by reason of refusal.
  void answered(const std::array<std::uint32_t, kKinds>& kinds,
                const std::array<std::uint32_t, kReasons>& reasons);

  // How far behind the log a stored projection is, and how far its rebuild has come (1: none is
  // under way).
  void projection(std::string_view name, double lag, double progress);

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
};

}  // namespace fairsale::api
