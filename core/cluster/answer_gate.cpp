#include "core/cluster/answer_gate.hpp"

#include <algorithm>

namespace fairsale::cluster {

std::optional<BatchNumber> AnswerGate::await(Duration now) {
  // One that takes long keeps the places of those after it.
  if (waiting_ >= options_.limit || awaited_.size() >= 16 * options_.limit) return std::nullopt;
  awaited_.push_back({.open = true, .deadline = Duration{now.value + options_.patience.value}});
  ++waiting_;
  return BatchNumber{first_.value + awaited_.size() - 1};
}

AnswerGate::Awaited* AnswerGate::find(BatchNumber n) {
  if (n < first_ || n.value - first_.value >= awaited_.size()) return nullptr;
  Awaited& a = awaited_[n.value - first_.value];
  return a.open ? &a : nullptr;
}

AnswerGate::Heard AnswerGate::stored(BatchNumber n, Position at) {
  Awaited* a = find(n);
  if (a == nullptr) return Heard::unawaited;
  a->stored = at;
  return judge(*a);
}

AnswerGate::Heard AnswerGate::answered(const Answers& answers) {
  Awaited* a = find(answers.head.number);
  if (a == nullptr) return Heard::unawaited;
  const AnswersHead& head = answers.head;
  for (const Opinion& o : a->opinions) {
    if (std::find(o.processors.begin(), o.processors.end(), head.processor) != o.processors.end()) {
      return Heard::held;
    }
  }
  auto same = std::find_if(a->opinions.begin(), a->opinions.end(), [&](const Opinion& o) {
    return o.position == head.position && o.mark == head.mark;
  });
  if (same == a->opinions.end()) {
    a->opinions.push_back({head.position, head.mark, {}, {}});
    same = std::prev(a->opinions.end());
    same->content.assign(answers.content.begin(), answers.content.end());
  }
  same->processors.push_back(head.processor);
  return judge(*a);
}

AnswerGate::Heard AnswerGate::judge(Awaited& a) {
  for (Opinion& o : a.opinions) {
    if (o.processors.size() < options_.durable_on || !a.stored || a.stored->epoch() != o.position) {
      continue;
    }
    released_.swap(o.content);
    close(a);
    return Heard::released;
  }
  return a.opinions.size() > 1 ? Heard::disagreed : Heard::held;
}

void AnswerGate::close(Awaited& a) {
  a = {};
  --waiting_;
  while (!awaited_.empty() && !awaited_.front().open) {
    awaited_.pop_front();
    ++first_.value;
  }
}

void AnswerGate::forget(BatchNumber n) {
  if (Awaited* a = find(n)) close(*a);
}

void AnswerGate::expire(Duration now, const std::function<void(BatchNumber)>& lost) {
  // Numbers were given in the order of time.
  while (!awaited_.empty() && awaited_.front().deadline <= now) {
    const BatchNumber n = first_;
    close(awaited_.front());
    lost(n);
  }
}

std::optional<Duration> AnswerGate::next_expiry() const {
  if (awaited_.empty()) return std::nullopt;
  return awaited_.front().deadline;
}

}  // namespace fairsale::cluster
