// A crowd at the opening of a sale, over real HTTP: attempts arrive by a plan whatever the server
// does, repeats and double clicks included; who holds units pays, gives up or leaves; who waits
// is followed from the head of the line.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tools/rush/arrivals.hpp"
#include "tools/rush/claim.hpp"
#include "tools/rush/driver.hpp"
#include "tools/rush/histogram.hpp"
#include "tools/rush/record.hpp"
#include "tools/rush/requests.hpp"
#include "tools/rush/verify.hpp"

namespace fairsale::rush {

struct CrowdOptions {
  std::size_t attempts = 200'000;
  std::uint32_t customers = 50'000;
  std::vector<std::uint16_t> units = {1};  // of an attempt: one of these, each as likely
  CurveOptions curve;
  double duration_seconds = 0;  // > 0: attempts planned for later do not come
  bool closed_loop = false;     // each connection sends as soon as it is free
  double pay = 0.7;             // of those who hold units; the rest leaves without a word
  double cancel = 0.1;
  double pay_delay_from = 0.1;  // seconds from the hold to the payment or cancellation
  double pay_delay_to = 1.0;
  double retry = 0.02;              // share of attempts repeated later with the same key
  double retry_within_seconds = 2;  // of their answer
  double duplicate = 0.02;          // share of attempts sent twice at once with the same key
  bool until_settled = false;
  double settle_seconds = 120;  // bound of what follows the last arrival
  std::uint64_t seed = 0;
  std::int64_t patience_us = 60'000'000;  // without any answer
};

struct CrowdReport {
  std::array<std::uint64_t, 4> first{};     // by First
  std::array<std::uint64_t, 64> refused{};  // by Reason
  std::uint64_t offered = 0;
  std::uint64_t paid = 0;
  std::uint64_t refund_due = 0;
  std::uint64_t payments_refused = 0;
  std::uint64_t given_up = 0;
  std::uint64_t give_up_refused = 0;  // the hold had ended before
  std::uint64_t left = 0;
  std::uint64_t repeats = 0;                // answers beyond the first to one attempt
  std::map<int, std::uint64_t> unexpected;  // answers that fit nothing, by HTTP status
  std::string first_unexpected;
  bool settled = false;
  double seconds = 0;                 // from the start to the end of everything
  double attempt_seconds = 0;         // from the first attempt's arrival to the last first answer
  std::uint64_t peak_per_second = 0;  // most first answers in one second
  Histogram attempt_latency;  // from the planned arrival to the first answer, waits included
  Histogram attempt_service;  // of the one request that was answered
  Histogram payment_service;
  Histogram read_service;
};

class Crowd final : public Driver::Work {
 public:
  // `record` may be null. Everything outlives the crowd.
  Crowd(Driver&, const Requests&, const RunInfo&, const CrowdOptions&, const SaleFacts&,
        RecordWriter* record, Violations&);

  // Plans and runs. `interrupted` is looked at every tick: set, it ends the arrivals and what has
  // not been answered. `progress` is called every tick.
  Result<void> run(const std::vector<RatePiece>& curve, const volatile int& interrupted,
                   const std::function<void(const Crowd&)>& progress);

  const CrowdReport& report() const { return report_; }
  const std::vector<Claim>& claims() const { return claims_; }
  std::size_t arrived() const { return driver_.arrived(); }
  std::size_t planned() const { return arrivals_.size(); }
  const SaleFacts& sale() const { return sale_; }
  const Driver& driver() const { return driver_; }

 private:
  enum Kind : std::uint8_t { attempt, repeat, payment, cancel, look, look_at_sale };
  enum Intent : std::uint8_t { pay, give_up, leave };

  struct Plan {
    Intent intent = leave;
    bool repeats = false;
    bool doubles = false;
    bool fresh = false;    // an answer without Idempotent-Replayed has come
    bool looking = false;  // a look at it is under way
    std::int64_t looked_us = 0;
  };

  void render(const Task&, std::string& out) override;
  void answered(const Task&, const Response&, std::int64_t sent_us, std::int64_t now_us) override;
  bool tick(std::int64_t now_us) override;

  void plan(const std::vector<RatePiece>& curve);
  void on_attempt(const Task&, const Response&, std::int64_t sent_us, std::int64_t now);
  void first_answer(std::uint32_t i, const Response&, std::int64_t sent_us, std::int64_t now);
  void on_payment(std::uint32_t i, const Response&);
  void on_cancel(std::uint32_t i, const Response&);
  void on_look(std::uint32_t i, const Response&, std::int64_t now);
  void hold(std::uint32_t i, std::int64_t now);
  void look_at_head(std::int64_t now);
  void unexpected(const Task&, const Response&);
  std::int64_t wall_ms(std::int64_t us) const { return wall_offset_ms_ + us / 1000; }

  Driver& driver_;
  const Requests& requests_;
  const RunInfo& info_;
  const CrowdOptions& options_;
  SaleFacts sale_;
  RecordWriter* record_;
  Violations& violations_;
  const volatile int* interrupted_ = nullptr;
  const std::function<void(const Crowd&)>* progress_ = nullptr;
  Random random_;
  AnswerReader reader_;
  CrowdReport report_;
  std::vector<Claim> claims_;
  std::vector<Plan> plans_;
  std::vector<std::int64_t> arrivals_;
  // Who waits, by quantity and log position: units come to the smallest first.
  std::map<std::uint16_t, std::map<std::uint64_t, std::uint32_t>> line_;
  std::int64_t start_us_ = 0;
  std::int64_t wall_offset_ms_ = 0;
  std::int64_t last_answer_us_ = 0;
  std::int64_t last_look_us_ = 0;
  std::int64_t all_answered_us_ = 0;
  std::int64_t second_ = -1;
  std::uint64_t in_second_ = 0;
  std::size_t looks_ = 0;  // looks at purchases and at the sale that are under way
  bool looking_at_sale_ = false;
  bool token_refused_ = false;  // 401: nobody will get in
  std::int64_t sale_seen_us_ = 0;
};

}  // namespace fairsale::rush
