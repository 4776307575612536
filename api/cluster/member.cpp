#include "api/cluster/member.hpp"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "api/http/problem.hpp"

namespace fairsale::api {

namespace {

using cluster::AnswerGate;
using cluster::Asker;
using cluster::BatchNumber;
using cluster::Delivered;
using cluster::NodeId;
using cluster::PartitionId;
using cluster::Position;

// Of messages. They are taken within a moment, since nothing else is heard of a stream meanwhile.
constexpr std::size_t kInboxBytes = std::size_t{4} << 20;
constexpr std::size_t kOthers = 65'536;  // beyond these no query is taken
constexpr std::size_t kMessagesPerTurn = Sequencer::kMaxBlocks;
// So that the answers to a batch fit into one message too.
constexpr std::uint32_t kEventsPerBatch = 1'000;
constexpr std::size_t kRoomForOthers = std::size_t{64} * kEventsPerBatch;
constexpr Duration kTickEvery{10};
constexpr Duration kTickPatience{500};  // for a tick to have an effect
constexpr Duration kRankDelay{30};
constexpr Duration kShowEvery{50};
constexpr std::size_t kShowPerTurn = 256;
constexpr std::chrono::milliseconds kAskPatience{2'000};
constexpr std::uint64_t kLent = ~std::uint64_t{0};  // the run of what another processor has sent
constexpr std::size_t kKeptMessages = 8'192;        // of a partition, for others
constexpr std::size_t kKeptBytes = std::size_t{16} << 20;
constexpr std::size_t kLentAtOnce = 1'024;
constexpr std::size_t kAhead = 1'024;  // messages of a partition
constexpr Duration kLookEvery{20};
constexpr Duration kComeBackEvery{1};
constexpr Duration kIdle{1'000};
constexpr Duration kAskAgain{400};
constexpr Duration kStoredWithin{1'000};  // batches
constexpr Duration kLookAtBatches{100};
constexpr Duration kLostWith{300};  // a connection that broke: batches without an answer since then

Duration later(Duration now, Duration by) { return Duration{now.value + by.value}; }

Rendered unavailable(std::string& body, std::string_view detail) {
  body.clear();
  http::append_problem(body, {503, "overloaded", "Overloaded", detail}, {});
  return {503, http::kProblemJson, "Retry-After: 1\r\n", body};
}

}  // namespace

Member::Member(Bus& bus, Sequencer& shard, const Clock& clock, MemberOptions options, Wake wake)
    : bus_(bus),
      shard_(shard),
      clock_(clock),
      options_(options),
      wake_(std::move(wake)),
      generations_(options.partitions.count),
      gate_({.durable_on = options.durable_on, .patience = options.patience}),
      follower_(shard, options.partitions,
                cluster::enough_to_know(options.processors, options.durable_on)),
      published_in_(options.partitions.count) {}

// ---- As an origin

bool Member::submit(SkuId sku, const Event& event, const Reply& reply) {
  if (waiting_ >= options_.inbox_limit) return false;
  Queue& q = queues_[sku.value];
  q.waiting.emplace_back(event, reply);
  ++waiting_;
  list(sku, q);
  submitted_ = true;
  return true;
}

void Member::list(SkuId sku, Queue& q) {
  if (q.listed || q.waiting.empty()) return;
  q.listed = true;
  ready_.push_back(sku);
}

void Member::publish(MemberDesk& desk) {
  const Duration now = clock_.now().steady;
  std::size_t kept = 0;
  submitted_ = false;
  for (std::size_t r = 0; r < ready_.size(); ++r) {
    const SkuId sku = ready_[r];
    Queue& q = queues_[sku.value];
    q.listed = false;
    const PartitionId partition = options_.partitions.of(sku);
    std::size_t done = 0;
    const auto may_go = [&] {
      return q.under_way - q.late < options_.batches_under_way &&
             q.under_way < options_.late_batches;
    };
    const bool more_come = may_go() && q.waiting.size() < kEventsPerBatch &&
                           q.crowd.worth_waiting(q.waiting.size(), now);
    while (!more_come && done < q.waiting.size() && may_go()) {
      const auto number = gate_.await(now);
      if (!number) break;
      builder_.begin(sku, options_.origin);
      Batch batch{sku, generations_[partition.value], now, false, false, {}};
      while (done < q.waiting.size() && builder_.count() < kEventsPerBatch &&
             builder_.add(q.waiting[done].first)) {
        batch.replies.push_back(q.waiting[done++].second);
      }
      waiting_ -= batch.replies.size();
      if (!bus_.publish_batch(partition, batch.generation, options_.origin, *number,
                              builder_.finish(*number, q.known))) {
        gate_.forget(*number);
        for (const Reply& reply : batch.replies) desk.give_up(reply, false);
        continue;
      }
      ++q.under_way;
      in_batches_ += batch.replies.size();
      batches_.emplace(number->value, std::move(batch));
    }
    q.waiting.erase(q.waiting.begin(), q.waiting.begin() + static_cast<std::ptrdiff_t>(done));
    // What waits for a batch to come back is listed again by that.
    if (!q.waiting.empty() && (q.under_way == 0 || more_come)) {
      q.listed = true;
      ready_[kept++] = sku;
    }
    forget_if_made_up(sku, q);
  }
  ready_.resize(kept);
}

void Member::heard(BatchNumber number, AnswerGate::Heard what, MemberDesk& desk) {
  if (what == AnswerGate::Heard::released) return release(number, desk);
  if (what == AnswerGate::Heard::disagreed) {
    spdlog::error(
        "Processors differ about a batch: their logs have parted (fairsale diff shows "
        "where); nothing is acknowledged that not {} of them have",
        options_.durable_on);
  }
}

std::optional<Member::Batch> Member::take_back(BatchNumber number, bool answered) {
  auto node = batches_.extract(number.value);
  if (node.empty()) return std::nullopt;
  const SkuId sku = node.mapped().sku;
  Queue& q = queues_[sku.value];
  --q.under_way;
  if (node.mapped().late) --q.late;
  const std::size_t size = node.mapped().replies.size();
  in_batches_ -= size;
  if (answered && !node.mapped().late) {
    const Duration now = clock_.now().steady;
    q.crowd.answered({.size = size,
                      .waiting = q.waiting.size(),
                      .took = Duration{now.value - node.mapped().published.value},
                      .at = now});
  }
  list(sku, q);
  forget_if_made_up(sku, q);
  return std::move(node.mapped());
}

// Nothing is known of a name that somebody has made up.
void Member::forget_if_made_up(SkuId sku, const Queue& q) {
  if (!q.listed && q.under_way == 0 && q.known.seq.value == 0) queues_.erase(sku.value);
}

void Member::release(BatchNumber number, MemberDesk& desk) {
  const auto batch = take_back(number, true);
  if (!batch) return;
  std::span<const std::byte> content;
  if (unpack(content_, gate_.content())) content = content_;
  for (const Reply& reply : batch->replies) {
    if (const auto answer = take_rendered(content)) {
      desk.give(reply, *answer);
    } else {
      desk.give_up(reply, true);
    }
  }
  content_.clear();
}

void Member::lose(BatchNumber number, bool sent, MemberDesk& desk) {
  const auto batch = take_back(number, false);
  if (!batch) return;
  for (const Reply& reply : batch->replies) desk.give_up(reply, sent);
}

// Those of which it is not known what became of them.
template <class Which>
void Member::lose_all(Which&& which, MemberDesk& desk) {
  std::vector<BatchNumber> lost;
  for (const auto& [number, batch] : batches_) {
    if (which(batch)) lost.push_back(BatchNumber{number});
  }
  for (const BatchNumber number : lost) {
    gate_.forget(number);
    lose(number, true, desk);
  }
}

void Member::handle(const Stored& s, MemberDesk& desk) {
  if (s.position) {
    if (const auto it = batches_.find(s.number.value); it != batches_.end()) {
      it->second.stored = true;
    }
    return heard(s.number, gate_.stored(s.number, *s.position), desk);
  }
  // It is in no stream, and will not be.
  gate_.forget(s.number);
  lose(s.number, false, desk);
}

void Member::handle(const Bytes& bytes, MemberDesk& desk) {
  const auto answers = cluster::parse_answers(bytes);
  if (!answers) return;
  const auto what = gate_.answered(*answers);
  if (what == AnswerGate::Heard::released) {
    // It completed those that agree, so this is where the log of all of them stood.
    Mark& known = queues_[answers->head.sku.value].known;
    if (answers->head.mark.seq > known.seq) known = answers->head.mark;
    // Who knows what was decided in a generation publishes in none before it.
    set_generation(options_.partitions.of(answers->head.sku),
                   Position::of(answers->head.position).generation);
  }
  heard(answers->head.number, what, desk);
}

bool Member::forward(const Query& q) {
  if (forwarded_.size() >= options_.queries_under_way) return false;
  const SkuId sku = sku_id(q.sku.view());
  const Duration now = clock_.now().steady;
  Forwarded f{.reply = {.origin = q.origin, .kind = Reply::Kind::attempt, .ticket = q.ticket},
              .partition = options_.partitions.of(sku),
              .query = {},
              .deadline = later(now, options_.patience),
              .ask_again = later(now, kAskAgain)};
  // No processor may answer that has not come to what clients of this node know.
  Query asked = q;
  if (const auto it = queues_.find(sku.value); it != queues_.end()) {
    asked.min_seq = std::max(asked.min_seq, it->second.known.seq);
  }
  append_query(f.query, asked);
  const std::uint64_t number = ++query_number_;
  if (!bus_.publish_query(f.partition, options_.origin, number, f.query)) return false;
  forwarded_.emplace(number, std::move(f));
  return true;
}

void Member::ask_again(MemberDesk& desk) {
  const Duration now = clock_.now().steady;
  while (!forwarded_.empty() && forwarded_.begin()->second.deadline <= now) {
    desk.give_up(forwarded_.begin()->second.reply, true);
    forwarded_.erase(forwarded_.begin());
  }
  for (auto& [number, f] : forwarded_) {
    if (f.ask_again > now) {
      if (f.deadline > later(now, Duration{options_.patience.value - kAskAgain.value})) break;
      continue;
    }
    (void)bus_.publish_query(f.partition, options_.origin, number, f.query);
    f.ask_again = later(now, kAskAgain);
  }
}

// A stream that has a leader, but not enough replicas, takes batches and does not store them. Only
// who has sent one can tell.
void Member::look_after_batches() {
  const Duration now = clock_.now().steady;
  if (batches_.empty() || now < next_look_) return;
  next_look_ = later(now, kLookAtBatches);
  std::set<PartitionId> unstored;
  for (auto& [_, batch] : batches_) {
    if (!batch.late && later(batch.published, options_.late) < now) {
      batch.late = true;
      Queue& q = queues_[batch.sku.value];
      ++q.late;
      list(batch.sku, q);
    }
    const PartitionId p = options_.partitions.of(batch.sku);
    if (!batch.stored && later(batch.published, kStoredWithin) < now &&
        batch.published.value > reconnected_at_ && batch.generation == generations_[p.value]) {
      unstored.insert(p);
    }
  }
  for (const PartitionId p : unstored) bus_.publish_unstored(p);
}

// What was under way when the connection broke may be lost, and so may the answers to it. A client
// that asks again gets them.
void Member::lose_broken(MemberDesk& desk) {
  const std::int64_t at = reconnected_at_;
  if (at == broken_until_ || clock_.now().steady < later(Duration{at}, kLostWith)) return;
  broken_until_ = at;
  lose_all([&](const Batch& b) { return b.published.value <= at; }, desk);
}

void Member::handle(const Replied& r, MemberDesk& desk) {
  auto node = forwarded_.extract(r.number);
  if (node.empty()) return;
  std::span<const std::byte> bytes(r.bytes);
  if (const auto answer = take_rendered(bytes)) {
    desk.give(node.mapped().reply, *answer);
  } else {
    desk.give_up(node.mapped().reply, false);
  }
}

// ---- As a processor

// Of a consumer that is followed, or lent by another processor.
bool Member::current(const Message& m) const {
  const auto run = runs_.find({m.partition, m.position.generation});
  return m.run == kLent || (run != runs_.end() && run->second == m.run);
}

Result<TurnReport> Member::take(MemberDesk& desk) {
  delivered_.clear();
  std::size_t end = next_message_;
  for (; end < taken_.messages.size() && delivered_.size() < kMessagesPerTurn; ++end) {
    const Message& m = taken_.messages[end];
    if (current(m)) delivered_.push_back({m.partition, m.position, m.time, m.bytes});
  }
  TurnReport report;
  if (auto ok = feed(delivered_, desk, report); !ok) return tl::unexpected(ok.error());
  keep(next_message_, end);
  next_message_ = end;
  if (auto ok = feed_ahead(desk, report); !ok) return tl::unexpected(ok.error());
  return report;
}

Result<void> Member::feed(std::span<const Delivered> left, MemberDesk& desk, TurnReport& report) {
  while (!left.empty()) {
    seen_is_old_ = true;
    const auto n = follower_.take(left, desk);
    if (!n) return tl::unexpected(n.error());
    left = left.subspan(*n);
    const TurnReport& part = follower_.report();
    report.events += part.events;
    report.blocks += part.blocks;
    report.bytes += part.bytes;
    report.snapshots += part.snapshots;
    if (part.snapshot_error) report.snapshot_error = part.snapshot_error;
  }
  return {};
}

Result<void> Member::feed_ahead(MemberDesk& desk, TurnReport& report) {
  for (auto& [p, ahead] : ahead_) {
    const cluster::Follower::State& s = follower_.partitions().at(p);
    ahead.erase(ahead.begin(), ahead.upper_bound(s.position));
    delivered_.clear();
    for (Position next = s.position; const auto& [at, m] : ahead) {
      if (at != Position{next.generation, ++next.sequence}) break;
      delivered_.push_back({p, at, m.time, m.bytes});
    }
    if (auto ok = feed(delivered_, desk, report); !ok) return ok;
    while (!ahead.empty() && ahead.begin()->first <= s.position) {
      keep(std::move(ahead.extract(ahead.begin()).mapped()));
    }
  }
  return {};
}

// What was taken, and what may be soon, while there is room.
void Member::keep(std::size_t from, std::size_t to) {
  for (; from < to; ++from) {
    Message& m = taken_.messages[from];
    const cluster::Follower::State& s = follower_.partitions().at(m.partition);
    if (m.position <= s.position) {
      keep(std::move(m));
    } else if (m.position.generation == s.position.generation && current(m)) {
      auto& ahead = ahead_[m.partition];
      const Position at = m.position;
      if (ahead.size() < kAhead) ahead.emplace(at, std::move(m));
    }
  }
}

void Member::keep(Message m) {
  Kept& kept = kept_[m.partition];
  if (!kept.messages.empty() && m.position <= kept.messages.back().position) return;
  kept.bytes += m.bytes.size();
  kept.messages.push_back(std::move(m));
  while (kept.bytes > kKeptBytes || kept.messages.size() > kKeptMessages) {
    kept.bytes -= kept.messages.front().bytes.size();
    kept.messages.pop_front();
  }
}

void Member::handle(const Lacks& l, MemberDesk&) {
  const auto kept = kept_.find(l.partition);
  if (kept == kept_.end()) return;
  const auto& messages = kept->second.messages;
  if (messages.empty() || l.from < messages.front().position) return;  // it would be of no use
  auto it = std::lower_bound(messages.begin(), messages.end(), l.from,
                             [](const Message& m, Position from) { return m.position < from; });
  for (std::size_t n = 0;
       n < kLentAtOnce && it != messages.end() && it->position.generation == l.from.generation;
       ++n, ++it) {
    message_.clear();
    append_has(message_, {it->partition, it->position, it->time, it->bytes});
    bus_.publish_has(l.node, message_);
  }
}

// What was published in a generation that is over is lost, or answered already: whoever waits for
// it asks again.
void Member::follow_generations(MemberDesk& desk) {
  if (options_.processor) {
    for (const auto& [p, s] : follower_.partitions()) set_generation(p, s.position.generation);
  }
  for (std::uint32_t i = 0; i < options_.partitions.count; ++i) {
    const std::uint16_t now = generations_[i];
    if (std::exchange(published_in_[i], now) == now) continue;
    const auto over = [&](const Batch& b) {
      return options_.partitions.of(b.sku).value == i && b.generation < now;
    };
    lose_all(over, desk);
  }
}

void Member::tell(const Rendered& answer) {
  if (content_.size() + answer.headers.size() + answer.body.size() + kRoomForOthers >
      cluster::kMaxAnswersBytes) {
    append_rendered(content_, {.status = 503, .content_type = {}, .headers = {}, .body = {}});
    return;
  }
  append_rendered(content_, answer);
}

void Member::let_see() {
  const std::scoped_lock lock(mutex_);
  seen_ = follower_.partitions();
}

void Member::told(const Ordered& m, const Head& after) {
  // No heartbeat after an answer says less than that.
  if (std::exchange(seen_is_old_, false)) let_see();
  if (after.seq > Seq{0}) {
    last_[m.sku.value] = Position::of(m.position);
    to_show_.insert(m.sku);
  } else {  // clients invent names, so nothing is kept of them
    message_.clear();
    append_no_sale(message_, {Position::of(m.position).generation, m.sku});
    bus_.publish_shown(message_);
  }
  if (m.tickets.empty()) return;
  const Asker asker = Asker::of(m.tickets[0]);
  pack(packed_, content_);
  message_.clear();
  cluster::append_answers(message_,
                          {.processor = options_.me,
                           .number = asker.number,
                           .sku = m.sku,
                           .position = m.position,
                           .mark = Mark::of(after)},
                          packed_);
  content_.clear();
  if (asker.origin == options_.origin) {
    own_.push_back(message_);
  } else {
    bus_.publish_answers(asker.origin, message_);
  }
}

void Member::tick() {
  const Duration now = clock_.now().steady;
  if (now < next_tick_) return;
  next_tick_ = later(now, kTickEvery);
  overdue_.clear();
  shard_.take_overdue(Duration{kRankDelay.value * rank_.load()}, kTickPatience, overdue_);
  for (const SkuId sku : overdue_) {
    const PartitionId p = options_.partitions.of(sku);
    if (!follower_.partitions().contains(p)) continue;  // its log once had that one
    builder_.begin(sku, NodeId{0});
    builder_.add(TimePassed{});
    (void)bus_.publish_batch(p, generations_[p.value], options_.origin, BatchNumber{0},
                             builder_.finish(BatchNumber{0}, Mark{}));
  }
}

void Member::show(MemberDesk& desk) {
  bool all = false;
  {
    const std::scoped_lock lock(mutex_);
    all = std::exchange(show_all_, false);
  }
  if (all) {
    shows_all_ = true;
    shard_.for_each_head([&](SkuId sku, const Head&) {
      to_show_.insert(sku);
      shown_.erase(sku);
    });
  }
  const Duration now = clock_.now().steady;
  std::size_t sent = 0;
  for (auto it = to_show_.begin(); it != to_show_.end() && sent < kShowPerTurn;) {
    const SkuId sku = *it;
    const auto last = shown_.find(sku);
    if (last != shown_.end() && now.value - last->second.value < kShowEvery.value) {
      ++it;
      continue;
    }
    it = to_show_.erase(it);
    const auto look = desk.look_of(sku);
    const auto of = follower_.partitions().find(options_.partitions.of(sku));
    if (look == nullptr || of == follower_.partitions().end()) continue;
    message_.clear();
    append_shown(message_, of->second.position.generation, *look);
    bus_.publish_shown(message_);
    shown_[sku] = now;
    ++sent;
  }
  if (!to_show_.empty() || !std::exchange(shows_all_, false)) return;
  std::vector<PartitionId> partitions;
  for (const auto& [p, _] : follower_.partitions()) partitions.push_back(p);
  message_.clear();
  append_all_shown(message_, partitions);
  bus_.publish_shown(message_);
}

void Member::handle(const Asked& a, MemberDesk& desk) {
  auto query = parse_query(a.query);
  if (!query) return;  // of a newer version, perhaps: its sender gives up
  std::string body;
  if (free_slots_.empty() && slots_.size() >= options_.queries_under_way) {
    message_.clear();
    append_rendered(message_, unavailable(body, "Too many requests wait at this processor."));
    bus_.publish_reply(a.reply_to, message_);
    return;
  }
  std::uint32_t slot = 0;
  if (free_slots_.empty()) {
    slot = static_cast<std::uint32_t>(slots_.size());
    slots_.emplace_back();
    slot_generations_.push_back(0);
  } else {
    slot = free_slots_.back();
    free_slots_.pop_back();
  }
  slots_[slot] = a.reply_to;
  slot_generations_[slot] = ++slot_generation_;
  desk.take_forwarded(*query, {slot, slot_generations_[slot], 0});
}

Position Member::last_of(SkuId sku) const {
  if (const auto it = last_.find(sku.value); it != last_.end()) return it->second;
  const auto of = begun_.find(options_.partitions.of(sku));
  return of == begun_.end() ? Position{} : of->second;
}

void Member::reply_forwarded(http::Ticket slot, const Rendered& answer) {
  if (slot.connection >= slots_.size() || slot_generations_[slot.connection] != slot.generation) {
    return;
  }
  message_.clear();
  append_rendered(message_, answer);
  bus_.publish_reply(slots_[slot.connection], message_);
  drop_forwarded(slot);
}

void Member::drop_forwarded(http::Ticket slot) {
  if (slot.connection >= slots_.size() || slot_generations_[slot.connection] != slot.generation) {
    return;
  }
  slot_generations_[slot.connection] = 0;
  free_slots_.push_back(slot.connection);
}

void Member::handle(const Rewind& r, MemberDesk&) {
  const auto state = follower_.partitions().find(r.partition);
  if (state == follower_.partitions().end()) return;
  follower_.rewind(r.partition);
  ahead_.erase(r.partition);
  // What made no block may be another message when it comes again.
  Kept& kept = kept_[r.partition];
  while (!kept.messages.empty() && kept.messages.back().position > state->second.anchor) {
    kept.bytes -= kept.messages.back().bytes.size();
    kept.messages.pop_back();
  }
  runs_.erase({r.partition, state->second.anchor.generation});
  answer(rewinds_, r.partition, state->second.anchor);
}

void Member::handle(const PromiseNow& p, MemberDesk&) {
  const auto it = follower_.partitions().find(p.partition);
  if (it == follower_.partitions().end()) return;
  // It may have gone over since that was asked for.
  const bool still = it->second.position.generation + 1 == p.next;
  answer(promises_, p.partition, still ? follower_.promise(p.partition) : it->second.anchor);
}

void Member::handle(const Resume& r, MemberDesk&) {
  runs_[{r.partition, r.generation}] = r.run;
  if (r.reread) follower_.reread(r.partition);
}

void Member::handle(const Stop& s, MemberDesk&) { follower_.stop(s.partition, s.why); }

// ---- Turns

Result<TurnReport> Member::turn(MemberDesk& desk) {
  if (next_message_ == taken_.messages.size()) {
    taken_.messages.clear();
    taken_.others.clear();
    taken_.bytes = 0;
    next_message_ = 0;
    {
      const std::scoped_lock lock(mutex_);
      std::swap(taken_, inbox_);
    }
    room_.notify_all();
    for (const auto& what : taken_.others) {
      std::visit([&](const auto& it) { handle(it, desk); }, what);
    }
  }
  TurnReport report;
  if (options_.processor) {
    auto taken = take(desk);
    if (!taken) return taken;
    report = std::move(*taken);
    for (const Bytes& answers : own_) handle(answers, desk);
    own_.clear();
    const auto rest = shard_.turn(desk);
    if (!rest) return rest;
    report.snapshots += rest->snapshots;
    tick();
    show(desk);
    let_see();
  }
  const Duration now = clock_.now().steady;
  follow_generations(desk);
  gate_.expire(now, [&](BatchNumber n) { lose(n, true, desk); });
  ask_again(desk);
  lose_broken(desk);
  look_after_batches();
  publish(desk);
  requests_under_way_ = waiting_ + in_batches_ + forwarded_.size();
  return report;
}

Duration Member::next_turn_in() const {
  if (next_message_ < taken_.messages.size() || submitted_) return Duration{0};
  if (!ready_.empty()) return kComeBackEvery;
  if (options_.processor || gate_.waiting() > 0 || !forwarded_.empty()) return kLookEvery;
  return kIdle;
}

// ---- What comes from other threads

template <class T>
void Member::put(T what, std::size_t bytes) {
  {
    const std::scoped_lock lock(mutex_);
    if (closed_) return;
    inbox_.others.emplace_back(std::move(what));
    inbox_.bytes += bytes;
  }
  wake_();
}

void Member::arrived(const Delivered& m, std::uint64_t run) {
  {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || inbox_.bytes < kInboxBytes; });
    if (closed_) return;
    inbox_.messages.push_back(
        {m.partition, m.position, m.time, run, Bytes(m.bytes.begin(), m.bytes.end())});
    inbox_.bytes += m.bytes.size();
  }
  wake_();
}

void Member::lacked(const Lacks& l) { put(l); }

void Member::lent(const Delivered& m) { arrived(m, kLent); }

void Member::stored(BatchNumber n, std::optional<Position> at) { put(Stored{n, at}); }
void Member::answered(std::span<const std::byte> b) { put(Bytes(b.begin(), b.end()), b.size()); }
void Member::asked(std::span<const std::byte> q, std::string_view reply_to) {
  {
    const std::scoped_lock lock(mutex_);
    if (inbox_.others.size() > kOthers) return;  // whoever asked gives up
  }
  put(Asked{Bytes(q.begin(), q.end()), std::string(reply_to)}, q.size());
}
void Member::replied(std::uint64_t n, std::span<const std::byte> b) {
  put(Replied{n, Bytes(b.begin(), b.end())}, b.size());
}

void Member::show_all() {
  {
    const std::scoped_lock lock(mutex_);
    show_all_ = true;
  }
  wake_();
}

void Member::set_generation(PartitionId p, std::uint16_t g) {
  std::uint16_t known = generations_[p.value];
  while (known < g && !generations_[p.value].compare_exchange_weak(known, g)) {
  }
}

std::optional<Position> Member::ask(PartitionId p, Positions& answers, std::uint16_t next) {
  {
    const std::scoped_lock lock(mutex_);
    answers.erase(p);
  }
  if (&answers == &rewinds_) {
    put(Rewind{p});
  } else {
    put(PromiseNow{p, next});
  }
  std::unique_lock lock(mutex_);
  if (!told_.wait_for(lock, kAskPatience, [&] { return closed_ || answers.contains(p); }) ||
      closed_) {
    return std::nullopt;
  }
  return answers[p];
}

void Member::answer(Positions& answers, PartitionId p, Position at) {
  const std::scoped_lock lock(mutex_);
  answers[p] = at;
  told_.notify_all();
}

void Member::resume(PartitionId p, std::uint16_t generation, std::uint64_t run) {
  put(Resume{p, generation, run, false});
}

void Member::reread(PartitionId p, std::uint16_t generation, std::uint64_t run) {
  put(Resume{p, generation, run, true});
}
void Member::stop_partition(PartitionId p, std::string why) { put(Stop{p, std::move(why)}); }

std::optional<cluster::Follower::State> Member::partition(PartitionId p) const {
  const std::scoped_lock lock(mutex_);
  const auto it = seen_.find(p);
  return it == seen_.end() ? std::nullopt : std::optional(it->second);
}

std::map<PartitionId, cluster::Follower::State> Member::partitions() const {
  const std::scoped_lock lock(mutex_);
  return seen_;
}

void Member::close() {
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
  }
  room_.notify_all();
  told_.notify_all();
}

}  // namespace fairsale::api
