#include "api/explainer.hpp"

#include <spdlog/spdlog.h>

#include <exception>

#include "api/http/problem.hpp"
#include "api/reasons.hpp"
#include "core/explain/explain.hpp"
#include "core/log/priority.hpp"

namespace fairsale::api {

namespace {

AnswerMail problem(http::Ticket ticket, const http::Problem& p) {
  AnswerMail mail{.ticket = ticket, .status = p.status, .content_type = http::kProblemJson};
  if (p.status == 503) mail.headers = "Retry-After: 1\r\n";
  http::append_problem(mail.body, p);
  return mail;
}

AnswerMail cannot_now(http::Ticket ticket) {
  return problem(ticket, {503, "overloaded", "Overloaded",
                          "The explanation could not be made now; the server's log says why."});
}

}  // namespace

Explainer::Explainer(const EventLog& log, Deliver deliver)
    : log_(log), deliver_(std::move(deliver)), thread_([this] { run(); }) {}

Explainer::~Explainer() { stop(); }

bool Explainer::ask(const ExplainJob& job) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_ || waiting_.size() >= kMaxWaiting) return false;
    waiting_.push_back(job);
  }
  changed_.notify_one();
  return true;
}

void Explainer::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Explainer::run() {
  work_in_background();
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const ExplainJob job = waiting_.front();
    waiting_.pop_front();
    lock.unlock();
    try {
      deliver_(job.origin, answer(job));
    } catch (const std::exception& e) {
      spdlog::error("An explanation could not be delivered: {}", e.what());
    } catch (...) {
      spdlog::error("An explanation could not be delivered");
    }
    lock.lock();
  }
}

// The thread has nobody to pass an exception on to, and the job must be answered all the same.
AnswerMail Explainer::answer(const ExplainJob& job) noexcept {
  try {
    return try_to_answer(job);
  } catch (const std::exception& e) {
    spdlog::error("A purchase could not be explained: {}", e.what());
  } catch (...) {
    spdlog::error("A purchase could not be explained");
  }
  try {
    return cannot_now(job.ticket);
  } catch (...) {
    return {.ticket = job.ticket, .status = 503, .content_type = http::kProblemJson};
  }
}

AnswerMail Explainer::try_to_answer(const ExplainJob& job) const {
  const auto explanation = explain(log_, job.sku, {.purchase = job.purchase}, [&](std::uint64_t) {
    return !stopping_.load(std::memory_order_relaxed);
  });
  if (explanation) {
    AnswerMail mail{.ticket = job.ticket, .status = 200, .content_type = http::kJson};
    mail.headers = "Cache-Control: no-store\r\n";
    append_json(mail.body, *explanation);
    return mail;
  }
  if (stopping_) {
    return problem(job.ticket, {503, "stopping", "Stopping",
                                "The server is going down; try again when it is back."});
  }
  if (explanation.error().fault == Fault::not_found) {
    const Wording w = wording_of(Reason::unknown_purchase);
    return problem(job.ticket, {w.status, name_of(Reason::unknown_purchase), w.title, w.detail});
  }
  spdlog::error("A purchase could not be explained: {}", explanation.error().message);
  return cannot_now(job.ticket);
}

}  // namespace fairsale::api
