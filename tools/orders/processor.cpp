#include "tools/orders/processor.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <cmath>

namespace fairsale::orders {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

bool stuck(const Case& c) { return c.refused || c.tries >= Processor::kWorthALook; }

}  // namespace

Processor::Processor(OrderStore& store, const ProcessorOptions& o,
                     std::function<void(const Error&)> on_failure)
    : store_(store),
      options_(o),
      on_failure_(std::move(on_failure)),
      chance_(std::random_device{}()) {}

Result<std::unique_ptr<Processor>> Processor::start(OrderStore& store, const MakeGateway& make,
                                                    const ProcessorOptions& o,
                                                    std::function<void(const Error&)> on_failure) {
  std::unique_ptr<Processor> p(new Processor(store, o, std::move(on_failure)));
  auto ok = store.each_open([&](const Case& c) {
    if (stuck(c)) ++p->counts_.stuck;
    p->schedule(Case(c), steady_clock::now());
    return true;
  });
  if (!ok) return tl::unexpected(ok.error());
  for (std::size_t i = 0; i < o.workers; ++i) {
    p->threads_.emplace_back(
        [self = p.get(), gateway = std::shared_ptr<Gateway>(make())] { self->work(*gateway); });
  }
  return p;
}

Processor::~Processor() { stop(); }

void Processor::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& t : threads_) t.join();
  threads_.clear();
}

bool Processor::room() const {
  const std::scoped_lock lock(mutex_);
  return !failed_ && due_.size() + under_way_ < options_.most_open;
}

Result<std::string> Processor::cursor(std::string_view source) const {
  return store_.cursor(source);
}

Result<void> Processor::take(const Batch& batch) {
  auto taken = store_.take(batch);
  if (!taken) {
    fail_with(taken.error());
    return tl::unexpected(taken.error());
  }
  for (const DeadLetter& d : batch.dead) {
    spdlog::error("Message {} cannot be understood and is set aside: {}", d.id, d.why);
  }
  for (const DeadLetter& d : taken->strange) {
    spdlog::error("Message {} is set aside: {}. Give each log a store of its own", d.id, d.why);
  }
  {
    const std::scoped_lock lock(mutex_);
    counts_.taken += taken->fresh.size();
    counts_.repeated += batch.cases.size() - taken->fresh.size() - taken->strange.size();
    counts_.dead += batch.dead.size() + taken->strange.size();
    for (Case& c : taken->fresh) {
      ++counts_.reached[static_cast<std::size_t>(c.state)];
      schedule(std::move(c), steady_clock::now());
    }
  }
  changed_.notify_all();
  return {};
}

ProcessorCounts Processor::counts() const {
  const std::scoped_lock lock(mutex_);
  ProcessorCounts out = counts_;
  out.open = due_.size() + under_way_;
  return out;
}

void Processor::schedule(Case&& c, When when) { due_.emplace(when, std::move(c)); }

// Doubles, and varies by a quarter either way, so that what failed together is not tried together.
milliseconds Processor::pause(const Case& c, const Verdict& v) {
  const double first = static_cast<double>(options_.retry_first.count());
  const double most = static_cast<double>(options_.retry_most.count());
  const double base = std::min(most, first * std::exp2(std::min(c.tries, 40U) - 1.0));
  const double varied = base * std::uniform_real_distribution(0.75, 1.25)(chance_);
  const milliseconds own{static_cast<std::int64_t>(varied)};
  return std::max(v.answer == Answer::declined ? options_.retry_most : own, v.retry_after);
}

void Processor::work(Gateway& gateway) {
  std::unique_lock lock(mutex_);
  while (!stopping_ && !failed_) {
    if (due_.empty()) {
      changed_.wait(lock);
      continue;
    }
    const When next = due_.begin()->first;
    if (next > steady_clock::now()) {
      changed_.wait_until(lock, next);
      continue;
    }
    Case c = std::move(due_.extract(due_.begin()).mapped());
    ++under_way_;
    lock.unlock();
    const Verdict verdict = gateway.carry_out(due(c.state), c);
    advance(c, verdict);
    lock.lock();
  }
}

// The step is durable before anything follows from it. A case that stays where it is was written
// before; that it needs a look is written now and then.
void Processor::advance(Case& c, const Verdict& verdict) {
  const Case before = c;
  c.state = after(before.state, verdict.answer);
  const bool moved = c.state != before.state;
  if (moved) {
    c.tries = 0;
    c.refused = false;
    c.trouble.clear();
    if (c.state == State::failed) {
      c.why = fmt::format("{} declined: {}", name_of(due(before.state)), verdict.detail);
      spdlog::warn("{}: {}; the money is given back", c.purchase, c.why);
    }
  } else {
    ++c.tries;
    c.refused = before.refused || verdict.answer == Answer::declined;
    c.trouble = verdict.detail;
  }
  const bool news = stuck(c) && (std::has_single_bit(c.tries) || c.refused != before.refused);
  if (!moved && news) {
    spdlog::warn("{}: {} is due, {} tries: {}", c.purchase, name_of(due(c.state)), c.tries,
                 c.trouble);
  }
  if (moved || news) {
    if (auto ok = store_.put(c); !ok) {
      fail_with(ok.error());
      return;
    }
  }
  const std::scoped_lock lock(mutex_);
  --under_way_;
  if (moved) ++counts_.reached[static_cast<std::size_t>(c.state)];
  if (verdict.answer == Answer::unknown) ++counts_.unknown;
  if (stuck(c) && !stuck(before)) ++counts_.stuck;
  if (!stuck(c) && stuck(before)) --counts_.stuck;
  if (at_end(c.state)) return;
  schedule(std::move(c), steady_clock::now() + (moved ? milliseconds(0) : pause(c, verdict)));
  changed_.notify_one();
}

void Processor::fail_with(const Error& e) {
  {
    const std::scoped_lock lock(mutex_);
    if (failed_) return;
    failed_ = true;
  }
  changed_.notify_all();
  on_failure_(e);
}

}  // namespace fairsale::orders
