#include "api/cluster/cluster.hpp"

#include <fmt/format.h>
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
constexpr milliseconds kBeat{250};
constexpr milliseconds kAlive{1'500};    // since a heartbeat
constexpr milliseconds kSilence{1'500};  // of a stream that speaks each half second
constexpr milliseconds kTryAgain{300};
constexpr milliseconds kShowAgain{10'000};

NodeId random_node() {
  std::uint64_t n = 0;
  RAND_bytes(reinterpret_cast<unsigned char*>(&n), sizeof n);
  return NodeId{(n | 1ULL << 63) & ~std::uint64_t{0xff}};
}

}  // namespace

Cluster::Cluster(ClusterOptions options, Engine& engine, AvailabilityBoard& board,
                 const EventLog* log)
    : options_(std::move(options)), engine_(engine), board_(board), log_(log), me_(random_node()) {}

Cluster::~Cluster() { stop(); }

Result<std::unique_ptr<Cluster>> Cluster::join(ClusterOptions options, Engine& engine,
                                               const Clock& clock, AvailabilityBoard& board,
                                               const EventLog* log,
                                               std::function<void(std::size_t)> wake) {
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
  std::unique_ptr<Cluster> self(new Cluster(std::move(options), engine, board, log));
  auto bus = connect_nats(self->options_.bus, *self);
  if (!bus) return tl::unexpected(bus.error());
  self->bus_ = std::move(*bus);
  for (std::size_t i = 0; i < engine.shards(); ++i) {
    MemberOptions m;
    m.processor = self->options_.processor;
    m.node = self->me_;
    m.origin = NodeId{self->me_.value | (i + 1)};
    m.partitions = spread;
    m.durable_on = self->options_.durable_on;
    self->members_.push_back(
        std::make_unique<Member>(*self->bus_, engine.shard(i), clock, m, [wake, i] { wake(i); }));
    if (auto ok = self->bus_->hear_origin(m.origin); !ok) return tl::unexpected(ok.error());
  }
  if (auto ok = self->bus_->hear_heartbeats(); !ok) return tl::unexpected(ok.error());
  if (!self->options_.processor) {
    if (auto ok = self->bus_->hear_shown(); !ok) return tl::unexpected(ok.error());
    return self;
  }
  for (std::uint32_t i = 0; i < spread.count; ++i) {
    const PartitionId p{i};
    const auto at = positions.contains(p) ? positions[p] : Position{};
    self->generations_[p] = at.generation;
    self->attachments_[p] = {};
    self->member_of(p).begin(p, at);
    self->member_of(p).set_generation(p, at.generation);
    if (at.sequence == 0) {
      if (auto ok = self->bus_->ensure_stream(p, at.generation); !ok) {
        return tl::unexpected(ok.error());
      }
    }
    if (auto ok = self->bus_->hear_queries(p); !ok) return tl::unexpected(ok.error());
  }
  if (auto ok = self->bus_->hear_show(); !ok) return tl::unexpected(ok.error());
  return self;
}

void Cluster::start() {
  keeper_ = std::thread([this] { keep(); });
}

void Cluster::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  stopping_now_.notify_all();
  for (auto& m : members_) m->close();
  if (keeper_.joinable()) keeper_.join();
  if (bus_) bus_->close();
}

// ---- The keeper: heartbeats, and streams that are followed

void Cluster::keep() {
  TimePoint next_beat{};
  TimePoint next_show{};
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const bool show = !options_.processor &&
                      (std::exchange(ask_to_show_, false) || steady_clock::now() >= next_show);
    lock.unlock();
    const auto now = steady_clock::now();
    if (now >= next_beat) {
      beat();
      next_beat = now + kBeat;
    }
    if (show) {
      bus_->ask_to_show();
      next_show = now + kShowAgain;
    }
    for (const auto& [p, _] : attachments_) watch(p);
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

void Cluster::beat() {
  Heartbeat h{.node = me_, .processor = options_.processor, .name = options_.bus.name};
  for (const auto& member : members_) {
    for (const auto& [p, s] : member->partitions()) {
      h.partitions.push_back({p, s.position, !s.stopped.empty()});
    }
  }
  Bytes bytes;
  append_heartbeat(bytes, h);
  bus_->publish_heartbeat(bytes);

  std::uint32_t rank = 0;
  for (const Heartbeat& other : alive()) {
    if (other.processor && other.node.value < me_.value) ++rank;
    for (const auto& of : other.partitions) {
      if (of.id.value >= options_.partitions || options_.processor || of.stopped) continue;
      auto& known = generations_[of.id];
      known = std::max(known, of.position.generation);
      member_of(of.id).set_generation(of.id, known);
    }
  }
  for (auto& m : members_) m->set_rank(rank);
}

void Cluster::watch(PartitionId p) {
  Attachment& a = attachments_[p];
  const auto states = member_of(p).partitions();
  const auto found = states.find(p);
  if (found == states.end()) return;  // the desk has not begun
  if (!found->second.stopped.empty()) {
    if (!std::exchange(a.told, true)) {
      spdlog::critical(
          "Partition {} is stopped on this node: {}. Nothing of it is decided here any "
          "more; what was acknowledged is in the logs of {} processors at least",
          p.value, found->second.stopped, options_.durable_on);
    }
    return;
  }
  if (a.attached && !found->second.gap && bus_->silent(p) < kSilence) return;
  const auto now = steady_clock::now();
  if (now - a.tried < kTryAgain) return;
  a.tried = now;
  if (auto ok = attach(p, a); !ok) {
    spdlog::warn("Partition {} waits: {}", p.value, ok.error().message);
  }
}

// The newest generation of a partition's stream that is to be followed instead of this one: what
// begins with an opening, or did before its oldest messages went.
Result<std::uint16_t> Cluster::newest_generation(PartitionId p, std::uint16_t from) {
  std::uint16_t newest = from;
  for (std::uint16_t next = from; next < UINT16_MAX;) {
    const auto bounds = bus_->bounds(p, ++next);
    if (!bounds) return tl::unexpected(bounds.error());
    if (!*bounds) break;
    if ((*bounds)->last == 0) continue;
    if ((*bounds)->first <= 1) {
      const auto first = bus_->fetch(p, {next, 1});
      if (!first) return tl::unexpected(first.error());
      if (!*first || !cluster::is_opening(**first)) continue;
    }
    newest = next;
  }
  return newest;
}

// A consumer from where this log ends, once it is certain that the stream is the one that it was
// made of.
Result<void> Cluster::attach(PartitionId p, Attachment& a) {
  a.attached = false;
  Member& member = member_of(p);
  auto anchor = member.rewind(p);
  if (!anchor) return fail(Fault::busy, "its desk is busy");
  const auto newest = newest_generation(p, anchor->generation);
  if (!newest) return tl::unexpected(newest.error());
  if (*newest > anchor->generation) {
    anchor = Position{*newest, 0};
    generations_[p] = *newest;
    member.set_generation(p, *newest);
  }
  const auto bounds = bus_->bounds(p, anchor->generation);
  if (!bounds) return tl::unexpected(bounds.error());
  if (!*bounds && anchor->sequence == 0) {
    if (auto ok = bus_->ensure_stream(p, anchor->generation); !ok) return ok;
  } else if (!*bounds) {
    member.stop_partition(p, "its stream is gone");
    return {};
  }
  const Bus::Bounds has = *bounds ? **bounds : Bus::Bounds{};
  if (anchor->sequence > has.last) {
    member.stop_partition(
        p, fmt::format("its stream ends at message {}, and this log was made of {}: the stream has "
                       "lost what it had acknowledged",
                       has.last, anchor->sequence));
    return {};
  }
  if (has.last >= has.first && anchor->sequence + 1 < has.first) {
    member.stop_partition(
        p,
        fmt::format("its stream begins at message {}, and this log ends at {}: what lies between "
                    "has to come from a backup of another processor",
                    has.first, anchor->sequence));
    return {};
  }
  if (anchor->sequence >= has.first && anchor->sequence > 0) {
    const auto bytes = bus_->fetch(p, *anchor);
    if (!bytes) return tl::unexpected(bytes.error());
    bool same = bytes->has_value();
    if (same) {
      const auto made = cluster::made_last_block(*log_, {p, *anchor, Timestamp{0}, **bytes});
      if (!made) return tl::unexpected(made.error());
      // An opening leaves no block; it was compared with the logs when it was taken.
      same = *made || (anchor->sequence == 1 && cluster::is_opening(**bytes));
    }
    if (!same) {
      member.stop_partition(p, fmt::format("message {} of its stream is not the one that this log "
                                           "was made of",
                                           anchor->sequence));
      return {};
    }
  }
  member.resume(p, ++a.run);
  if (auto ok = bus_->follow(p, {anchor->generation, anchor->sequence + 1}, a.run); !ok) return ok;
  a.attached = true;
  return {};
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
  member_of(p).asked(bytes, reply_to);
}
void Cluster::on_reply(NodeId origin, std::uint64_t n, std::span<const std::byte> bytes) {
  if (Member* m = member_of(origin)) m->replied(n, bytes);
}

void Cluster::on_shown(std::span<const std::byte> bytes) {
  auto shown = parse_shown(bytes);
  if (!shown) return;
  const Availability& a = shown->availability;
  const SkuId sku = a.sku;
  const auto now = board_.find(a.name.view());
  if (now != nullptr && now->position >= a.position) return;
  const SkuName name = a.name;
  if (now != nullptr) shown->availability.previous = now->position;
  board_.publish(name.view(), std::make_shared<const Availability>(std::move(shown->availability)));
  const PartitionId p = cluster::Partitions{options_.partitions}.of(sku);
  member_of(p).knows(sku, shown->mark);
}

void Cluster::on_show() {
  for (auto& m : members_) m->show_all();
}

void Cluster::on_heartbeat(std::span<const std::byte> bytes) {
  auto h = parse_heartbeat(bytes);
  if (!h || h->node == me_) return;
  const auto now = steady_clock::now();
  const std::scoped_lock lock(mutex_);
  std::erase_if(peers_,
                [&](const auto& p) { return now - p.second.heard > std::chrono::minutes(1); });
  // A processor that was not there before may know sales that this node does not.
  if (h->processor && !peers_.contains(h->node.value)) ask_to_show_ = true;
  peers_[h->node.value] = {std::move(*h), now};
}

void Cluster::on_connection(bool up) {
  {
    const std::scoped_lock lock(mutex_);
    up_ = up;
    ask_to_show_ = ask_to_show_ || up;
  }
  if (up) {
    spdlog::info("NATS is back");
  } else {
    spdlog::warn("NATS is gone; nothing is decided until it is back");
  }
}

// ---- What is told of it

std::string Cluster::why_not_ready() const {
  {
    const std::scoped_lock lock(mutex_);
    if (!up_) return "NATS is not connected";
  }
  std::map<PartitionId, cluster::Follower::State> own;
  for (const auto& m : members_) own.merge(m->partitions());
  const auto others = alive();
  for (std::uint32_t i = 0; i < options_.partitions; ++i) {
    const PartitionId p{i};
    std::size_t processors = 0;
    if (options_.processor) {
      const auto state = own.find(p);
      if (state == own.end()) return fmt::format("partition {} has not begun", i);
      if (!state->second.stopped.empty()) {
        return fmt::format("partition {} is stopped: {}", i, state->second.stopped);
      }
      ++processors;
    }
    for (const Heartbeat& h : others) {
      processors += static_cast<std::size_t>(
          std::count_if(h.partitions.begin(), h.partitions.end(),
                        [&](const auto& of) { return of.id == p && !of.stopped; }));
    }
    if (processors < options_.durable_on) {
      return fmt::format("partition {} has {} processors of the {} that are needed", i, processors,
                         options_.durable_on);
    }
  }
  return {};
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
  why("not_ready", why_not_ready());
  json.key("partitions").begin_array();
  for (const auto& m : members_) {
    for (const auto& [p, s] : m->partitions()) {
      json.begin_object()
          .member("partition", p.value)
          .member("generation", s.position.generation)
          .member("message", s.position.sequence);
      why("stopped", s.stopped);
      json.end_object();
    }
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
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().end_object();
  return out;
}

}  // namespace fairsale::api
