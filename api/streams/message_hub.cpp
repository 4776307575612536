#include "api/streams/message_hub.hpp"

#include <algorithm>

#include "api/streams/sse.hpp"
#include "core/log/priority.hpp"
#include "projections/outbox/message.hpp"

namespace fairsale::api {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kPatience{250};    // of the thread when there is nothing to do
constexpr milliseconds kCrowdedPause{5};  // until desks have made room
constexpr std::size_t kBeats = 512;       // heartbeats at once

Cursor cursor_of(const MessageRow& m) { return {m.position, m.number}; }

}  // namespace

// ---- The trays ----

std::vector<http::Ticket> FrameTray::put(std::vector<Frame>& frames) {
  std::vector<http::Ticket> ended;
  {
    const std::scoped_lock lock(mutex_);
    std::unordered_set<std::uint32_t> cut;  // nothing may follow what a stream has missed
    for (Frame& f : frames) {
      if (cut.contains(f.ticket.connection)) continue;
      if (frames_.size() < limit_) {
        frames_.push_back(std::move(f));
      } else {
        cut.insert(f.ticket.connection);
        ended.push_back(f.ticket);
        frames_.push_back({.ticket = f.ticket, .number = f.number, .bytes = nullptr, .at = {}});
      }
    }
  }
  frames.clear();
  return ended;
}

void FrameTray::take(std::vector<Frame>& out) {
  const std::scoped_lock lock(mutex_);
  out.swap(frames_);
}

bool FrameTray::crowded() const {
  const std::scoped_lock lock(mutex_);
  return frames_.size() > limit_ / 2;
}

// ---- The hub ----

MessageHub::MessageHub(StoreSource store, std::size_t desks, Wake wake, MessageHubOptions options)
    : store_(std::move(store)), wake_(std::move(wake)), options_(std::move(options)), out_(desks) {
  for (std::size_t i = 0; i < desks; ++i) {
    trays_.push_back(std::make_unique<FrameTray>(options_.tray));
  }
}

MessageHub::~MessageHub() { stop(); }

void MessageHub::start() {
  thread_ = std::thread([this] { run(); });
}

void MessageHub::stop() {
  stopping_.store(true);
  bell_.ring();
  if (thread_.joinable()) thread_.join();
}

void MessageHub::subscribe(const Subscription& s) {
  {
    const std::scoped_lock lock(mutex_);
    // From here on it is told of what grows; what there is by then is found by its first look.
    ++wanted_[s.sku.value];
    requests_.push_back({s});
  }
  bell_.ring();
}

void MessageHub::unsubscribe(std::uint16_t desk, http::Ticket t) {
  {
    const std::scoped_lock lock(mutex_);
    Request& r = requests_.emplace_back();
    r.subscription.desk = desk;
    r.subscription.ticket = t;
    r.leave = true;
  }
  bell_.ring();
}

void MessageHub::grew(SkuId sku) {
  {
    const std::scoped_lock lock(mutex_);
    if (!wanted_.contains(sku.value) || !grown_.insert(sku.value).second) return;
  }
  bell_.ring();
}

void MessageHub::run() {
  work_in_background();
  while (!stopping_.load()) {
    if (!work(steady_clock::now())) {
      bell_.wait(kPatience);
    } else if (crowded()) {
      std::this_thread::sleep_for(kCrowdedPause);
    }
  }
}

bool MessageHub::crowded() const {
  return std::any_of(trays_.begin(), trays_.end(), [](const auto& t) { return t->crowded(); });
}

bool MessageHub::work(TimePoint now) {
  now_ = now;
  take_requests();
  if (crowded()) return true;
  beat();
  const auto store = store_();
  if (store && now >= retry_at_) {
    // Each topic has its turn, so that a busy one never keeps others waiting.
    for (std::size_t n = queue_.size(); n > 0 && made_ < options_.fan_out; --n) {
      const auto found = topics_.find(queue_.front());
      queue_.pop_front();
      if (found == topics_.end()) continue;
      Topic& topic = found->second;
      topic.queued = false;
      if (auto ok = advance(*store, topic); !ok) {
        failed(ok.error());
        queue(topic);
        break;
      }
      if (topic.grown || topic.near.under_way || topic.far.under_way) queue(topic);
    }
    // The topic in trouble stays in the queue, however well others are read.
    if (queue_.empty()) trouble_.clear();
  }
  deliver();
  return store && now >= retry_at_ && !queue_.empty();
}

void MessageHub::failed(const Error& error) {
  retry_at_ = now_ + options_.retry_after;
  if (trouble_ == error.message) return;
  trouble_ = error.message;
  if (options_.report) options_.report(error);
}

// ---- Who listens ----

void MessageHub::take_requests() {
  std::unordered_set<std::uint64_t> grown;
  {
    const std::scoped_lock lock(mutex_);
    taken_.swap(requests_);
    grown.swap(grown_);
  }
  for (const Request& r : taken_) {
    const Subscription& s = r.subscription;
    if (r.leave) {
      let_go(key_of(s.desk, s.ticket), s.ticket.generation);
    } else {
      let_in(s);
    }
  }
  taken_.clear();
  for (const std::uint64_t sku : grown) {
    const auto found = topics_.find(sku);
    if (found == topics_.end()) continue;
    found->second.grown = true;
    queue(found->second);
  }
}

void MessageHub::queue(Topic& topic) {
  if (topic.queued) return;
  topic.queued = true;
  queue_.push_back(topic.sku.value);
}

void MessageHub::let_in(const Subscription& s) {
  const Key key = key_of(s.desk, s.ticket);
  if (const auto old = listeners_.find(key); old != listeners_.end()) {
    let_go(key, old->second.is.ticket.generation);
  }
  Topic& topic = topics_[s.sku.value];
  topic.sku = s.sku;
  topic.name = s.name;
  ++topic.listeners;
  topic.of.emplace(s.purchase.value, key);
  Listener& l = listeners_[key];
  l = {s, &topic, Stage::waiting};
  // Nothing is said of a purchase before its attempt.
  if (s.purchase.value > 0) {
    l.is.after = std::max(l.is.after, Cursor::past(Seq{s.purchase.value - 1}));
  }
  beats_.push_back({key, s.ticket.generation, s.number, now_ + options_.heartbeat});
  if (topic.begun) {
    place(topic, l, key);
  } else {
    topic.beginning.push_back(key);
  }
  topic.grown = true;
  queue(topic);
}

// Whoever has nothing to catch up on is live.
void MessageHub::place(Topic& topic, Listener& l, Key key) {
  if (l.is.after >= topic.live) {
    l.stage = Stage::live;
    return;
  }
  const std::uint64_t behind = topic.live.position.value - l.is.after.position.value;
  (behind <= options_.near ? topic.near : topic.far).waiting.push_back(key);
}

void MessageHub::let_go(Key key, std::uint32_t generation) {
  const auto found = listeners_.find(key);
  if (found == listeners_.end() || found->second.is.ticket.generation != generation) return;
  Topic& topic = *found->second.topic;
  const auto [first, last] = topic.of.equal_range(found->second.is.purchase.value);
  topic.of.erase(std::find_if(first, last, [&](const auto& e) { return e.second == key; }));
  const std::uint64_t sku = topic.sku.value;
  listeners_.erase(found);
  if (--topic.listeners == 0) topics_.erase(sku);
  const std::scoped_lock lock(mutex_);
  const auto wanted = wanted_.find(sku);
  if (--wanted->second == 0) wanted_.erase(wanted);
}

// ---- What is told ----

Result<void> MessageHub::advance(const ProjectionStore& store, Topic& topic) {
  if (!topic.begun) {
    const auto position = store.position(StoredProjection::outbox, topic.sku);
    if (!position) return tl::unexpected(position.error());
    topic.live = Cursor::past(*position);
    topic.begun = true;
    for (const Key key : topic.beginning) {
      const auto l = listeners_.find(key);
      // The place may have gone to another, who stands in the list too.
      if (l != listeners_.end() && l->second.topic == &topic && l->second.stage == Stage::waiting) {
        place(topic, l->second, key);
      }
    }
    topic.beginning.clear();
  }
  if (topic.grown) {
    if (auto ok = read_live(store, topic); !ok) return ok;
  }
  if (auto ok = read_pass(store, topic, topic.near, Stage::near); !ok) return ok;
  return read_pass(store, topic, topic.far, Stage::far);
}

Result<void> MessageHub::read_live(const ProjectionStore& store, Topic& topic) {
  const auto page =
      store.messages(topic.sku, topic.live.position, topic.live.number, options_.piece);
  if (!page) return tl::unexpected(page.error());
  for (const MessageRow& m : page->messages) {
    tell(topic, m, Stage::live);
    topic.live = cursor_of(m);
    if (made_ >= options_.fan_out) return {};
  }
  if (page->messages.size() == options_.piece) return {};
  // A store that is being built anew is behind what was told from the one before it.
  topic.live = std::max(topic.live, Cursor::past(page->position));
  topic.grown = false;
  return {};
}

Result<void> MessageHub::read_pass(const ProjectionStore& store, Topic& topic, Pass& pass,
                                   Stage stage) {
  if (!pass.under_way) {
    if (pass.waiting.empty()) return {};
    pass.at = topic.live;
    for (const Key key : pass.waiting) {
      const auto l = listeners_.find(key);
      if (l == listeners_.end() || l->second.topic != &topic || l->second.stage != Stage::waiting) {
        continue;
      }
      l->second.stage = stage;
      pass.at = std::min(pass.at, l->second.is.after);
      pass.members.push_back(key);
    }
    pass.waiting.clear();
    pass.under_way = true;
  }
  const auto page = store.messages(topic.sku, pass.at.position, pass.at.number, options_.piece);
  if (!page) return tl::unexpected(page.error());
  // While the store is being built anew there is nothing yet of what was told before.
  if (page->position < topic.live.position) {
    return fail(Fault::busy, "the outbox is being read from the log again; streams wait for it");
  }
  bool whole = page->messages.size() < options_.piece;
  for (const MessageRow& m : page->messages) {
    if (cursor_of(m) > topic.live) {
      whole = true;
      break;
    }
    tell(topic, m, stage);
    pass.at = cursor_of(m);
    if (made_ >= options_.fan_out) return {};
  }
  if (!whole) return {};
  for (const Key key : pass.members) {
    const auto l = listeners_.find(key);
    if (l == listeners_.end() || l->second.topic != &topic || l->second.stage != stage) continue;
    l->second.stage = Stage::live;
  }
  pass.members.clear();
  pass.under_way = !pass.waiting.empty();
  if (pass.under_way) {
    pass.under_way = false;
    queue(topic);
  }
  return {};
}

// To those of that stage who have not heard it.
void MessageHub::tell(Topic& topic, const MessageRow& m, Stage stage) {
  std::shared_ptr<const std::string> bytes;
  const auto listen = [&](std::uint64_t purchase) {
    const auto [first, last] = topic.of.equal_range(purchase);
    for (auto it = first; it != last; ++it) {
      Listener& l = listeners_.find(it->second)->second;
      if (l.stage != stage || cursor_of(m) <= l.is.after) continue;
      if (!bytes) {
        std::string data;
        append_message_json(data, topic.name.view(), m);
        std::string text;
        text.reserve(data.size() + 64);
        append_event(text, name_of(m.kind), event_id(cursor_of(m)), data);
        bytes = std::make_shared<const std::string>(std::move(text));
      }
      l.is.after = cursor_of(m);
      send(l, bytes, cursor_of(m));
    }
  };
  if (concerns_purchase(m)) listen(m.purchase.value);
  listen(0);
}

// A heartbeat says how far a stream has come, so that its client resumes near the head.
void MessageHub::beat() {
  for (std::size_t n = 0; n < kBeats && !beats_.empty() && beats_.front().due <= now_; ++n) {
    Beat b = beats_.front();
    beats_.pop_front();
    const auto found = listeners_.find(b.key);
    if (found == listeners_.end() || found->second.is.ticket.generation != b.generation ||
        found->second.is.number != b.number) {
      continue;
    }
    b.due = now_ + options_.heartbeat;
    beats_.push_back(b);
    Listener& l = found->second;
    std::string text;
    if (l.stage == Stage::live) {
      append_position(text, event_id(std::max(l.is.after, l.topic->live)));
      // What has come without messages counts for the next one.
      l.topic->grown = true;
      queue(*l.topic);
    } else {
      text = kComment;
    }
    send(l, std::make_shared<const std::string>(std::move(text)), std::nullopt);
  }
}

void MessageHub::send(const Listener& l, std::shared_ptr<const std::string> bytes,
                      std::optional<Cursor> message) {
  out_[l.is.desk].push_back({.ticket = l.is.ticket,
                             .number = l.is.number,
                             .bytes = std::move(bytes),
                             .at = message.value_or(Cursor{}),
                             .message = message.has_value()});
  ++made_;
}

void MessageHub::deliver() {
  if (made_ == 0) return;
  made_ = 0;
  for (std::size_t desk = 0; desk < out_.size(); ++desk) {
    if (out_[desk].empty()) continue;
    for (const http::Ticket& t : trays_[desk]->put(out_[desk])) {
      let_go(key_of(static_cast<std::uint16_t>(desk), t), t.generation);
    }
    wake_(desk);
  }
}

}  // namespace fairsale::api
