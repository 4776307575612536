// Explains purchases for the API, in a thread of its own: an explanation folds a part of the log,
// which may take seconds and the memory of one more sale, and no purchase may wait for that. One at
// a time, and few may wait.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "api/desk.hpp"
#include "core/log/event_log.hpp"

namespace fairsale::api {

struct ExplainJob {
  SkuHead sku;  // told from the log up to here, which must be durable
  Seq purchase;
  std::uint16_t origin = 0;  // the desk that waits for the answer
  http::Ticket ticket;
};

class Explainer {
 public:
  static constexpr std::size_t kMaxWaiting = 16;

  // Called with each answer, on the explainer's thread; also from stop().
  using Deliver = std::function<void(std::uint16_t origin, AnswerMail)>;

  // The log must outlive it.
  Explainer(const EventLog& log, Deliver deliver);
  ~Explainer();  // as stop()
  Explainer(const Explainer&) = delete;
  Explainer& operator=(const Explainer&) = delete;

  // Every job that is taken is answered once, whatever is thrown on the way. Returns false when too
  // many wait, or when it is stopping. From any thread; returns at once.
  bool ask(const ExplainJob&);

  // Breaks off what is under way; it and all that wait are answered with 503. From one thread.
  void stop();
  bool stopping() const { return stopping_; }

 private:
  void run();
  AnswerMail answer(const ExplainJob&) noexcept;
  AnswerMail try_to_answer(const ExplainJob&) const;

  const EventLog& log_;
  Deliver deliver_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<ExplainJob> waiting_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;
};

}  // namespace fairsale::api
