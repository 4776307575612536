#include "projections/outbox/dispatcher.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>

#include "core/log/priority.hpp"
#include "core/log/sale_name.hpp"

namespace fairsale {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPatience{1000};   // of a thread when there is nothing to do
constexpr milliseconds kRemindFor{1000};  // then messages have their turn

}  // namespace

// How it goes with what a consumer is given: with messages, or with reminders.
struct Dispatcher::Course {
  steady_clock::time_point retry_at{};  // only by who works; none: now
  milliseconds pause{0};                // likewise
  unsigned failures = 0;                // under the lane's mutex, in a row
  std::optional<Error> trouble;         // likewise

  // How long it must wait.
  milliseconds held() const {
    const auto left = std::chrono::ceil<milliseconds>(retry_at - steady_clock::now());
    return std::max(left, milliseconds(0));
  }
};

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
  Reminders::Mark reminded;                    // likewise; what follows it is still to be told
  Course messages;
  Course reminders;

  std::mutex moving;     // guards the cursors, and
  bool rewound = false;  // whether one was moved back while messages were being given

  mutable std::mutex mutex;
  std::deque<SkuId> queue;
  std::set<std::uint64_t> queued;
  std::optional<SkuId> given;  // the one whose messages the consumer has in hand
  std::uint64_t taken = 0;
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
  if (options_.reminders != nullptr) options_.reminders->grew(sku);
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
    if (lane.impatient.exchange(false)) {
      lane.messages.retry_at = {};
      lane.reminders.retry_at = {};
    }
    const milliseconds idle = step(lane);
    if (idle > milliseconds(0)) lane.bell.wait(std::min(kPatience, idle));
  }
}

void Dispatcher::work() {
  for (const auto& lane : lanes()) {
    lane->messages.retry_at = {};
    lane->reminders.retry_at = {};
    const auto well = [&] {
      return lane->messages.retry_at == steady_clock::time_point{} &&
             lane->reminders.retry_at == steady_clock::time_point{};
    };
    while (step(*lane) == milliseconds(0) && well()) {
    }
  }
}

// Does some of what there is to do. Returns for how long there is nothing.
milliseconds Dispatcher::step(Lane& lane) {
  const auto enough = steady_clock::now() + kRemindFor;
  milliseconds idle = remind(lane);
  while (idle == milliseconds(0) && !lane.leaving.load() && steady_clock::now() < enough) {
    idle = remind(lane);
  }
  return std::min(idle, deliver(lane));
}

// Gives the next reminders, as step().
milliseconds Dispatcher::remind(Lane& lane) {
  if (options_.reminders == nullptr) return kPatience;
  if (const auto held = lane.reminders.held(); held > milliseconds(0)) return held;
  const auto next = options_.reminders->next(lane.reminded, Consumer::kReminders);
  if (next.reminders.empty()) {
    // What could not be given was of holds that have ended.
    if (!next.due) note(lane, lane.reminders, {});
    return next.wait;
  }
  const auto taken = lane.consumer->remind(next.sku, next.reminders);
  if (taken.messages > 0) {
    lane.reminded = next.marks[taken.messages - 1];
    const std::scoped_lock lock(lane.mutex);
    lane.taken += taken.messages;
  }
  note(lane, lane.reminders, taken.trouble);
  return milliseconds(0);
}

// Gives one SKU's next messages, as step().
milliseconds Dispatcher::deliver(Lane& lane) {
  if (const auto held = lane.messages.held(); held > milliseconds(0)) return held;
  const auto sku = lane.next();
  if (!sku) return kPatience;
  const auto more = give(lane, *sku);
  {
    const std::scoped_lock lock(lane.mutex);
    lane.given.reset();
    if (!more || *more) lane.note(*sku);
  }
  note(lane, lane.messages, more ? std::nullopt : std::optional(more.error()));
  return milliseconds(0);
}

// What came of giving something.
void Dispatcher::note(Lane& lane, Course& course, const std::optional<Error>& trouble) {
  bool fresh = false;
  {
    const std::scoped_lock lock(lane.mutex);
    fresh = trouble && (!course.trouble || course.trouble->message != trouble->message);
    course.failures = trouble ? course.failures + 1 : 0;
    course.trouble = trouble;
  }
  if (!trouble) {
    course.pause = milliseconds(0);
    course.retry_at = {};
    return;
  }
  if (fresh && options_.report) options_.report(lane.consumer->name(), *trouble);
  course.pause = course.pause == milliseconds(0) ? options_.retry_first
                                                 : std::min(2 * course.pause, options_.retry_last);
  course.retry_at = steady_clock::now() + course.pause;
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
    all.push_back(
        {.name = std::string(lane->consumer->name()),
         .taken = lane->taken,
         .skus_behind = lane->behind(),
         .failures = lane->messages.failures + lane->reminders.failures,
         .trouble = lane->messages.trouble ? lane->messages.trouble : lane->reminders.trouble});
  }
  return all;
}

}  // namespace fairsale
