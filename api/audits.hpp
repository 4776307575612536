// Audits of the server's own data directory (projections/audit/audit.hpp), as `fairsale audit`
// makes them beside it: from a view of the store of its own, in a thread of its own, one at a time.
// Purchases go first.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/domain/types.hpp"
#include "core/log/result.hpp"

namespace fairsale::audit {
struct SaleReport;
}

namespace fairsale::api {

class Audits {
 public:
  static constexpr std::size_t kMostFindings = 100;

  explicit Audits(std::string data_directory) : directory_(std::move(data_directory)) {}
  ~Audits() { stop(); }
  Audits(const Audits&) = delete;
  Audits& operator=(const Audits&) = delete;

  // Begins one; false while one is under way, or when stopping. From any thread; returns at once.
  // With fairness every decision is held against the promises made to shoppers, too: that takes as
  // much memory again as the sale.
  bool begin(bool fairness, Timestamp now);

  // The last one: how far it has come, or what it found. From any thread.
  std::string json() const;

  // Breaks off what is under way, and returns whether something was; none begins any more. From one
  // thread.
  bool stop();

 private:
  enum class State : std::uint8_t { none, running, done, failed };

  struct Finding {
    std::string sku;
    std::string check;
    Seq position;
    std::string expected;
    std::string found;
  };

  void run() noexcept;
  Result<void> audit();
  void take(const audit::SaleReport&);
  void add(Finding);

  const std::string directory_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> events_{0};  // audited

  mutable std::mutex mutex_;  // guards the rest
  std::thread thread_;
  State state_ = State::none;
  bool broken_off_ = false;
  bool fairness_ = false;
  Timestamp began_at_;
  std::uint64_t events_in_all_ = 0;
  std::uint64_t sales_ = 0;
  bool sound_ = true;
  bool fair_ = true;
  std::vector<Finding> findings_;  // the first of them
  std::uint64_t findings_found_ = 0;
  std::string error_;
};

}  // namespace fairsale::api
