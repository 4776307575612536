#include "projections/outbox/dispatcher.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>

#include "core/engine/priority.hpp"
#include "core/log/sale_name.hpp"

namespace fairsale {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPatience{1000};  // of a thread when there is nothing to do

}  // namespace

// A consumer, and the SKUs of which there is more for it.
struct Dispatcher::Lane {
  explicit Lane(std::unique_ptr<Consumer> c) : consumer(std::move(c)) {}

  // Both under the mutex. A SKU is in the queue once.
  bool note(SkuId sku) {
    if (!queued.insert(sku.value).second) return false;
    queue.push_back(sku);
    return true;
  }
  std::optional<SkuId> next() {
    const std::scoped_lock lock(mutex);
    if (queue.empty()) return std::nullopt;
    const SkuId sku = queue.front();
    queue.pop_front();
    queued.erase(sku.value);
    given = sku;
    return sku;
  }
  // Under the mutex.
  std::size_t behind() const {
    return queue.size() + (given && !queued.contains(given->value) ? 1 : 0);
  }

  void leave() {
    leaving.store(true);
    consumer->interrupt();
    bell.ring();
  }

  const std::unique_ptr<Consumer> consumer;
  Bell bell;
  std::thread thread;
  std::atomic<bool> leaving{false};
  std::atomic<bool> impatient{false};
  std::map<std::uint64_t, std::string> names;  // of SKUs; only by who works
  steady_clock::time_point retry_at{};         // likewise
  milliseconds pause{0};                       // likewise

  std::mutex moving;     // guards the cursors, and
  bool rewound = false;  // whether one was moved back while messages were being given

  mutable std::mutex mutex;
  std::deque<SkuId> queue;
  std::set<std::uint64_t> queued;
  std::optional<SkuId> given;  // the one whose messages the consumer has in hand
  std::uint64_t taken = 0;
  unsigned failures = 0;
  std::optional<Error> trouble;
};

Dispatcher::Dispatcher(const EventLog& log, StoreSource store, std::unique_ptr<CursorStore> cursors,
                       DispatcherOptions options)
    : log_(log),
      store_(std::move(store)),
      cursors_(std::move(cursors)),
      options_(std::move(options)) {}

Dispatcher::~Dispatcher() { stop(); }

Dispatcher::Lanes Dispatcher::lanes() const {
  const std::scoped_lock lock(mutex_);
  return lanes_;
}

Result<std::shared_ptr<Dispatcher::Lane>> Dispatcher::lane(std::string_view name) const {
  const std::scoped_lock lock(mutex_);
  for (const auto& lane : lanes_) {
    if (lane->consumer->name() == name) return lane;
  }
  return fail(Fault::not_found, fmt::format("there is no consumer {}", name));
}

Result<void> Dispatcher::add(std::unique_ptr<Consumer> consumer) {
  const std::scoped_lock changing(changing_);
  const auto known = cursors_->knows(consumer->name());
  if (!known) return tl::unexpected(known.error());
  const bool begins = !*known && !consumer->wants_the_past();
  const auto lane = std::make_shared<Lane>(std::move(consumer));
  {
    // First: what grows from now on is noted.
    const std::scoped_lock lock(mutex_);
    lanes_.push_back(lane);
  }
  if (auto ok = begin(*lane, begins); !ok) {
    const std::scoped_lock lock(mutex_);
    std::erase(lanes_, lane);
    return ok;
  }
  if (started_) lane->thread = std::thread([this, it = lane.get()] { run(*it); });
  return {};
}

// Sets the cursors where it is to begin, and notes the SKUs of which there may be more.
Result<void> Dispatcher::begin(Lane& lane, bool behind_all) {
  const std::string_view name = lane.consumer->name();
  const auto heads = log_.heads();
  if (!heads) return tl::unexpected(heads.error());
  for (const SkuHead& h : *heads) {
    const auto at = cursors_->cursor(name, h.sku);
    if (!at) return tl::unexpected(at.error());
    if (behind_all || at->position > h.head.seq) {
      if (!behind_all && options_.report) {
        options_.report(name,
                        {Fault::invalid,
                         fmt::format("SKU {:016x} ends at position {}, and messages up to {} were "
                                     "delivered: the log is another than it was. What follows is "
                                     "delivered from there on",
                                     h.sku.value, h.head.seq.value, at->position.value)});
      }
      if (auto ok = cursors_->put(name, h.sku, Cursor::past(h.head.seq)); !ok) return ok;
    } else {
      const std::scoped_lock lock(lane.mutex);
      lane.note(h.sku);
    }
  }
  // Last: what is cut short before begins anew.
  return cursors_->remember(name);
}

Result<void> Dispatcher::remove(std::string_view name) {
  const std::scoped_lock changing(changing_);
  const auto gone = lane(name);
  if (!gone) return tl::unexpected(gone.error());
  {
    const std::scoped_lock lock(mutex_);
    std::erase(lanes_, *gone);
  }
  (*gone)->leave();
  if ((*gone)->thread.joinable()) (*gone)->thread.join();
  return cursors_->forget((*gone)->consumer->name());
}

void Dispatcher::grew(SkuId sku) {
  const std::scoped_lock lock(mutex_);
  for (const auto& lane : lanes_) {
    bool fresh = false;
    {
      const std::scoped_lock lane_lock(lane->mutex);
      fresh = lane->note(sku);
    }
    if (fresh) lane->bell.ring();
  }
}

Result<void> Dispatcher::rewind(std::string_view name, SkuId sku, Cursor to) {
  const auto found = lane(name);
  if (!found) return tl::unexpected(found.error());
  Lane& lane = **found;
  {
    const std::scoped_lock lock(lane.moving);
    const auto at = cursors_->cursor(name, sku);
    if (!at) return tl::unexpected(at.error());
    if (*at <= to) return {};
    if (auto ok = cursors_->put(name, sku, to); !ok) return ok;
    lane.rewound = true;
  }
  {
    const std::scoped_lock lock(lane.mutex);
    lane.note(sku);
  }
  lane.bell.ring();
  return {};
}

Result<void> Dispatcher::retry(std::string_view name) {
  const auto found = lane(name);
  if (!found) return tl::unexpected(found.error());
  (*found)->impatient.store(true);
  (*found)->bell.ring();
  return {};
}

void Dispatcher::start() {
  const std::scoped_lock changing(changing_);
  started_ = true;
  for (const auto& lane : lanes()) {
    lane->thread = std::thread([this, it = lane.get()] { run(*it); });
  }
}

void Dispatcher::stop() {
  const std::scoped_lock changing(changing_);
  started_ = false;
  const Lanes all = lanes();
  for (const auto& lane : all) lane->leave();
  for (const auto& lane : all) {
    if (lane->thread.joinable()) lane->thread.join();
  }
}

void Dispatcher::run(Lane& lane) {
  work_in_background();
  while (!lane.leaving.load()) {
    if (lane.impatient.exchange(false)) lane.retry_at = {};
    const auto now = steady_clock::now();
    if (now < lane.retry_at) {
      // What arrives meanwhile has to wait as well.
      lane.bell.wait(std::min(kPatience, std::chrono::ceil<milliseconds>(lane.retry_at - now)));
    } else if (!step(lane)) {
      lane.bell.wait(kPatience);
    }
  }
}

void Dispatcher::work() {
  for (const auto& lane : lanes()) {
    lane->retry_at = {};
    while (step(*lane) && lane->pause == milliseconds(0)) {
    }
  }
}

// Gives one SKU's next messages. Returns false when there is nothing to do.
bool Dispatcher::step(Lane& lane) {
  const auto sku = lane.next();
  if (!sku) return false;
  const auto more = give(lane, *sku);
  std::optional<Error> told;
  {
    const std::scoped_lock lock(lane.mutex);
    lane.given.reset();
    if (!more || *more) lane.note(*sku);
    if (more) {
      lane.failures = 0;
      lane.trouble.reset();
    } else {
      if (!lane.trouble || lane.trouble->message != more.error().message) told = more.error();
      ++lane.failures;
      lane.trouble = more.error();
    }
  }
  if (more) {
    lane.pause = milliseconds(0);
    return true;
  }
  if (told && options_.report) options_.report(lane.consumer->name(), *told);
  lane.pause = lane.pause == milliseconds(0) ? options_.retry_first
                                             : std::min(2 * lane.pause, options_.retry_last);
  lane.retry_at = steady_clock::now() + lane.pause;
  return true;
}

// Returns whether there may be more.
Result<bool> Dispatcher::give(Lane& lane, SkuId sku) {
  const auto store = store_();
  if (!store) return fail(Fault::busy, "the store of projections, which holds the outbox, is away");
  const std::string_view consumer = lane.consumer->name();
  const auto cursor = [&] {
    const std::scoped_lock lock(lane.moving);
    lane.rewound = false;
    return cursors_->cursor(consumer, sku);
  }();
  if (!cursor) return tl::unexpected(cursor.error());
  const auto page = store->messages(sku, cursor->position, cursor->number, options_.batch);
  if (!page) return tl::unexpected(page.error());
  if (page->messages.empty()) return false;
  std::string& name = lane.names[sku.value];
  if (name.empty()) {
    const auto told = sale_name(log_, sku);
    if (!told) return tl::unexpected(told.error());
    name = *told;
  }
  const auto taken = lane.consumer->take({sku, name, page->messages});
  if (taken.messages > 0) {
    const MessageRow& last = page->messages[taken.messages - 1];
    {
      const std::scoped_lock lock(lane.mutex);
      lane.taken += taken.messages;
    }
    const std::scoped_lock lock(lane.moving);
    // Of which SKU does not matter: what is given twice does no harm.
    if (!lane.rewound) {
      if (auto ok = cursors_->put(consumer, sku, {last.position, last.number}); !ok) {
        return tl::unexpected(ok.error());
      }
    }
  }
  if (taken.trouble) return tl::unexpected(*taken.trouble);
  return taken.messages < page->messages.size() || page->messages.size() == options_.batch;
}

std::vector<ConsumerStatus> Dispatcher::status() const {
  std::vector<ConsumerStatus> all;
  for (const auto& lane : lanes()) {
    const std::scoped_lock lock(lane->mutex);
    all.push_back({.name = std::string(lane->consumer->name()),
                   .taken = lane->taken,
                   .skus_behind = lane->behind(),
                   .failures = lane->failures,
                   .trouble = lane->trouble});
  }
  return all;
}

}  // namespace fairsale
