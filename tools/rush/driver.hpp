// Sends each task until it has an answer for good: repeats it when the connection broke, the
// server restarted, or it said 429 or 503, after the time that Retry-After asks for. The caller
// renders the same bytes each time, so that a repeat carries the same idempotency key.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <queue>
#include <span>
#include <vector>

#include "core/log/result.hpp"
#include "tools/rush/http.hpp"
#include "tools/rush/random.hpp"

namespace fairsale::rush {

struct PushbackCounters {
  std::uint64_t rate_limited = 0;   // 429
  std::uint64_t unavailable = 0;    // 503
  std::uint64_t timed_out = 0;      // 408
  std::uint64_t server_errors = 0;  // other 5xx
};

class Driver final : private HttpPool::Owner {
 public:
  class Work {
   public:
    virtual void render(const Task&, std::string& out) = 0;
    // The answer for good. `sent_us` is when this (the last) try was sent.
    virtual void answered(const Task&, const Response&, std::int64_t sent_us,
                          std::int64_t now_us) = 0;
    // Called every 50 ms or so; false ends run().
    virtual bool tick(std::int64_t now_us) = 0;

   protected:
    ~Work() = default;
  };

  Driver(HttpPool pool, std::uint64_t seed) : pool_(std::move(pool)), random_(seed) {}

  // Open-loop arrivals: task i of `kind` is due at start_us + offsets_us[i], which ascend. With
  // `closed_loop` the times are ignored and a task is due as soon as a connection is free.
  // The offsets must outlive run().
  void arrive(std::uint8_t kind, std::span<const std::int64_t> offsets_us, std::int64_t start_us,
              bool closed_loop);
  // Drops the arrivals that are not due yet.
  void stop_arrivals() { arrivals_ = arrivals_.first(next_arrival_); }
  std::size_t arrived() const { return next_arrival_; }
  bool all_arrived() const { return next_arrival_ == arrivals_.size(); }

  void submit(const Task& task) { ready(task).push_back(task); }
  void submit_at(const Task& task, std::int64_t due_us) { timers_.push({due_us, task}); }

  // Runs until work.tick() says so. Fails (Fault::io) when nothing got its answer for good for
  // `patience_us` although something was asked; 429 and 503 are no such answers.
  Result<void> run(Work& work, std::int64_t patience_us);

  // Tasks submitted or arrived that have no final answer yet, those with a future due time
  // included.
  std::size_t unanswered() const {
    return ready_[0].size() + ready_[1].size() + timers_.size() + in_flight_;
  }

  const WireCounters& wire() const { return pool_.counters(); }
  const PushbackCounters& pushback() const { return pushback_; }

 private:
  struct Timer {
    std::int64_t due_us;
    Task task;
    friend bool operator>(const Timer& a, const Timer& b) { return a.due_us > b.due_us; }
  };

  void render(const Task&, std::string& out) override;
  void on_response(const Task&, const Response&, std::int64_t sent_us) override;
  void on_lost(const Task&, Lost) override;
  void again(Task, std::int64_t pause_us);
  std::deque<Task>& ready(const Task& t) { return ready_[t.urgent ? 0 : 1]; }
  void collect_due(std::int64_t now);
  void dispatch();

  HttpPool pool_;
  Random random_;
  Work* work_ = nullptr;
  std::span<const std::int64_t> arrivals_;
  std::size_t next_arrival_ = 0;
  std::uint8_t arrival_kind_ = 0;
  std::int64_t start_us_ = 0;
  bool closed_loop_ = false;
  std::array<std::deque<Task>, 2> ready_;
  std::priority_queue<Timer, std::vector<Timer>, std::greater<>> timers_;
  std::size_t in_flight_ = 0;
  std::size_t pausing_ = 0;  // of the timers: those that wait to be sent again
  int last_pushback_ = 0;    // the latest status that was no answer for good; 0: broken connection
  std::int64_t last_answer_us_ = 0;
  PushbackCounters pushback_;
};

}  // namespace fairsale::rush
