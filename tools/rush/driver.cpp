#include "tools/rush/driver.hpp"

#include <algorithm>

namespace fairsale::rush {

namespace {

constexpr std::int64_t kTickUs = 50'000;
constexpr std::int64_t kFirstBackoffUs = 10'000;
constexpr std::int64_t kMaxBackoffUs = 1'000'000;

}  // namespace

void Driver::arrive(std::uint8_t kind, std::span<const std::int64_t> offsets_us,
                    std::int64_t start_us, bool closed_loop) {
  arrivals_ = offsets_us;
  next_arrival_ = 0;
  arrival_kind_ = kind;
  start_us_ = start_us;
  closed_loop_ = closed_loop;
}

void Driver::render(const Task& task, std::string& out) { work_->render(task, out); }

void Driver::on_response(const Task& task, const Response& r, std::int64_t sent_us) {
  --in_flight_;
  const std::int64_t now = now_us();
  last_pushback_ = r.status;
  if (r.status == 429 || r.status == 503 || r.status == 408) {
    ++(r.status == 429   ? pushback_.rate_limited
       : r.status == 503 ? pushback_.unavailable
                         : pushback_.timed_out);
    // A little later than asked, and not all at the same moment.
    const std::int64_t asked = std::int64_t{std::max(r.retry_after, 0)} * 1'000'000;
    const auto spread = static_cast<std::int64_t>(
        random_.below(static_cast<std::uint64_t>(std::max(asked / 4, kFirstBackoffUs))));
    return again(task, asked + spread + (r.retry_after < 0 ? kFirstBackoffUs : 0));
  }
  if (r.status >= 500) {
    ++pushback_.server_errors;
    if (task.tries < 8) return again(task, kFirstBackoffUs);
  }
  last_answer_us_ = now;
  work_->answered(task, r, sent_us, now);
}

void Driver::on_lost(const Task& task, Lost) {
  --in_flight_;
  last_pushback_ = 0;
  const std::int64_t backoff =
      std::min(kFirstBackoffUs << std::min<int>(task.tries, 10), kMaxBackoffUs);
  again(task, task.tries == 0 ? 0 : backoff);
}

void Driver::again(Task task, std::int64_t pause_us) {
  if (task.tries < 255) ++task.tries;
  if (pause_us == 0) {
    submit(task);
  } else {
    ++pausing_;
    submit_at(task, now_us() + pause_us);
  }
}

void Driver::collect_due(std::int64_t now) {
  while (!timers_.empty() && timers_.top().due_us <= now) {
    if (timers_.top().task.tries > 0) --pausing_;
    submit(timers_.top().task);
    timers_.pop();
  }
  if (closed_loop_) return;
  while (!all_arrived() && start_us_ + arrivals_[next_arrival_] <= now) {
    submit({.index = static_cast<std::uint32_t>(next_arrival_++), .kind = arrival_kind_});
  }
}

void Driver::dispatch() {
  for (std::deque<Task>& queue : ready_) {
    while (!queue.empty()) {
      // Taken off first: a response that comes while sending may submit more.
      const Task task = queue.front();
      queue.pop_front();
      ++in_flight_;
      if (!pool_.send(task, *this)) {
        --in_flight_;
        queue.push_front(task);
        return;
      }
    }
  }
  while (closed_loop_ && !all_arrived()) {
    const Task task{.index = static_cast<std::uint32_t>(next_arrival_), .kind = arrival_kind_};
    ++in_flight_;
    if (!pool_.send(task, *this)) {
      --in_flight_;
      return;
    }
    ++next_arrival_;
  }
}

Result<void> Driver::run(Work& work, std::int64_t patience_us) {
  work_ = &work;
  last_answer_us_ = now_us();
  std::int64_t next_tick = 0;
  for (;;) {
    const std::int64_t now = now_us();
    if (now >= next_tick) {
      next_tick = now + kTickUs;
      if (!work.tick(now)) return {};
      const bool asked = in_flight_ > 0 || pausing_ > 0 || !ready_[0].empty() || !ready_[1].empty();
      if (!asked) {
        last_answer_us_ = now;
      } else if (now - last_answer_us_ > patience_us) {
        const std::string seconds = std::to_string(patience_us / 1'000'000);
        if (last_pushback_ != 0) {
          return fail(Fault::io, "the server answered nothing but status " +
                                     std::to_string(last_pushback_) + " for " + seconds + " s");
        }
        return fail(Fault::io, "the server answered nothing for " + seconds +
                                   " s: is it running and is the URL right?");
      }
    }
    collect_due(now);
    dispatch();

    std::int64_t wake = next_tick;
    if (!timers_.empty()) wake = std::min(wake, timers_.top().due_us);
    if (!closed_loop_ && !all_arrived()) {
      wake = std::min(wake, start_us_ + arrivals_[next_arrival_]);
    }
    const bool asked = !ready_[0].empty() || !ready_[1].empty() || (closed_loop_ && !all_arrived());
    if (asked) wake = std::min(wake, pool_.retry_at());
    pool_.poll(wake - now_us(), *this);
  }
}

}  // namespace fairsale::rush
