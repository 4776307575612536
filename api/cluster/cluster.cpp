#include "api/cluster/cluster.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/rand.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "core/json/json.hpp"

namespace fairsale::api {

namespace {

using cluster::NodeId;
using cluster::PartitionId;
using cluster::Position;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kKeep{50};
constexpr milliseconds kBeat{150};
constexpr milliseconds kProbe{250};
constexpr milliseconds kAlive{1'500};   // since a heartbeat
constexpr milliseconds kHears{450};     // likewise, of any processor
constexpr milliseconds kUnderWay{150};  // a heartbeat, at most, while all is well
// Of streams, which speak four times a second.
constexpr milliseconds kStreamSilence{1'250};   // then it is given up, if the next one is ready
constexpr milliseconds kStreamQuiet{1'000};     // no message, while somebody's batch is not stored
constexpr milliseconds kComplaint{500};         // how long that counts
constexpr milliseconds kSilence{2'000};         // then it is followed anew
constexpr milliseconds kStuck{2'000};           // likewise, when it has less than others have had
constexpr milliseconds kNextSilence{700};       // of one that is ready no longer
constexpr milliseconds kLacksNext{15'000};      // then it is told
constexpr milliseconds kMute{5'000};            // one that has stored nothing
constexpr milliseconds kNotFollowed{4'000};     // in vain, by too many
constexpr milliseconds kNeverFollowed{12'000};  // likewise, since the start
constexpr milliseconds kFirstWord{750};
constexpr milliseconds kLookForWord{20};
constexpr milliseconds kPrompt{300};
constexpr milliseconds kFetching{1'000};
constexpr int kFetches = 10;  // one after another, before a consumer is made instead
constexpr milliseconds kSuspectAgain{10'000};
constexpr milliseconds kTryNext{250};
constexpr milliseconds kStoresAgain{1'000};
constexpr milliseconds kBridge{6'000};  // that the stream behind a bridge stores
constexpr milliseconds kWarnAgain{1'000};
constexpr milliseconds kSayAgain{400};
constexpr milliseconds kAskAgain{100};
constexpr milliseconds kCountAgain{5'000};  // processors
constexpr milliseconds kLookAgain{5'000};   // at who leads streams
constexpr milliseconds kGrace{1'000};       // for promises, once there are enough
constexpr int kPlacements = 12;             // tries
constexpr std::size_t kPast = 12;           // heartbeats of another: 0.6 s of them
constexpr std::uint16_t kKeptGenerations = 5;
constexpr int kRemovedAgain = 16;  // generations
constexpr milliseconds kTryAgain{300};
constexpr milliseconds kSure{3'000};  // that a stream is not what it was
constexpr milliseconds kShowAgain{10'000};
constexpr milliseconds kWaitForAll{10'000};  // partitions, of an edge that begins

NodeId random_node() {
  std::uint64_t n = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&n), sizeof n);
  return NodeId{(n | 1ULL << 63) & ~std::uint64_t{0xff}};
}

}  // namespace

Cluster::Cluster(ClusterOptions options, AvailabilityBoard& board, const EventLog* log)
    : options_(std::move(options)),
      board_(board),
      log_(log),
      me_(random_node()),
      knows_until_(options_.partitions),
      agreed_(options_.partitions) {}

Cluster::~Cluster() { stop(); }

Result<std::unique_ptr<Cluster>> Cluster::join(ClusterOptions options, Engine& engine,
                                               const Clock& clock, AvailabilityBoard& board,
                                               const EventLog* log,
                                               const std::function<void(std::size_t)>& wake) {
  if (options.partitions % engine.shards() != 0 || engine.shards() > 200) {
    return fail(Fault::invalid,
                fmt::format("--partitions must be a multiple of --workers: {} is none of {}",
                            options.partitions, engine.shards()));
  }
  const cluster::Partitions spread{options.partitions};
  std::map<PartitionId, Position> positions;
  if (log != nullptr) {
    auto found = cluster::last_positions(*log, spread);
    if (!found) return tl::unexpected(found.error());
    positions = std::move(*found);
  }
  if (2 * options.durable_on <= options.processors || options.durable_on > options.processors) {
    return fail(Fault::invalid,
                fmt::format("--durable-on must be more than half of --processors, and no more than "
                            "them: {} is not, of {}",
                            options.durable_on, options.processors));
  }
  std::optional<PartitionRecords> records;
  if (options.processor) {
    auto opened = PartitionRecords::open(partition_records_file(options.data));
    if (!opened) return tl::unexpected(opened.error());
    records = std::move(*opened);
  }
  std::unique_ptr<Cluster> self(new Cluster(std::move(options), board, log));
  self->records_ = std::move(records);
  auto bus = connect_nats(self->options_.bus, *self);
  if (!bus) return tl::unexpected(bus.error());
  self->bus_ = std::move(*bus);
  for (std::size_t i = 0; i < engine.shards(); ++i) {
    MemberOptions m;
    m.processor = self->options_.processor;
    m.me = cluster::processor_id(self->options_.bus.name);
    m.origin = NodeId{self->me_.value | (i + 1)};
    m.partitions = spread;
    m.durable_on = self->options_.durable_on;
    m.processors = self->options_.processors;
    self->members_.push_back(
        std::make_unique<Member>(*self->bus_, engine.shard(i), clock, m, [wake, i] { wake(i); }));
    if (auto ok = self->bus_->hear_origin(m.origin); !ok) return tl::unexpected(ok.error());
  }
  if (auto ok = self->bus_->hear_heartbeats(); !ok) return tl::unexpected(ok.error());
  for (std::uint32_t i = 0; i < spread.count; ++i) {
    if (!self->takes(PartitionId{i})) ++self->takes_not_;
  }
  if (self->takes_not_ > 0) {
    if (auto ok = self->bus_->hear_shown(); !ok) return tl::unexpected(ok.error());
  }
  if (!self->options_.processor) return self;
  for (std::uint32_t i = 0; i < spread.count; ++i) {
    const PartitionId p{i};
    if (!self->takes(p)) continue;
    const PartitionRecord record = self->records_->of(p);
    const auto at = std::max(positions.contains(p) ? positions[p] : Position{}, record.began);
    Attachment& a = self->attachments_[p];
    a.generation = at.generation;
    a.now.since = a.next.since = steady_clock::now();
    self->member_of(p).begin(p, at, record.promised, record.cuts);
    self->member_of(p).set_generation(p, at.generation);
    if (auto ok = self->bus_->hear_queries(p); !ok) return tl::unexpected(ok.error());
    if (auto ok = self->bus_->hear_lacks(p); !ok) return tl::unexpected(ok.error());
    if (auto ok = self->bus_->hear_unstored(p); !ok) return tl::unexpected(ok.error());
  }
  if (auto ok = self->bus_->hear_has(self->me_); !ok) return tl::unexpected(ok.error());
  if (auto ok = self->bus_->hear_show(); !ok) return tl::unexpected(ok.error());
  return self;
}

void Cluster::start() {
  begun_ = steady_clock::now();
  started_ = true;
  keeper_ = std::thread([this] { keep(); });
  if (options_.processor) attacher_ = std::thread([this] { attach_all(); });
}

void Cluster::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  stopping_now_.notify_all();
  for (auto& m : members_) m->close();
  if (keeper_.joinable()) keeper_.join();
  if (attacher_.joinable()) attacher_.join();
  if (bus_) bus_->close();
}

// ---- The keeper: heartbeats, and streams that are followed

void Cluster::keep() {
  TimePoint next_beat{};
  TimePoint next_show{};
  TimePoint next_probe{};
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const bool show =
        takes_not_ > 0 && (std::exchange(ask_to_show_, false) || steady_clock::now() >= next_show);
    const bool knows_all = shown_since_.size() == takes_not_;
    lock.unlock();
    const auto now = steady_clock::now();
    const bool due = now >= next_beat;
    if (due) next_beat = now + kBeat;
    beat(due);
    if (show) {
      bus_->ask_to_show();
      next_show = now + (knows_all ? kShowAgain : kBeat);
    }
    const bool probes = now >= next_probe;
    if (probes) next_probe = now + kProbe;
    for (std::uint32_t i = 0; i < options_.partitions; ++i) {
      if (takes(PartitionId{i})) watch(PartitionId{i}, probes);
      // What is known stays so. An edge begins anew when it may have missed what was shown.
      const auto until = hears_until(PartitionId{i}).time_since_epoch().count();
      knows_until_[i] =
          until == 0 && !takes(PartitionId{i}) ? 0 : std::max(until, knows_until_[i].load());
      // What was agreed stays so, whoever is lost.
      agreed_[i] = std::max(agreed_until(PartitionId{i}).epoch().value, agreed_[i].load());
    }
    lock.lock();
    stopping_now_.wait_for(lock, kKeep, [&] { return stopping_; });
  }
}

std::vector<Heartbeat> Cluster::alive() const {
  const auto now = steady_clock::now();
  const std::scoped_lock lock(mutex_);
  std::vector<Heartbeat> out;
  for (const auto& [_, peer] : peers_) {
    if (now - peer.heard <= kAlive) out.push_back(peer.said);
  }
  return out;
}

// Again at once when there is something new: who asks of a sale that changes waits for that.
void Cluster::beat(bool due) {
  Heartbeat h{.node = me_, .processor = options_.processor, .name = options_.bus.name};
  bool moved = false;
  for (const auto& member : members_) {
    for (const auto& [p, s] : member->partitions()) {
      // Only what a restart does not make untrue.
      auto cuts = records_ ? records_->of(p).cuts : std::map<std::uint16_t, std::uint64_t>{};
      h.partitions.push_back(
          {p, s.position, !s.stopped.empty(), !why_waits(p).empty(), std::move(cuts)});
      moved = std::exchange(told_[p], s.position) != s.position || moved;
    }
  }
  if (!due && !moved) return;
  const auto others = alive();
  for (const Heartbeat& other : others) h.hears.push_back(other.node);
  Bytes bytes;
  append_heartbeat(bytes, h);
  bus_->publish_heartbeat(bytes);

  std::uint32_t rank = 0;
  for (const Heartbeat& other : others) {
    bool beside = false;  // it takes a partition of this one's
    for (const auto& of : other.partitions) {
      if (of.id.value >= options_.partitions) continue;
      beside = beside || takes(of.id);
      if (!takes(of.id) && !of.stopped) {
        member_of(of.id).set_generation(of.id, of.position.generation);
      }
    }
    if (beside && other.node.value < me_.value) ++rank;
  }
  for (auto& m : members_) m->set_rank(rank);
}

// Of all processors that take a partition one does what one is enough for.
bool Cluster::first_of(PartitionId p) const {
  for (const Heartbeat& other : alive()) {
    const auto* of = other.of(p);
    if (of != nullptr && !of->stopped && !of->waits && other.node.value < me_.value) return false;
  }
  return true;
}

Cluster::TimePoint Cluster::hears_until(PartitionId p) const {
  std::size_t others = cluster::enough_to_know(options_.processors, options_.durable_on);
  const auto state = state_of(p);
  if (takes(p)) {
    if (!state) return {};
    --others;
  }
  if (others == 0) return TimePoint::max();
  cluster::ByName<TimePoint> heard;
  const std::scoped_lock lock(mutex_);
  if (!takes(p) && !shown_since_.contains(p)) return {};
  for (const auto& [_, peer] : peers_) {
    if (takes(p) && peer.said.name == options_.bus.name) continue;
    for (const auto& [when, partitions] : peer.past) {
      const bool knows = std::any_of(partitions.begin(), partitions.end(), [&](const auto& of) {
        return of.id == p && (!takes(p) || of.position <= state->position);
      });
      if (!knows) continue;
      TimePoint& last = heard[peer.said.name];
      last = std::max(last, when);
      break;
    }
  }
  const auto last = cluster::reached_by(others, heard);
  return last ? *last - kUnderWay : TimePoint{};
}

// How many other processors are there for a partition, whether they get on or not.
std::size_t Cluster::others_of(PartitionId p) const {
  const auto others = alive();
  return static_cast<std::size_t>(std::count_if(
      others.begin(), others.end(), [&](const Heartbeat& h) { return h.of(p) != nullptr; }));
}

// The other processors that take a partition: of its stream, as far as they know.
Cluster::Takers Cluster::takers_of(PartitionId p) const {
  Takers out;
  const auto now = steady_clock::now();
  const std::scoped_lock lock(mutex_);
  for (const auto& [_, peer] : peers_) {
    const auto* of = peer.said.of(p);
    if (now - peer.heard > kAlive || of == nullptr || of->stopped || of->waits) continue;
    ++out.alive;
    const auto& hears = peer.said.hears;
    if (std::find(hears.begin(), hears.end(), me_) != hears.end()) ++out.hear_this;
  }
  return out;
}

// Whether enough processors for a cut are there just now. Who is cut off from them need not promise
// anything: it may be alone in hearing nothing.
bool Cluster::heard_enough(PartitionId p) const {
  const auto now = steady_clock::now();
  const std::scoped_lock lock(mutex_);
  const auto heard = std::count_if(peers_.begin(), peers_.end(), [&](const auto& peer) {
    return peer.second.said.of(p) != nullptr && now - peer.second.heard <= kHears;
  });
  return 1 + static_cast<std::size_t>(heard) >=
         cluster::enough_to_know(options_.processors, options_.durable_on);
}

Position Cluster::agreed_until(PartitionId p) const {
  const auto state = takes(p) ? state_of(p) : std::nullopt;
  if (!state) return {};
  std::vector<cluster::Has> others;
  const std::scoped_lock lock(mutex_);
  for (const auto& [_, peer] : peers_) {
    const auto* of = peer.said.of(p);
    if (of == nullptr || of->stopped) continue;
    others.push_back({.name = peer.said.name, .position = of->position, .cuts = &of->cuts});
  }
  return cluster::agreed_until({.name = options_.bus.name, .position = state->position}, others,
                               options_.durable_on);
}

std::optional<cluster::Follower::State> Cluster::state_of(PartitionId p) const {
  return members_[p.value % members_.size()]->partition(p);
}

void Cluster::watch(PartitionId p, bool probes) {
  const auto state = state_of(p);
  if (!state) return;  // the desk has not begun
  Change& change = changes_[p];
  if (!state->stopped.empty()) {
    if (!std::exchange(change.told, true)) {
      spdlog::critical(
          "Partition {} is stopped on this node: {}. Nothing of it is decided here any "
          "more; what was acknowledged is in the logs of {} processors at least",
          p.value, state->stopped, options_.durable_on);
    }
    if (state->shorten_to && !change.begins_anew && may_take_back(p, *state->shorten_to)) {
      change.begins_anew = begin_without(p, *state);
    }
    return;
  }
  Attachment now;
  bool changed = false;
  {
    const std::scoped_lock lock(mutex_);
    Attachment& a = attachments_[p];
    changed = a.generation != state->position.generation;
    if (changed) {
      bus_->leave(p, a.generation);
      // What was followed as the next stream is now the partition's own.
      const bool was_next = a.generation + 1 == state->position.generation;
      a = {.generation = state->position.generation,
           .now = was_next ? a.next : Consumer{},
           .changes = a.changes + 1};
      a.now.since = a.next.since = steady_clock::now();
    }
    now = a;
  }
  if (changed) {
    change = {};
    spdlog::info("Partition {} goes on with generation {} of its stream", p.value, now.generation);
    remember(p, {state->promised_for, state->began, {}, state->cuts});
  }
  if (probes) {
    bus_->probe(p, now.generation);
    bus_->probe(p, static_cast<std::uint16_t>(now.generation + 1));
  }
  warn_of_too_many(p);
  change_stream(p, *state, now);
}

// Of more processors than are counted on, `durable_on` is not more than half.
void Cluster::warn_of_too_many(PartitionId p) {
  Change& change = changes_[p];
  const auto now = steady_clock::now();
  if (now - change.counted < kCountAgain) return;
  change.counted = now;
  std::set<std::string> names{options_.bus.name};
  for (const Heartbeat& h : alive()) {
    if (h.of(p) != nullptr) names.insert(h.name);
  }
  if (names.size() <= options_.processors) return;
  spdlog::critical(
      "Partition {} is taken by {} processors ({}), and --processors is {}: stop one at once, what "
      "is acknowledged is not safe",
      p.value, names.size(), fmt::join(names, ", "), options_.processors);
}

// Returns after fsync; false when it failed, which was told.
bool Cluster::remember(PartitionId p, const PartitionRecord& record) {
  const auto done = records_->put(p, record);
  if (!done) spdlog::error("Partition {}: {}", p.value, done.error().message);
  return done.has_value();
}

// Whether nothing beyond can have been acknowledged, as far as the others tell.
bool Cluster::may_take_back(PartitionId p, Position end) const {
  std::map<std::string, std::uint64_t> left;
  for (const Heartbeat& other : alive()) {
    const auto* of = other.of(p);
    if (of == nullptr) continue;
    if (const auto cut = of->cuts.find(end.generation); cut != of->cuts.end()) {
      left[other.name] = cut->second;
    }
  }
  std::vector<std::uint64_t> others;
  others.reserve(left.size());
  for (const auto& [_, cut] : left) others.push_back(cut);
  return cluster::may_take_back(end.sequence, others, options_.processors, options_.durable_on);
}

// A start takes back what is beyond the cut (api/cluster/take_back.hpp).
bool Cluster::begin_without(PartitionId p, const cluster::Follower::State& s) {
  if (!remember(p, {s.promised_for, s.began, s.shorten_to, s.cuts})) return false;
  if (options_.begin_anew) {
    spdlog::warn("Partition {}: the server starts again, without what is beyond", p.value);
    options_.begin_anew();
  }
  return true;
}

// Whether the stream behind a bridge has stored all that it was given for a while, and just now.
// Whoever leaves a bridge does so of its own accord: one without enough replicas speaks, and stores
// nothing, and after a fault NATS elects leaders again and again.
bool Cluster::stores(PartitionId p, const cluster::Follower::State& s) {
  Change& change = changes_[p];
  const auto now = steady_clock::now();
  if (now - change.tried_next >= kTryNext) {
    change.tried_next = now;
    bus_->publish_message(p, static_cast<std::uint16_t>(s.position.generation + 1),
                          std::as_bytes(std::span(cluster::kNothing)));
  }
  // What a consumer that begins anew reads again was stored before.
  if (s.next_read <= change.next_read) return false;
  change.next_read = s.next_read;
  if (now - std::exchange(change.next_stored, now) > kStoresAgain) change.stores_since = now;
  return now - change.stores_since > kBridge;
}

// docs/cluster.md, "When a stream is silent".
void Cluster::change_stream(PartitionId p, const cluster::Follower::State& s, const Attachment& a) {
  Change& change = changes_[p];
  const auto now = steady_clock::now();
  const auto passed = [&](TimePoint& since, milliseconds patience) {
    if (now - since < patience) return false;
    since = now;
    return true;
  };
  const auto next = static_cast<std::uint16_t>(a.generation + 1);
  const auto ask_others = [&] {
    if (!passed(change.asked, kAskAgain)) return;
    Bytes bytes;
    append_lacks(bytes, {p, {a.generation, s.position.sequence + 1}, me_});
    bus_->publish_lacks(p, bytes);
  };
  if (s.cut) {
    if (s.position.sequence < *s.cut) ask_others();
    return;
  }
  // What was under way when a connection broke does not come again. NATS may not be able to make
  // another consumer for a while, so the others are asked.
  if (!s.promised() && (s.gap || bus_->lost(p, a.generation))) ask_others();
  const bool unstored =
      now - a.unstored < kComplaint && bus_->quiet(p, a.generation) > kStreamQuiet;
  const auto not_followed = a.now.was ? kNotFollowed : kNeverFollowed;
  const bool silent = unstored || (a.now.attached ? bus_->silent(p, a.generation) > kStreamSilence
                                                  : now - a.now.since > not_followed &&
                                                        takers_of(p).alive < options_.durable_on);
  // Sales go on without a next one, but not if theirs is lost meanwhile.
  if (!a.next.attached && now - a.next.since > kLacksNext &&
      passed(change.warned_of_next, kLacksNext)) {
    spdlog::warn("Partition {} has no stream to go over to, for {} s: {}", p.value,
                 std::chrono::duration_cast<std::chrono::seconds>(now - a.next.since).count(),
                 a.next.trouble);
  }
  if (!a.next.attached || bus_->silent(p, next) > kNextSilence) {
    if (silent && passed(change.warned, kWarnAgain)) {
      spdlog::warn("Partition {}: its stream at {} is silent, and {}", p.value, a.now.server,
                   a.next.attached ? fmt::format("so is the next one at {}: {}", a.next.server,
                                                 bus_->heard(p, next))
                                   : "there is no next one yet");
    }
    return;
  }
  const bool crossed = replicated(next) && !s.promised() && first_of(p) && stores(p, s);
  if (!s.promised() && (!s.promises.empty() || (((silent && heard_enough(p)) || crossed) &&
                                                passed(change.suspected, kSuspectAgain)))) {
    if (!remember(p, {std::max(next, s.promised_for), s.began, {}, s.cuts})) return;
    spdlog::info("Partition {}: {}; it will go on with the next one", p.value,
                 silent    ? "its stream is silent"
                 : crossed ? "the next stream has all its replicas"
                           : "others leave its stream");
    (void)member_of(p).promise(p, next);
    return;
  }
  Bytes bytes;
  const auto me = cluster::processor_id(options_.bus.name);
  if (s.promised() && !s.promises.contains(me) && passed(change.promised, kSayAgain)) {
    if (const auto has = member_of(p).promise(p, next); has && records_->of(p).promised >= next) {
      cluster::append_promise(bytes, {p, next, me, has->sequence});
      bus_->publish_message(p, next, bytes);
    }
  }
  if (s.promises.size() < cluster::enough_to_know(options_.processors, options_.durable_on)) {
    change.enough = now;
    return;
  }
  // Those that are there are waited for: what they have is not cut off then.
  if ((s.promises.size() > others_of(p) || now - change.enough > kGrace) &&
      passed(change.cut, kSayAgain)) {
    cluster::append_cut(bytes, {p, next});
    bus_->publish_message(p, next, bytes);
  }
}

// ---- The attacher

void Cluster::attach_all() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    std::vector<PartitionId> partitions;
    for (const auto& [p, _] : attachments_) partitions.push_back(p);
    lock.unlock();
    for (const PartitionId p : partitions) attach(p);
    lock.lock();
    stopping_now_.wait_for(lock, kKeep, [&] { return stopping_; });
  }
}

void Cluster::attach(PartitionId p) {
  const auto state = state_of(p);
  if (!state || !state->stopped.empty()) return;
  const std::uint16_t generation = state->position.generation;
  auto wants = wants_of(p, *state);
  if (!wants) return;
  if (wants->lacks) {
    // A leader that is silent may soon speak again.
    const auto silence = bus_->silent(p, generation);
    wants->own.anew = silence < kFirstWord ? !fetch_lacking(p) : silence >= kSilence;
  }
  if (wants->leaders) look_for_leaders(p, *state, *wants);
  if (!wants->next.anew && !wants->own.anew) return;
  if (auto ok = bus_->available(); !ok) {
    for (const auto* stream : {&wants->own, &wants->next}) {
      if (stream->anew) report(p, *wants, *stream, tl::unexpected(ok.error()));
    }
    return;
  }
  // A server that was stopped answers late, when it is back, and then its consumers speak, too.
  // Just then NATS may be unable to make others, for long. It may have gone over meanwhile.
  const auto still = [&](const Wants::Stream& stream) {
    const auto asked = steady_clock::now();
    if (stream.only_silent) (void)bus_->bounds(p, stream.generation);
    const auto at = state_of(p);
    return steady_clock::now() - asked < kPrompt && at && at->position.generation == generation;
  };
  if (wants->next.anew && still(wants->next)) {
    report(p, *wants, wants->next, attach_next(p, wants->next.generation));
  }
  if (wants->own.anew && still(wants->own)) report(p, *wants, wants->own, attach_now(p));
}

// Nothing when the keeper has yet to see that the partition has gone over.
std::optional<Cluster::Wants> Cluster::wants_of(PartitionId p, const cluster::Follower::State& s) {
  const std::uint16_t generation = s.position.generation;
  Wants out{.own{.generation = generation},
            .next{.generation = static_cast<std::uint16_t>(generation + 1)}};
  const Position others = furthest_of_others(p);
  const auto now = steady_clock::now();
  const std::scoped_lock lock(mutex_);
  Attachment& a = attachments_[p];
  if (stopping_ || a.generation != generation) return {};
  out.own.server = a.now.server;
  out.next.server = a.next.server;
  const bool gap = s.gap || bus_->lost(p, generation);
  const bool next_lost = bus_->lost(p, out.next.generation);
  // A consumer may stop delivering and still say that it is there.
  if (std::exchange(a.position, s.position) != s.position) a.moved = now;
  const bool stuck = s.position < others && now - a.moved > kStuck;
  const auto decide = [&](Consumer& c, Wants::Stream& stream, bool needed) {
    const bool silent = bus_->silent(p, stream.generation) >= kSilence;
    if ((c.attached && !needed && !silent) || now - c.tried < kTryAgain) return;
    c.tried = now;
    stream.anew = true;
    stream.only_silent = c.attached && !needed;
  };
  decide(a.next, out.next, next_lost || ((s.next_gap || stuck) && !s.cut));
  // Once somebody has promised to leave this stream, all do, but for what they lack up to the cut.
  const bool left = s.promised() || !s.promises.empty();
  if (!left || s.cut) decide(a.now, out.own, gap || s.look || stuck);
  if (stuck && (out.own.anew || out.next.anew)) a.moved = now;
  out.leaders = a.now.attached && a.next.attached && now - a.looked > kLookAgain;
  if (out.leaders) a.looked = now;
  if (!gap) a.fetched = 0;
  // And nobody has left the stream, by all that is known here.
  out.lacks = gap && out.own.anew && a.now.attached && !s.look && !left && !s.next_gap &&
              !next_lost && others.generation <= generation && a.fetched < kFetches;
  if (out.lacks) ++a.fetched;
  return out;
}

// Leaders change by themselves too, and a consumer is to be where its stream's leader is.
void Cluster::look_for_leaders(PartitionId p, const cluster::Follower::State& s, Wants& wants) {
  const auto leads = bus_->leader(p, wants.own.generation);
  const auto leads_next = bus_->leader(p, wants.next.generation);
  const auto elsewhere = [](const auto& leader, const Wants::Stream& stream) {
    return leader && *leader && !(*leader)->empty() && **leader != stream.server;
  };
  const auto follow = [](Wants::Stream& stream) {
    stream.anew = true;
    stream.only_silent = false;
  };
  if (!s.promised() && elsewhere(leads, wants.own)) follow(wants.own);
  // attach_next() parts them.
  const bool one = leads && leads_next && *leads && **leads == leads_next->value_or("");
  if (s.promises.empty() &&
      (elsewhere(leads_next, wants.next) || (one && replicated(wants.own.generation)))) {
    follow(wants.next);
  }
}

// What came of following one of the streams anew: the server that delivers.
void Cluster::report(PartitionId p, const Wants& wants, const Wants::Stream& stream,
                     const Result<std::string>& done) {
  const std::scoped_lock lock(mutex_);
  Attachment& a = attachments_[p];
  if (a.generation != wants.own.generation) return;
  Consumer& c = *a.of(stream.generation);
  if (done) {
    if (!std::exchange(c.attached, true)) c.since = steady_clock::now();
    c.was = true;
    c.mute = {};
    c.server = *done;
  }
  const std::string before = std::exchange(c.trouble, done ? "" : done.error().message);
  if (&c == &a.now && !c.trouble.empty() && c.trouble != before) {
    spdlog::warn("Partition {} waits: {}", p.value, c.trouble);
  }
}

// What was under way when connections broke does not come again, and may be what all processors
// lack. The leader of a stream gives it out, also while NATS has no leader of its own, or makes
// consumers at a server that is gone. Whether that has helped.
bool Cluster::fetch_lacking(PartitionId p) {
  const auto state = state_of(p);
  if (!state) return false;
  const auto same = has_last(p, state->anchor);
  if (!same) return false;
  if (!*same) {
    // The stream is not what it was, unless others have lent something meanwhile.
    const auto now = state_of(p);
    return now && now->anchor != state->anchor;
  }
  const std::uint16_t generation = state->position.generation;
  const auto until = steady_clock::now() + kFetching;
  std::uint64_t last = state->position.sequence;
  while (steady_clock::now() < until) {
    const auto found = bus_->fetch(p, {generation, last + 1});
    if (!found || !*found) break;
    const auto& [time, bytes] = **found;
    member_of(p).lent({p, {generation, ++last}, time, bytes});
  }
  if (last > state->position.sequence) {
    spdlog::info("Partition {}: messages {} to {}, which did not come, were fetched", p.value,
                 state->position.sequence + 1, last);
  }
  bus_->found(p, generation, last);
  return last > state->position.sequence || !bus_->lost(p, generation);
}

// Whether the stream has the message that the last block of this log was made of. How a generation
// begins leaves no block.
Result<bool> Cluster::has_last(PartitionId p, Position anchor) {
  if (anchor.sequence == 0) return true;
  const auto found = bus_->fetch(p, anchor);
  if (!found) return tl::unexpected(found.error());
  if (!*found) return false;
  const auto& [time, bytes] = **found;
  if (cluster::is_opening(bytes)) return anchor.sequence == 1;
  if (const auto cut = cluster::parse_cut(bytes)) {
    return cut->partition == p && cut->generation == anchor.generation;
  }
  return cluster::made_last_block(*log_, {p, anchor, time, bytes});
}

// The stream that this partition goes on with when its own is silent.
Result<std::string> Cluster::attach_next(PartitionId p, std::uint16_t generation) {
  const auto has = bus_->bounds(p, generation);
  if (!has) return tl::unexpected(has.error());
  if (!*has) {
    if (auto ok = make_stream(p, {generation, 0}); !ok) return tl::unexpected(ok.error());
  }
  // Once somebody has promised something in it, it is needed as it is.
  if (!*has || (*has)->last == 0) {
    if (auto ok = part(p, generation); !ok) return tl::unexpected(ok.error());
  }
  const std::uint64_t run = ++run_;
  member_of(p).reread(p, generation, run);
  auto server = follow_at_leader(p, {generation, 1}, run);
  if (server) remove_old(p, generation);
  return server;
}

// The consumer that there was is given up. Not before NATS can make another one: when connections
// come back those that there are go on.
void Cluster::give_up(PartitionId p, std::uint16_t generation) {
  const std::scoped_lock lock(mutex_);
  Consumer* const c = attachments_[p].of(generation);
  if (c != nullptr && std::exchange(c->attached, false)) c->since = steady_clock::now();
}

// A consumer may be made at any server. If another than the stream's leader is lost, the stream
// goes on, and so should its consumer.
Result<std::string> Cluster::follow_at_leader(PartitionId p, Position from, std::uint64_t run) {
  give_up(p, from.generation);
  Result<std::string> server;
  for (int tries = 1; tries <= kPlacements; ++tries) {
    server = bus_->follow(p, from, run);
    if (!server) return server;
    const auto leader = bus_->leader(p, from.generation);
    if (!leader || !*leader || **leader == *server) break;
  }
  // A new consumer does not always notice that somebody listens; then another is made.
  bus_->probe(p, from.generation);
  for (auto waited = milliseconds{0}; waited < kFirstWord; waited += kLookForWord) {
    if (bus_->silent(p, from.generation) < kFirstWord) return server;
    std::unique_lock lock(mutex_);
    if (stopping_now_.wait_for(lock, kLookForWord, [&] { return stopping_; })) break;
  }
  replace_mute_leader(p, from.generation);
  return fail(Fault::busy, "its stream says nothing");
}

// When its own leader is cut off nats-server 2.9.10 may make a stream twice. A server that has both
// says nothing when it is elected, until another is. A leader changes without harm as long as
// nothing was stored.
void Cluster::replace_mute_leader(PartitionId p, std::uint16_t generation) {
  if (!replicated(generation)) return;
  {
    const auto now = steady_clock::now();
    const std::scoped_lock lock(mutex_);
    Consumer* const c = attachments_[p].of(generation);
    if (c == nullptr) return;
    if (c->mute == TimePoint{}) c->mute = now;
    if (now - c->mute < kMute) return;
  }
  const auto has = bus_->bounds(p, generation);
  if (!has || !*has || (*has)->last > 0) return;
  {
    const std::scoped_lock lock(mutex_);
    if (Consumer* const c = attachments_[p].of(generation)) c->mute = {};
  }
  spdlog::warn(
      "Partition {}: the leader of generation {} of its stream says nothing; another is "
      "asked for",
      p.value, generation);
  bus_->step_down(p, generation);
}

// Makes a stream that is not there, for a log that has come to `at`: only where no processor can
// have been before. One that has lost its log would else make anew, and empty, what others have
// left.
Result<void> Cluster::make_stream(PartitionId p, Position at) {
  const Position furthest = furthest_of_others(p);
  if (furthest.generation > at.generation) {
    return fail(Fault::not_found,
                fmt::format("generation {} of its stream is gone, and other processors are in "
                            "generation {}: unless they lend what this log lacks, it has to come "
                            "from a backup of one of them",
                            at.generation, furthest.generation));
  }
  if (at.sequence > 0) return fail(Fault::not_found, "its stream is gone");
  if (1 + others_of(p) < cluster::enough_to_know(options_.processors, options_.durable_on)) {
    return fail(Fault::busy, "it hears of too few processors to know whether it had a stream");
  }
  return bus_->ensure_stream(p, at.generation);
}

// Sees to it that a replicated stream is led by another server than has the bridge behind it, so
// that not both are lost at once. Fails as long as they are not.
Result<void> Cluster::part(PartitionId p, std::uint16_t generation) {
  const auto bridge = static_cast<std::uint16_t>(generation | 1);
  const auto before = static_cast<std::uint16_t>(bridge - 1);
  // The other one of the two is not what is attached here; it may be out of reach.
  if (generation == before) (void)bus_->ensure_stream(p, bridge);
  const auto leads = bus_->leader(p, before);
  const auto has_bridge = bus_->leader(p, bridge);
  const auto& own = generation == before ? leads : has_bridge;
  if (!own) return tl::unexpected(own.error());
  if (!*own) return fail(Fault::busy, "NATS is one server, which leads all streams");
  if ((*own)->empty()) return fail(Fault::busy, "the stream has no leader yet");
  if (!leads || !has_bridge || *leads != *has_bridge) return {};
  if (first_of(p)) bus_->step_down(p, before);
  return fail(Fault::busy, "one server leads both streams");
}

// What nobody comes back to. Who has been away for longer starts from a backup of another.
void Cluster::remove_old(PartitionId p, std::uint16_t generation) {
  if (generation < kKeptGenerations + 1 || !first_of(p)) return;
  const int old = generation - kKeptGenerations - 1;
  const auto removed = removed_.find(p);
  // One that could not be removed is tried again, also by a process that begins.
  int next = removed != removed_.end() ? removed->second + 1 : std::max(0, old - kRemovedAgain);
  for (; next <= old; ++next) {
    if (!bus_->remove_stream(p, static_cast<std::uint16_t>(next))) return;
    removed_[p] = static_cast<std::uint16_t>(next);
  }
}

// Of a stream to which others may have gone over. The server that has it may be lost; then what
// they say of themselves is enough. Should they go over all the same, what this processor takes
// meanwhile is not acknowledged, and taken back.
Result<std::optional<LogStreamBounds>> Cluster::bounds_of_later(PartitionId p,
                                                                std::uint16_t generation) {
  auto bounds = bus_->bounds(p, generation);
  if (bounds) return bounds;
  const Position furthest = furthest_of_others(p);
  if (furthest == Position{} || furthest.generation >= generation) return bounds;
  return std::optional<LogStreamBounds>{};
}

// The newest generation of a partition's stream that is to be followed instead of this one: what
// begins with an opening, or did before its oldest messages went.
Result<std::uint16_t> Cluster::newest_generation(PartitionId p, std::uint16_t from) {
  std::uint16_t newest = from;
  for (std::uint16_t next = from; next < UINT16_MAX;) {
    const auto bounds = bounds_of_later(p, ++next);
    if (!bounds) return tl::unexpected(bounds.error());
    if (!*bounds) break;
    if ((*bounds)->last == 0) continue;
    if ((*bounds)->first <= 1) {
      const auto first = bus_->fetch(p, {next, 1});
      if (!first) return tl::unexpected(first.error());
      if (!*first || !cluster::is_opening((*first)->bytes)) continue;
    }
    newest = next;
  }
  return newest;
}

// Just after an election a stream may not tell all that it has, so it is asked again for a while.
Result<std::string> Cluster::stop_when_sure(PartitionId p, Position anchor, std::string why) {
  const auto now = steady_clock::now();
  {
    const std::scoped_lock lock(mutex_);
    Attachment& a = attachments_[p];
    if (std::exchange(a.doubted, anchor) != anchor || now - a.doubted_since > 2 * kSure) {
      a.doubted_since = now;
    }
    if (now - a.doubted_since < kSure) return fail(Fault::busy, std::move(why));
  }
  member_of(p).stop_partition(p, std::move(why));
  return std::string{};
}

// A consumer from where this log ends, once it is certain that the stream is the one that it was
// made of.
Result<std::string> Cluster::attach_now(PartitionId p) {
  Member& member = member_of(p);
  const auto before = state_of(p);
  if (!before) return fail(Fault::busy, "its desk has not begun");
  const auto newest = newest_generation(p, before->anchor.generation);
  if (!newest) return tl::unexpected(newest.error());
  give_up(p, before->anchor.generation);
  auto anchor = member.rewind(p);
  if (!anchor) return fail(Fault::busy, "its desk is busy");
  if (anchor->generation != before->anchor.generation) {
    return fail(Fault::busy, "it goes over to another stream");
  }
  const auto anchor_before = anchor;
  if (*newest > anchor->generation) {
    anchor = Position{*newest, 0};
    member.set_generation(p, *newest);
  }
  // The others may have gone over to the next stream already: that is known first.
  const auto next = bounds_of_later(p, static_cast<std::uint16_t>(anchor->generation + 1));
  if (!next) return tl::unexpected(next.error());
  const auto state = state_of(p);
  if (*next && state && state->position.generation == anchor->generation && !state->cut &&
      (state->next_read < (*next)->last || !state->promises.empty())) {
    return fail(Fault::busy, "it has to read the next stream first");
  }
  // While NATS is asked it may take messages that others lend, or go over to the next stream. What
  // is found then does not speak of where it is.
  const auto moved = [&, was = *anchor_before] {
    const auto now_at = member.rewind(p);
    return !now_at || *now_at != was;
  };
  const auto bounds = bus_->bounds(p, anchor->generation);
  if (!bounds) return tl::unexpected(bounds.error());
  if (!*bounds) {
    if (auto ok = make_stream(p, *anchor); !ok) return tl::unexpected(ok.error());
  }
  const LogStreamBounds has = bounds->value_or(LogStreamBounds{});
  // A leader changes without harm as long as nobody has asked for anything.
  if (has.last == 0 && replicated(anchor->generation)) {
    if (auto ok = part(p, anchor->generation); !ok) return tl::unexpected(ok.error());
  }
  std::string why;
  if (anchor->sequence > has.last) {
    why = fmt::format(
        "its stream ends at message {}, and this log was made of {}: the stream has "
        "lost what it had acknowledged",
        has.last, anchor->sequence);
  } else if (has.last >= has.first && anchor->sequence + 1 < has.first) {
    why = fmt::format(
        "its stream begins at message {}, and this log ends at {}: what lies between "
        "has to come from a backup of another processor",
        has.first, anchor->sequence);
  } else if (anchor->sequence >= has.first && anchor->sequence > 0) {
    const auto same = has_last(p, *anchor);
    if (!same) return tl::unexpected(same.error());
    if (!*same) {
      why = fmt::format("message {} of its stream is not the one that this log was made of",
                        anchor->sequence);
    }
  }
  if (!why.empty()) {
    if (moved()) return fail(Fault::busy, "it has gone on meanwhile");
    // The others lend what it lacks up to the cut, so nothing depends on this stream.
    if (state && state->cut) return fail(Fault::busy, why);
    return stop_when_sure(p, *anchor, why);
  }
  const std::uint64_t run = ++run_;
  member.resume(p, anchor->generation, run);
  return follow_at_leader(p, {anchor->generation, anchor->sequence + 1}, run);
}

// ---- What comes over the network

Member* Cluster::member_of(NodeId origin) {
  const std::uint64_t i = origin.value & 0xff;
  if ((origin.value & ~std::uint64_t{0xff}) != me_.value || i == 0 || i > members_.size()) {
    return nullptr;
  }
  return members_[i - 1].get();
}

void Cluster::on_message(const cluster::Delivered& m, std::uint64_t run) {
  member_of(m.partition).arrived(m, run);
}
void Cluster::on_stored(NodeId origin, cluster::BatchNumber n, std::optional<Position> at) {
  if (Member* m = member_of(origin)) m->stored(n, at);
}
void Cluster::on_answers(NodeId origin, std::span<const std::byte> bytes) {
  if (Member* m = member_of(origin)) m->answered(bytes);
}
void Cluster::on_query(PartitionId p, std::span<const std::byte> bytes, std::string_view reply_to) {
  // Who is behind what others have said some time ago leaves it to them; the edge asks again.
  const auto state = state_of(p);
  if (!state || !state->stopped.empty() || state->position < furthest_of_others(p)) return;
  // So does who is cut off from them.
  if (!heard_enough(p)) return;
  member_of(p).asked(bytes, reply_to);
}
void Cluster::on_reply(NodeId origin, std::uint64_t n, std::span<const std::byte> bytes) {
  if (Member* m = member_of(origin)) m->replied(n, bytes);
}

void Cluster::on_shown(std::span<const std::byte> bytes) {
  if (const auto all = parse_all_shown(bytes)) {
    const std::scoped_lock lock(mutex_);
    for (const PartitionId p : *all) {
      if (p.value >= options_.partitions || takes(p)) continue;
      shown_.insert(p);
      shown_since_.insert(p);
    }
    return;
  }
  // What one processor had alone is taken back when it goes over to the others' next stream. It may
  // have been all there was of a sale.
  if (const auto none = parse_no_sale(bytes)) {
    const auto sale = shown_in_.find(none->sku);
    if (sale == shown_in_.end() || none->generation <= sale->second.generation) return;
    sale->second.generation = none->generation;
    board_.withdraw(sale->second.name.view());
    return;
  }
  auto shown = parse_shown(bytes);
  if (!shown || takes(shown->look.sku)) return;
  const SkuName name = shown->look.name;
  ShownSale& sale = shown_in_.try_emplace(shown->look.sku, ShownSale{0, name}).first->second;
  if (shown->generation < sale.generation) return;
  const bool newer = std::exchange(sale.generation, shown->generation) < shown->generation;
  const auto now = board_.find(name.view());
  if (!newer && now != nullptr && now->position >= shown->look.position) return;
  if (now != nullptr) shown->look.previous = now->position;
  board_.publish(name.view(), std::make_shared<const Availability>(std::move(shown->look)));
}

void Cluster::on_show() {
  for (auto& m : members_) m->show_all();
}

void Cluster::on_lacks(std::span<const std::byte> bytes) {
  const auto lacks = parse_lacks(bytes);
  if (lacks && lacks->node != me_ && takes(lacks->partition)) {
    member_of(lacks->partition).lacked(*lacks);
  }
}

void Cluster::on_has(std::span<const std::byte> bytes) {
  const auto m = parse_has(bytes);
  if (m && takes(m->partition)) member_of(m->partition).lent(*m);
}

void Cluster::on_unstored(PartitionId p) {
  const std::scoped_lock lock(mutex_);
  if (const auto it = attachments_.find(p); it != attachments_.end()) {
    it->second.unstored = steady_clock::now();
  }
}

void Cluster::on_heartbeat(std::span<const std::byte> bytes) {
  auto h = parse_heartbeat(bytes);
  if (!h) return;
  const auto now = steady_clock::now();
  const std::scoped_lock lock(mutex_);
  if (h->node == me_) {
    heard_itself_ = now;
    return;
  }
  std::erase_if(peers_,
                [&](const auto& p) { return now - p.second.heard > std::chrono::minutes(1); });
  // A processor that was not there before may know sales that this node does not.
  if (h->processor && !peers_.contains(h->node.value)) ask_to_show_ = true;
  if (h->processor) processor_heard_ = now;
  Peer& peer = peers_[h->node.value];
  peer.past.emplace_front(now, h->partitions);
  if (peer.past.size() > kPast) peer.past.pop_back();
  peer.said = std::move(*h);
  peer.heard = now;
}

void Cluster::on_connection(bool up) {
  {
    const std::scoped_lock lock(mutex_);
    up_ = up;
    ask_to_show_ = ask_to_show_ || up;
    shown_since_.clear();
  }
  if (started_) {
    for (auto& m : members_) m->reconnected();
  }
  if (up) {
    spdlog::info("NATS is back");
  } else {
    spdlog::warn("NATS is gone; nothing is decided until it is back");
  }
}

void Cluster::on_connection_lost() {
  {
    const std::scoped_lock lock(mutex_);
    up_ = false;
  }
  spdlog::critical("NATS refuses this node; are its credentials right? {}",
                   options_.begin_anew ? "The server starts again" : "Start the server again");
  if (options_.begin_anew) options_.begin_anew();
}

// ---- What is told of it

cluster::Position Cluster::furthest_of_others(PartitionId p) const {
  Position furthest;
  const auto now = steady_clock::now();
  const std::scoped_lock lock(mutex_);
  for (const auto& [_, peer] : peers_) {
    if (now - peer.heard > kAlive) continue;
    for (const auto& of : peer.said.partitions) {
      if (of.id == p && !of.stopped) furthest = std::max(furthest, of.position);
    }
  }
  return furthest;
}

// Why nothing of a partition is taken here just now; empty: it is.
std::string Cluster::why_waits(PartitionId p) const {
  const std::scoped_lock lock(mutex_);
  const auto it = attachments_.find(p);
  if (it == attachments_.end() || it->second.now.attached) return {};
  // It is soon followed again.
  const Consumer& now = it->second.now;
  if (now.was && steady_clock::now() - now.since < kSilence) return {};
  return now.trouble.empty() ? "its stream is not followed yet" : now.trouble;
}

std::string Cluster::why_not_ready() const {
  {
    const std::scoped_lock lock(mutex_);
    if (!up_) return "NATS is not connected";
    if (shown_.size() < takes_not_) {
      return "it does not know the sales yet";
    }
    // It may be cut off, which its connection notices later.
    if (!options_.processor) {
      const auto now = steady_clock::now();
      if (now - processor_heard_ > kHears) return "it hears nothing of processors";
      if (now - heard_itself_ > kHears) return "what it sends does not come back from NATS";
    }
  }
  // A processor is judged by what it takes. An edge has work as long as something is served; one
  // that begins waits for a while for all of it.
  std::string why;
  bool serves = false;
  for (std::uint32_t i = 0; i < options_.partitions; ++i) {
    const PartitionId p{i};
    if (options_.processor && !takes(p)) continue;
    // A NATS server that is cut off may still hear the others, and nodes by way of it: what these
    // ask of a stream gets nowhere.
    std::size_t processors = takers_of(p).hear_this;
    if (takes(p)) {
      const auto state = state_of(p);
      if (!state) return fmt::format("partition {} has not begun", i);
      if (!state->stopped.empty()) {
        return fmt::format("partition {} is stopped: {}", i, state->stopped);
      }
      if (auto waits = why_waits(p); !waits.empty()) {
        return fmt::format("partition {} waits: {}", i, waits);
      }
      ++processors;
    }
    if (processors >= options_.durable_on) {
      serves = true;
      continue;
    }
    why = fmt::format("partition {} has {} processors of the {} that are needed and hear this node",
                      i, processors, options_.durable_on);
  }
  if (why.empty()) served_all_ = true;
  const bool settled = served_all_ || steady_clock::now() - begun_ > kWaitForAll;
  return !options_.processor && serves && settled ? std::string{} : why;
}

ClusterFigures::Partition Cluster::figures_of(PartitionId p,
                                              const cluster::Follower::State& s) const {
  ClusterFigures::Partition out{
      .id = p, .position = s.position, .stopped = s.stopped, .waits = why_waits(p)};
  if (const Position furthest = furthest_of_others(p); furthest > s.position) {
    if (furthest.generation == s.position.generation) {
      out.lag_messages = furthest.sequence - s.position.sequence;
    } else {
      out.lag_generations = furthest.generation - s.position.generation;
    }
  }
  const std::scoped_lock lock(mutex_);
  if (const auto it = attachments_.find(p); it != attachments_.end()) {
    out.next_ready = it->second.next.attached;
    out.changes = it->second.changes;
  }
  return out;
}

ClusterFigures Cluster::figures() const {
  ClusterFigures out{.not_ready = why_not_ready()};
  ++(options_.processor ? out.processors : out.edges);
  for (const auto& m : members_) {
    out.requests_under_way += m->requests_under_way();
  }
  out.partitions = figures_of_partitions();
  for (const auto& p : out.partitions) {
    out.takers.push_back({.partition = p.id, .node = options_.bus.name, .position = p.position});
  }
  for (const Heartbeat& h : alive()) {
    ++(h.processor ? out.processors : out.edges);
    for (const auto& of : h.partitions) {
      out.takers.push_back({.partition = of.id, .node = h.name, .position = of.position});
    }
  }
  return out;
}

std::vector<ClusterFigures::Partition> Cluster::figures_of_partitions() const {
  std::vector<ClusterFigures::Partition> out;
  for (const auto& m : members_) {
    for (const auto& [p, s] : m->partitions()) out.push_back(figures_of(p, s));
  }
  return out;
}

std::string Cluster::where() const {
  struct Others {
    std::size_t count = 0;
    Position furthest{};
  };
  std::vector<Others> others(options_.partitions);
  for (const Heartbeat& h : alive()) {
    for (const auto& of : h.partitions) {
      if (of.id.value >= others.size()) continue;
      auto& [count, furthest] = others[of.id.value];
      ++count;
      furthest = std::max(furthest, of.position);
    }
  }
  std::string out;
  if (!options_.processor) {
    for (std::size_t i = 0; i < others.size(); ++i) {
      const auto& [count, furthest] = others[i];
      out +=
          fmt::format("partition {}: {} processors, the furthest at message {} of generation {}\n",
                      i, count, furthest.sequence, furthest.generation);
    }
    return out;
  }
  for (const auto& p : figures_of_partitions()) {
    const bool generations = p.lag_generations > 0;
    out += fmt::format("partition {}: at message {} of generation {}, {} {} behind, {} others\n",
                       p.id.value, p.position.sequence, p.position.generation,
                       generations ? p.lag_generations : p.lag_messages,
                       generations ? "generations" : "messages", others[p.id.value].count);
  }
  return out;
}

std::string Cluster::json() const {
  std::string out;
  JsonWriter json(out);
  const auto id = [](NodeId n) { return fmt::format("{:016x}", n.value); };
  const auto why = [&json](std::string_view key, std::string_view reason) {
    json.key(key);
    reason.empty() ? json.null() : json.value(reason);
  };
  json.begin_object()
      .member("node", std::string_view(options_.bus.name))
      .member("id", std::string_view(id(me_)))
      .member("role", options_.processor ? "processor" : "edge");
  const ClusterFigures now = figures();
  why("not_ready", now.not_ready);
  json.key("partitions").begin_array();
  for (const auto& p : now.partitions) {
    json.begin_object()
        .member("partition", p.id.value)
        .member("generation", p.position.generation)
        .member("message", p.position.sequence)
        .key("lag");
    p.lag_generations == 0 ? json.value(p.lag_messages) : json.null();
    why("stopped", p.stopped);
    why("waits", p.waits);
    json.member("next_ready", p.next_ready).member("changes", p.changes).end_object();
  }
  json.end_array().key("others").begin_array();
  for (const Heartbeat& h : alive()) {
    json.begin_object()
        .member("node", std::string_view(h.name))
        .member("id", std::string_view(id(h.node)))
        .member("role", h.processor ? "processor" : "edge")
        .key("partitions")
        .begin_array();
    for (const auto& of : h.partitions) {
      json.begin_object()
          .member("partition", of.id.value)
          .member("generation", of.position.generation)
          .member("message", of.position.sequence);
      why("stopped", of.stopped ? "its own answer says why" : "");
      why("waits", of.waits ? "its own answer says why" : "");
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().end_object();
  return out;
}

}  // namespace fairsale::api
