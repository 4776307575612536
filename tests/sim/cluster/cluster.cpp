#include "tests/sim/cluster/cluster.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "core/cluster/agreement.hpp"
#include "core/cluster/answer_gate.hpp"
#include "core/cluster/follower.hpp"
#include "core/log/little_endian.hpp"
#include "core/log/memory_log.hpp"
#include "tests/sim/chance.hpp"
#include "tests/sim/trace.hpp"

namespace fairsale::sim {

namespace {

using namespace fairsale::cluster;
using Bytes = std::vector<std::byte>;

constexpr Timestamp kStart{1'800'000'000'000};
constexpr Duration kPatience{4'000};

struct Broken {
  std::string what;
};

// ---- What lies on a processor's disk. A commit may be its process's last.

struct Died {};

class Disk final : public EventLog {
 public:
  enum class Blow : std::uint8_t { none, before, after };

  Result<void> append(std::span<const BlockWrite> blocks) override {
    const Blow blow = std::exchange(next, Blow::none);
    if (blow == Blow::before) throw Died{};
    if (auto done = log->append(blocks); !done) return done;
    if (blow == Blow::after) throw Died{};
    return {};
  }
  Result<void> read(SkuId sku, Seq from,
                    const std::function<bool(const BlockView&)>& visit) const override {
    return log->read(sku, from, visit);
  }
  Result<std::vector<SkuHead>> heads() const override { return log->heads(); }
  Result<std::vector<LastBlock>> last_blocks() const override { return log->last_blocks(); }
  Result<void> put_snapshot(SkuId sku, const Head& at, const Sale& sale) override {
    return log->put_snapshot(sku, at, sale);
  }
  Result<std::optional<Snapshot>> snapshot(SkuId sku, Seq at_most) const override {
    return log->snapshot(sku, at_most);
  }
  Result<void> shorten(std::span<const SkuHead> heads) override { return log->shorten(heads); }
  void settle() override {}

  // The head that ends at this position.
  std::optional<Head> head_at(SkuId sku, Seq seq) const {
    std::optional<Head> found;
    if (seq.value == 0) return Head{};
    (void)log->read(sku, seq, [&](const BlockView& b) {
      if (b.last() == seq) found = Head{seq, b.header().time, b.digest()};
      return false;
    });
    return found;
  }
  Head head(SkuId sku) const {
    const auto all = log->heads();
    for (const SkuHead& h : *all) {
      if (h.sku == sku) return h.head;
    }
    return {};
  }

  std::unique_ptr<MemoryLog> log = std::make_unique<MemoryLog>();
  Blow next = Blow::none;
};

// ---- A partition's stream.

struct Stream {
  struct Stored {
    Timestamp time;
    Bytes bytes;
  };
  std::vector<Stored> messages;
  std::int64_t silent_until = 0;  // it neither takes nor delivers anything
};

// Those of a partition, by generation.
struct Streams {
  std::map<std::uint16_t, Stream> all;
  std::uint16_t opened = 0;  // the latest that an operator made

  std::uint16_t newest() const { return all.empty() ? std::uint16_t{0} : all.rbegin()->first; }
};

// ---- What is under way, by the time at which it arrives.

struct Publication {
  PartitionId partition;
  NodeId origin;
  BatchNumber number;
  std::uint16_t generation = 0;
  Bytes bytes;
};
struct Acknowledgement {
  NodeId origin;
  BatchNumber number;
  Position position;
};
struct Reply {
  NodeId origin;
  Bytes bytes;
};
using Item = std::variant<Publication, Acknowledgement, Reply>;

// ---- What a processor says of an event, in its answers.

struct Told {
  std::uint8_t kind = 0;  // of the decision; 255: refused, nothing recorded
  std::uint8_t reason = 0;
  std::uint64_t seq = 0;
  std::uint64_t purchase = 0;

  static Told of(Seq seq, const Decision& d) {
    return {static_cast<std::uint8_t>(d.kind), static_cast<std::uint8_t>(d.reason), seq.value,
            d.purchase.value};
  }
  friend bool operator==(const Told&, const Told&) = default;
};
constexpr std::size_t kToldBytes = 18;

// ---- A processor: its disk and what lives in its memory.

struct Shard final : public fairsale::Answers {
  struct Nobody final : SaleObserver {
    void seed(SkuId, const Sale&) override {}
    void on_decision(SkuId, const Sale&, const Decision&) override {}
    void on_commit(SkuId, const Sale&) override {}
  };

  Shard(Disk& disk, const Clock& clock, Partitions spread, ProcessorId me, std::size_t promises)
      : id(me),
        sequencer(disk, clock, nobody, {.snapshot_every = 40, .ordered_elsewhere = true}),
        follower(sequencer, spread, promises) {}

  void on_decided(const Ticket&, SkuId, Seq seq, const Event&, const Decision& d,
                  const Sale&) override {
    tell(Told::of(seq, d));
  }
  void on_refused(const Ticket&, const Event&, Admission) override { tell({255, 0, 0, 0}); }
  void on_followed(const Ordered& m, const Head& after) override {
    if (!m.tickets.empty()) {
      const Asker asker = Asker::of(m.tickets[0]);
      Bytes bytes;
      append_answers(bytes, {id, asker.number, m.sku, m.position, Mark::of(after)}, content);
      replies.push_back({asker.origin, std::move(bytes)});
    }
    content.clear();
  }
  void tell(const Told& t) {
    std::array<std::byte, kToldBytes> bytes;
    bytes[0] = std::byte{t.kind};
    bytes[1] = std::byte{t.reason};
    put_le(bytes.data() + 2, t.seq);
    put_le(bytes.data() + 10, t.purchase);
    content.insert(content.end(), bytes.begin(), bytes.end());
  }

  ProcessorId id;
  Nobody nobody;
  Sequencer sequencer;
  Follower follower;
  Bytes content;
  std::vector<Reply> replies;
};

struct Processor {
  Disk disk;
  ManualClock clock{kStart};
  std::unique_ptr<Shard> shard;                   // none: it is down
  std::map<PartitionId, std::uint16_t> promised;  // on its disk: for which generation
  std::map<PartitionId, Position> over;           // on its disk: where it went over last
  std::map<PartitionId, std::uint64_t> next;      // what its consumer delivers next
  // Before it takes anything of its log's generation after a start, it has read the stream of the
  // next one up to here.
  std::map<PartitionId, Position> to_read;
  // What it took, for others that lack it. In its memory.
  std::map<std::pair<PartitionId, Position>, Stream::Stored> taken;
  std::map<PartitionId, std::string> stopped;  // outlives its process, as the cause does
  std::map<PartitionId, Position> too_long;    // in its memory: before others were asked
  std::map<PartitionId, Position> shorten_to;  // on its disk: before the log is used again
  std::map<PartitionId, std::map<std::uint16_t, std::uint64_t>> cuts;  // on its disk
  std::int64_t paused_until = 0;
};

// ---- An origin.

struct Request {
  SkuId sku;
  Event event;
};

struct Origin {
  NodeId id;
  AnswerGate gate{{}};
  std::map<SkuId, std::vector<Request>> waiting;
  std::map<BatchNumber, std::vector<Request>> asked;
  std::map<SkuId, Mark> knows;
  std::map<PartitionId, std::uint16_t> generations;  // of which it has had answers
};

class Life {
 public:
  Life(std::uint64_t seed, std::FILE* text)
      : shape_(seed, 0), chance_(seed, 1), net_(seed, 2), trace_(text) {
    processors_.resize(shape_.pick<std::size_t>({3, 3, 3, 5, 1, 2}));
    durable_on_ = processors_.size() / 2 + 1;
    spread_.count = shape_.pick({1u, 1u, 2u});
    streams_.resize(spread_.count);
    origins_.resize(shape_.pick({1u, 2u, 2u, 3u}));
    customers_ = shape_.pick({2u, 4u, 12u});
    keys_ = shape_.pick({1u, 2u, 5u});
    steps_ = shape_.pick({60u, 200u, 500u});
    for (auto& often : faults_) often = shape_.one_in(3) ? 0 : shape_.pick({200u, 60u, 20u, 8u});
    delay_ = shape_.pick({2, 20, 200});
    const std::uint32_t skus = shape_.pick({1u, 1u, 2u, 4u});
    for (std::uint32_t i = 0; i < skus; ++i) names_.push_back(fmt::format("sku{}", i));
    stock_ = shape_.pick({1u, 3u, 20u});
    hold_ = shape_.pick({1'000, 5'000, 60'000});
  }

  ClusterReport run() {
    try {
      for (auto& p : processors_) boot(p);
      for (auto& o : origins_) start(o);
      for (const auto& name : names_) schedule(name);
      for (std::uint64_t done = 0; done < steps_; ++done) step();
      settle();
      judge();
    } catch (const Broken& b) {
      report_.failure = b.what;
    }
    trace_.add(counts_.accepted, counts_.batches, counts_.stopped);
    counts_.lives = 1;
    report_.counts = counts_;
    report_.hash = trace_.hash();
    return report_;
  }

 private:
  enum Fault : std::size_t {
    lose_publication,
    repeat_publication,
    lose_acknowledgement,
    lose_reply,
    repeat_reply,
    redeliver,
    skip,
    kill,
    kill_in_commit,
    pause,
    kill_origin,
    stream_loss,
    stream_silence,
    suspicion,
    clocks,
    kFaults
  };

  [[noreturn]] static void fail(std::string what) { throw Broken{std::move(what)}; }
  static void expect(bool ok, std::string_view what) {
    if (!ok) fail(std::string(what));
  }
  bool strikes(Fault f) { return faulty_ && faults_[f] != 0 && chance_.one_in(faults_[f]); }
  bool net_strikes(Fault f) { return faulty_ && faults_[f] != 0 && net_.one_in(faults_[f]); }

  // ---- Processes

  void boot(Processor& p) {
    const auto at = static_cast<std::size_t>(&p - processors_.data());
    p.shard = std::make_unique<Shard>(p.disk, p.clock, spread_, ProcessorId{1 + at},
                                      enough_to_know(processors_.size(), durable_on_));
    p.taken.clear();
    p.too_long.clear();
    for (const auto& [id, end] : p.shorten_to) {
      const auto more = beyond(p.disk, spread_, id, end);
      expect(more.has_value(), "a log tells what it has beyond a cut");
      expect(p.disk.shorten(more->heads).has_value(), "a log can be shortened");
      counts_.taken_back += more->blocks;
      p.over[id] = end;
      say("processor {} takes back {} blocks of partition {}", at, more->blocks, id.value);
    }
    p.shorten_to.clear();
    const auto heads = p.disk.heads();
    for (const SkuHead& h : *heads) {
      auto folded =
          fold(p.disk, h, chance_.one_in(2) ? FoldFrom::snapshot : FoldFrom::start, nullptr);
      expect(folded.has_value(), "a processor's log can be folded");
      p.shard->sequencer.adopt(h.sku, std::move(*folded));
    }
    const auto positions = last_positions(p.disk, spread_);
    expect(positions.has_value(), "a processor's log tells its positions");
    for (std::uint32_t i = 0; i < spread_.count; ++i) {
      const PartitionId id{i};
      const auto known = positions->find(id);
      const Position has =
          std::max(known == positions->end() ? Position{} : known->second, p.over[id]);
      p.shard->follower.begin(id, has);
      p.shard->follower.keep_promise(id, p.promised[id]);
      p.shard->follower.keep_cuts(id, p.cuts[id]);
      const auto next = static_cast<std::uint16_t>(has.generation + 1);
      p.to_read[id] = {next, stream(id, next).messages.size()};
      if (p.stopped.contains(id)) p.shard->follower.stop(id, p.stopped[id]);
      connect(p, id);
    }
  }

  // A consumer begins behind what the processor has, if the stream is still the one it was.
  void connect(Processor& p, PartitionId id) {
    const Follower::State& s = p.shard->follower.partitions().at(id);
    if (!s.stopped.empty()) return;
    const Position at = s.anchor;
    const std::uint16_t generation = follows(p, id);
    if (at.generation == generation && at.sequence > 0) {
      const Stream& stream = this->stream(id, generation);
      bool same = at.sequence <= stream.messages.size();
      if (same && !parse_cut(stream.messages[at.sequence - 1].bytes) &&
          !is_opening(stream.messages[at.sequence - 1].bytes)) {
        const auto& m = stream.messages[at.sequence - 1];
        const auto made = made_last_block(p.disk, {id, at, m.time, m.bytes});
        expect(made.has_value(), "a processor can read its last block");
        same = *made || !is_last(p, m.bytes, at);
      }
      if (!same) return stop(p, id, "the stream does not have what this log was made of");
    }
    p.shard->follower.rewind(id);
    p.next[id] = s.position.generation == generation ? s.position.sequence + 1 : 1;
    p.shard->follower.reread(id);
  }

  Stream& stream(PartitionId id, std::uint16_t generation) {
    return streams_[id.value].all[generation];
  }

  // The generation that a processor takes: its own, or one that an operator made since.
  std::uint16_t follows(const Processor& p, PartitionId id) const {
    return std::max(p.shard->follower.partitions().at(id).position.generation,
                    streams_[id.value].opened);
  }

  // made_last_block() speaks of a SKU's last block; the anchor is that of one SKU.
  static bool is_last(const Processor& p, const Bytes& bytes, Position at) {
    Batch b;
    if (!parse_batch(bytes, b)) return true;
    const Head head = p.disk.head(b.sku);
    bool last = head.seq.value == 0;
    (void)p.disk.read(b.sku, head.seq, [&](const BlockView& v) {
      last = Position::of(v.header().epoch) <= at;
      return true;
    });
    return last;
  }

  void stop(Processor& p, PartitionId id, const std::string& why) {
    p.shard->follower.stop(id, why);
    note_stops(p);
  }

  void note_stop(Processor& p, PartitionId id, const std::string& why) {
    p.stopped[id] = why;
    ++counts_.stopped;
  }

  void note_stops(Processor& p) {
    for (const auto& [id, s] : p.shard->follower.partitions()) {
      if (s.stopped.empty() || p.stopped.contains(id)) continue;
      if (s.shorten_to) {
        p.too_long[id] = *s.shorten_to;
        continue;
      }
      if (!lossy_.contains(id)) {
        fail("a stream that is what it was stops a partition: " + s.stopped);
      }
      note_stop(p, id, s.stopped);
      say("processor {} stops partition {}: {}", index(p), id.value, s.stopped);
    }
  }

  void die(Processor& p) {
    say("processor {} dies", index(p));
    ++counts_.deaths;
    p.shard.reset();
  }

  void start(Origin& o) {
    o = {};
    o.id = NodeId{++origin_ids_};
    o.gate = AnswerGate({.durable_on = durable_on_, .limit = 64, .patience = kPatience});
  }

  std::size_t index(const Processor& p) const {
    return static_cast<std::size_t>(&p - processors_.data());
  }

  // ---- Clients

  void schedule(const std::string& name) {
    Terms t{.stock = Quantity{stock_},
            .price = {MinorUnits{100}, Currency{{'E', 'U', 'R'}}},
            .starts_at = kStart,
            .hold = Duration{hold_},
            .grace = Duration{500},
            .limit_per_customer = Quantity{2},
            .units_per_purchase = Quantity{2},
            .line_limit = 6};
    ask(origins_[0], sku_id(name),
        SaleScheduled{.sku = *SkuName::from(name), .terms = t, .actor = *Actor::from("operator")});
  }

  void ask(Origin& o, SkuId sku, Event e) { o.waiting[sku].push_back({sku, std::move(e)}); }

  Origin& some_origin() { return origins_[chance_.below(origins_.size())]; }
  SkuId some_sku() { return sku_id(names_[chance_.below(names_.size())]); }

  void attempt() {
    // A key always comes with the same quantity.
    const auto customer = chance_.below(customers_);
    const auto key = chance_.below(keys_);
    ask(some_origin(), some_sku(),
        PurchaseAttempted{.customer = *CustomerId::from(fmt::format("c{}", customer)),
                          .key = idempotency_key(fmt::format("k{}-{}", customer, key)),
                          .quantity = Quantity{1 + (customer + key) % 2}});
  }

  void act() {
    const auto& bought = bought_;
    if (bought.empty()) return attempt();
    const auto& [sku, purchase] = bought[chance_.below(bought.size())];
    Event e = PurchaseCancelled{purchase, Role::customer};
    if (chance_.one_in(2)) {
      e = PaymentReceived{purchase,
                          *PaymentReference::from(fmt::format("p{}", purchase.value)),
                          {MinorUnits{100}, Currency{{'E', 'U', 'R'}}}};
    }
    ask(some_origin(), sku, e);
  }

  // Each SKU's requests as one batch.
  void publish(Origin& o) {
    for (auto& [sku, requests] : o.waiting) {
      if (requests.empty()) continue;
      const auto number = o.gate.await(Duration{now_});
      if (!number) {
        requests.clear();  // 503
        continue;
      }
      BatchBuilder b;
      b.begin(sku, o.id);
      for (const Request& r : requests) expect(b.add(r.event), "a batch has room");
      const auto known = o.knows.find(sku);
      const auto bytes = b.finish(*number, known == o.knows.end() ? Mark{} : known->second);
      post(sku, o.id, *number, {bytes.begin(), bytes.end()});
      o.asked[*number].swap(requests);
      requests.clear();
    }
  }

  void post(SkuId sku, NodeId origin, BatchNumber number, Bytes bytes) {
    const PartitionId partition = spread_.of(sku);
    std::uint16_t generation = known_generation(partition);
    // Who knows what was decided in a generation publishes in none before it.
    if (Origin* o = this->origin(origin))
      generation = std::max(generation, o->generations[partition]);
    Publication p{partition, origin, number, generation, std::move(bytes)};
    send(std::move(p), repeat_publication, lose_publication);
  }

  // What heartbeats tell; sometimes late, and sometimes somebody is early.
  std::uint16_t known_generation(PartitionId id) {
    std::uint16_t g = streams_[id.value].opened;
    for (const Processor& p : processors_) {
      if (p.shard) g = std::max(g, p.shard->follower.partitions().at(id).position.generation);
    }
    if (g > 0 && faulty_ && chance_.one_in(6)) --g;
    if (faulty_ && chance_.one_in(40)) ++g;
    return g;
  }

  // ---- The network and the streams

  void send(Item item) {
    const std::int64_t arrives = now_ + 1 + net_.below(static_cast<std::uint64_t>(delay_));
    if (!in_flight_.empty() && in_flight_.rbegin()->first.first > arrives) ++counts_.overtaken;
    in_flight_.emplace(std::pair{arrives, ++sent_}, std::move(item));
  }

  void send(Item item, Fault repeats, Fault loses) {
    if (net_strikes(repeats)) {
      ++counts_.repeated;
      send(item);
    }
    if (net_strikes(loses)) {
      ++counts_.lost;
    } else {
      send(std::move(item));
    }
  }

  void arrive(Publication& p) {
    Stream& s = stream(p.partition, p.generation);
    if (s.silent_until > now_) return;
    s.messages.push_back({stream_time(), std::move(p.bytes)});
    ++counts_.batches;
    say("partition {} stores {} as {}/{}", p.partition.value, p.number.value, p.generation,
        s.messages.size());
    if (net_strikes(lose_acknowledgement)) {
      ++counts_.lost;
    } else {
      send(Acknowledgement{p.origin, p.number, {p.generation, s.messages.size()}});
    }
  }

  // Of the server that leads the stream just then.
  Timestamp stream_time() const { return Timestamp{kStart.value + now_ + stream_clock_}; }

  Origin* origin(NodeId id) {
    const auto it =
        std::find_if(origins_.begin(), origins_.end(), [&](const Origin& o) { return o.id == id; });
    return it == origins_.end() ? nullptr : &*it;
  }

  void arrive(const Acknowledgement& a) {
    if (Origin* o = origin(a.origin)) heard(*o, a.number, o->gate.stored(a.number, a.position), {});
  }

  void arrive(const Reply& r) {
    Origin* o = origin(r.origin);
    if (o == nullptr) return;
    const auto answers = parse_answers(r.bytes);
    expect(answers.has_value(), "answers can be read");
    heard(*o, answers->head.number, o->gate.answered(*answers), answers->head);
  }

  void heard(Origin& o, BatchNumber number, AnswerGate::Heard what,
             const std::optional<AnswersHead>& head) {
    if (what == AnswerGate::Heard::disagreed) ++counts_.disagreements;
    if (what != AnswerGate::Heard::released) return;
    auto node = o.asked.extract(number);
    expect(!node.empty(), "an answer is of what was asked");
    const auto& requests = node.mapped();
    const auto content = o.gate.content();
    expect(content.size() == requests.size() * kToldBytes, "each event is answered once");
    for (std::size_t i = 0; i < requests.size(); ++i) {
      const std::byte* at = content.data() + i * kToldBytes;
      accept(requests[i],
             {std::to_integer<std::uint8_t>(at[0]), std::to_integer<std::uint8_t>(at[1]),
              get_le<std::uint64_t>(at + 2), get_le<std::uint64_t>(at + 10)});
    }
    // The answers that completed it tell where the log was then; an acknowledgement does not.
    if (head) {
      Mark& known = o.knows[head->sku];
      if (head->mark.seq > known.seq) known = head->mark;
      auto& generation = o.generations[spread_.of(head->sku)];
      generation = std::max(generation, Position::of(head->position).generation);
    }
  }

  // An answer reaches a client: from now on it has to be true.
  void accept(const Request& r, const Told& told) {
    ++counts_.accepted;
    trace_.add(told.kind, told.reason, told.seq, told.purchase);
    if (told.kind == 255) return;
    const auto [at, fresh] = decided_.try_emplace({r.sku, told.seq}, told);
    expect(fresh || at->second == told, "one position has one event");
    const auto* attempt = std::get_if<PurchaseAttempted>(&r.event);
    if (attempt == nullptr) return;
    const std::string who(attempt->customer.view());
    const auto [first, is_first] = answered_.try_emplace({r.sku, who, attempt->key.bytes}, told);
    if (!is_first && (first->second.kind != told.kind || first->second.reason != told.reason ||
                      first->second.purchase != told.purchase)) {
      fail(
          fmt::format("the same key got another answer: {}/{} purchase {} at {}, then {}/{} "
                      "purchase {} at {}",
                      first->second.kind, first->second.reason, first->second.purchase,
                      first->second.seq, told.kind, told.reason, told.purchase, told.seq));
    }
    if (is_first && told.purchase != 0) bought_.emplace_back(r.sku, Seq{told.purchase});
  }

  // ---- Processors

  bool skips() {
    const bool yes = net_strikes(skip);
    counts_.lost += yes ? 1 : 0;
    return yes;
  }

  // Another has gone over to a later stream, and takes its messages, while this one still takes
  // those of the stream before: both decide sales of the same partition.
  bool has_left(const Processor& other, PartitionId id, std::uint16_t generation) const {
    return other.shard &&
           other.shard->follower.partitions().at(id).position.generation > generation;
  }

  void deliver(Processor& p, PartitionId id, std::size_t most) {
    Shard& shard = *p.shard;
    const Follower::State& s = shard.follower.partitions().at(id);
    if (!s.stopped.empty()) return;
    const std::uint16_t generation = follows(p, id);
    std::vector<Delivered> messages;
    const auto next_generation = static_cast<std::uint16_t>(generation + 1);
    const Stream& standby = stream(id, next_generation);
    if (s.next_gap && !s.cut && !net_strikes(skip)) shard.follower.reread(id);
    for (std::uint64_t n = s.next_read + 1;
         s.position.generation == generation && standby.silent_until <= now_ &&
         n <= standby.messages.size() && messages.size() < most;
         ++n) {
      const auto& m = standby.messages[n - 1];
      if (skips()) continue;
      messages.push_back({id, {next_generation, n}, m.time, m.bytes});
    }
    std::uint64_t& next = p.next[id];
    if (s.cut && s.position.generation == generation) {
      fill(p, id, messages);
      next = s.position.sequence + 1;  // if the stream is back, it has them too
    }
    if (net_strikes(redeliver)) {
      const auto again = std::min<std::uint64_t>(next - 1, net_.below(4));
      next -= again;
      counts_.repeated += again;
    }
    const Stream& stream = this->stream(id, generation);
    // Where its log stands may be beyond a cut that it has not heard of.
    const bool may =
        s.cut || p.to_read[id].generation != generation + 1 ||
        s.next_read >= std::min<std::uint64_t>(p.to_read[id].sequence, standby.messages.size());
    for (; may && stream.silent_until <= now_ && next <= stream.messages.size() &&
           messages.size() < most;
         ++next) {
      const auto& m = stream.messages[next - 1];
      if (skips()) continue;
      messages.push_back({id, {generation, next}, m.time, m.bytes});
    }
    const Position before = s.position;
    std::span<const Delivered> left(messages);
    if (!left.empty() && strikes(kill_in_commit)) {
      p.disk.next = chance_.one_in(2) ? Disk::Blow::before : Disk::Blow::after;
    }
    try {
      while (!left.empty()) {
        const auto taken = shard.follower.take(left, shard);
        expect(taken.has_value() && *taken > 0, "a processor takes what comes");
        left = left.subspan(*taken);
      }
    } catch (const Died&) {
      return die(p);
    }
    p.disk.next = Disk::Blow::none;
    note_stops(p);
    for (const Delivered& m : messages) {
      if (m.position <= s.position || s.position.generation > m.position.generation) {
        p.taken[{id, m.position}] = {m.time, {m.bytes.begin(), m.bytes.end()}};
      }
    }
    if (s.position > before && s.position.generation == generation &&
        std::any_of(processors_.begin(), processors_.end(),
                    [&](const Processor& q) { return has_left(q, id, generation); })) {
      ++counts_.two_owners;
    }
    if (s.position.generation > before.generation && before.generation == generation) {
      ++counts_.turnovers;
      if (!chance_.one_in(4)) {
        p.over[id] = s.began;
        p.cuts[id] = s.cuts;
      }
      if (s.look) {
        const auto after = static_cast<std::uint16_t>(s.position.generation + 1);
        p.to_read[id] = {after, this->stream(id, after).messages.size()};
      }
      say("processor {} goes over to {}/{} of partition {}", index(p), s.began.generation,
          s.began.sequence, id.value);
      connect(p, id);
    }
    if (s.look || (s.gap && net_.one_in(2))) connect(p, id);
    for (Reply& r : shard.replies) {
      send(std::move(r), repeat_reply, lose_reply);
    }
    shard.replies.clear();
    (void)shard.sequencer.turn(shard);
  }

  // What a processor lacks up to the cut, from one that has it still.
  void fill(const Processor& p, PartitionId id, std::vector<Delivered>& messages) {
    const Follower::State& s = p.shard->follower.partitions().at(id);
    for (std::uint64_t n = s.position.sequence + 1; n <= *s.cut; ++n) {
      const std::pair at{id, Position{s.position.generation, n}};
      const auto has =
          std::find_if(processors_.begin(), processors_.end(), [&](const Processor& q) {
            return q.shard && q.paused_until <= now_ && q.taken.contains(at);
          });
      if (has == processors_.end() || net_strikes(lose_reply)) return;
      const auto& m = has->taken.at(at);
      messages.push_back({id, at.second, m.time, m.bytes});
    }
  }

  // Whoever hears nothing of a stream promises to leave it, and so does whoever sees that somebody
  // has; with enough promises anybody makes the cut.
  void turn_over(Processor& p, PartitionId id, bool at_once) {
    const Follower::State& s = p.shard->follower.partitions().at(id);
    if (!s.stopped.empty() || s.cut || streams_[id.value].opened > s.position.generation) return;
    const auto next = static_cast<std::uint16_t>(s.position.generation + 1);
    const ProcessorId me{1 + index(p)};
    const bool joins = !s.promises.empty() && (at_once || chance_.one_in(3));
    if (!s.promised() && (joins || strikes(suspicion))) {
      p.shard->follower.promise(id);
      p.promised[id] = std::max(p.promised[id], next);
    }
    if (s.promised() && !s.promises.contains(me) && (at_once || chance_.one_in(3))) {
      Bytes bytes;
      append_promise(bytes, {id, next, me, s.anchor.sequence});
      say("processor {} promises generation {} of partition {}, and has {}", index(p), next,
          id.value, s.anchor.sequence);
      tell(id, next, std::move(bytes));
    }
    const bool enough = s.promises.size() >= enough_to_know(processors_.size(), durable_on_);
    const bool all = s.promises.size() == processors_.size();
    // One that comes too early counts for nothing.
    if (enough ? at_once || chance_.one_in(all ? 2 : 8) : faulty_ && chance_.one_in(40)) {
      Bytes bytes;
      append_cut(bytes, {id, next});
      tell(id, next, std::move(bytes));
    }
  }

  void tell(PartitionId id, std::uint16_t generation, Bytes bytes) {
    Publication p{id, NodeId{0}, BatchNumber{0}, generation, std::move(bytes)};
    send(std::move(p), repeat_publication, lose_publication);
  }

  // Whoever sees that a deadline has passed says so.
  void tick(Processor& p) {
    std::vector<SkuId> due;
    const auto rank = static_cast<std::int64_t>(index(p));
    p.shard->sequencer.take_overdue(Duration{30 * rank}, Duration{500}, due);
    for (const SkuId sku : due) {
      BatchBuilder b;
      b.begin(sku, NodeId{0});
      expect(b.add(TimePassed{}), "a batch has room");
      const auto bytes = b.finish(BatchNumber{1}, Mark{});
      post(sku, NodeId{0}, BatchNumber{1}, {bytes.begin(), bytes.end()});
    }
  }

  // ---- An operator who makes a stream anew

  bool any_stopped(PartitionId id) const {
    return std::any_of(processors_.begin(), processors_.end(),
                       [&](const Processor& p) { return p.stopped.contains(id); });
  }

  void reseed(PartitionId id) {
    say("partition {} is made anew", id.value);
    ++counts_.reseeds;
    std::set<SkuId> skus;
    for (const Processor& p : processors_) {
      const auto heads = p.disk.heads();
      for (const SkuHead& h : *heads) {
        if (spread_.of(h.sku) == id) skus.insert(h.sku);
      }
    }
    // The logs of other partitions on the same disk stay as they are.
    std::map<SkuId, Agreement> chosen;
    for (const SkuId sku : skus) {
      std::vector<Copy> copies;
      for (const Processor& p : processors_) {
        copies.push_back({p.disk.head(sku), [&p, sku](Seq seq) -> Result<std::optional<Head>> {
                            return p.disk.head_at(sku, seq);
                          }});
      }
      const auto agreed = agree(copies, processors_.size(), durable_on_);
      expect(agreed.has_value(), "all processors are there, so one log can be chosen");
      if (!agreed->apart.empty()) ++counts_.forks;
      chosen.emplace(sku, *agreed);
    }
    const auto generation = static_cast<std::uint16_t>(streams_[id.value].newest() + 1);
    streams_[id.value].opened = generation;
    Stream& stream = this->stream(id, generation);
    HeadsDigest digest;
    for (const auto& [sku, a] : chosen) {
      if (a.head.seq.value > 0) digest.add(sku, a.head);
    }
    Bytes opening;
    append_opening(opening, {id, generation, digest.skus(), digest.finish()});
    stream.messages.push_back({stream_time(), std::move(opening)});

    std::map<SkuId, std::vector<Bytes>> logs;
    for (const auto& [sku, a] : chosen) {
      std::vector<Bytes>& blocks = logs[sku];
      (void)processors_[a.from].disk.read(sku, Seq{1}, [&](const BlockView& b) {
        blocks.emplace_back(b.bytes().begin(), b.bytes().end());
        return true;
      });
    }
    for (Processor& p : processors_) {
      const auto heads = p.disk.heads();
      auto fresh = std::make_unique<MemoryLog>();
      for (const SkuHead& h : *heads) {
        if (spread_.of(h.sku) == id) continue;
        copy(*p.disk.log, h.sku, *fresh);
      }
      for (const auto& [sku, blocks] : logs) {
        for (const Bytes& bytes : blocks) add(*fresh, sku, bytes);
      }
      p.disk.log = std::move(fresh);
      p.stopped.erase(id);
      p.too_long.erase(id);
      boot(p);
    }
  }

  static void add(EventLog& log, SkuId sku, std::span<const std::byte> bytes) {
    const auto view = BlockView::parse(bytes);
    const BlockWrite w{.sku = sku,
                       .first = view->header().first,
                       .after = {view->last(), view->header().time, view->digest()},
                       .bytes = bytes};
    expect(log.append({&w, 1}).has_value(), "a block can be copied");
  }
  static void copy(const EventLog& from, SkuId sku, EventLog& to) {
    (void)from.read(sku, Seq{1}, [&](const BlockView& b) {
      add(to, sku, b.bytes());
      return true;
    });
  }

  // ---- Time goes on

  void advance(std::int64_t ms) {
    now_ += ms;
    for (Processor& p : processors_) p.clock.advance(Duration{ms});
    while (!in_flight_.empty() && in_flight_.begin()->first.first <= now_) {
      auto node = in_flight_.extract(in_flight_.begin());
      std::visit([this](auto& item) { arrive(item); }, node.mapped());
    }
    for (Origin& o : origins_) {
      o.gate.expire(Duration{now_}, [&](BatchNumber n) {
        ++counts_.lost_replies;
        o.asked.erase(n);
      });
    }
  }

  void work(Processor& p, bool all) {
    if (!p.shard || p.paused_until > now_) return;
    for (auto it = p.too_long.begin(); it != p.too_long.end();) {
      std::vector<std::uint64_t> others;
      for (const Processor& q : processors_) {
        const auto cuts = q.cuts.find(it->first);
        if (&q == &p || !q.shard || cuts == q.cuts.end()) continue;
        if (const auto cut = cuts->second.find(it->second.generation); cut != cuts->second.end()) {
          others.push_back(cut->second);
        }
      }
      if (!may_take_back(it->second.sequence, others, processors_.size(), durable_on_)) {
        if (faulty_) return;  // it waits, or an operator comes
        note_stop(p, it->first, "it has more than the others, and they do not agree on how much");
        it = p.too_long.erase(it);
        continue;
      }
      ++it;
    }
    if (!p.too_long.empty()) {
      // It starts again; or it dies before it could write down why.
      if (!faulty_ || !chance_.one_in(4)) p.shorten_to = p.too_long;
      die(p);
      if (faulty_) return;
      boot(p);
    }
    for (std::uint32_t i = 0; i < spread_.count && p.shard; ++i) {
      const PartitionId id{i};
      deliver(p, id, all ? 1'000 : 1 + chance_.below(6));
      if (p.shard) turn_over(p, id, all);
    }
    if (p.shard) tick(p);
  }

  void step() {
    switch (chance_.below(8)) {
      case 0:
      case 1:
      case 2: attempt(); break;
      case 3: act(); break;
      case 4:
      case 5: publish(some_origin()); break;
      default: break;
    }
    advance(chance_.one_in(30) ? chance_.between(100, hold_ + 1'000) : chance_.between(0, 30));
    Processor& p = processors_[chance_.below(processors_.size())];
    if (p.shard) {
      work(p, false);
    } else if (chance_.one_in(4)) {
      boot(p);
    }
    misfortune();
  }

  void misfortune() {
    Processor& p = processors_[chance_.below(processors_.size())];
    if (strikes(kill) && p.shard) die(p);
    if (strikes(pause)) p.paused_until = now_ + chance_.between(10, 8'000);
    if (strikes(kill_origin)) {
      ++counts_.deaths;
      start(some_origin());
    }
    if (strikes(clocks)) {
      p.clock.set_wall(Timestamp{kStart.value + now_ + chance_.between(-2'000, 2'000)});
      stream_clock_ = chance_.between(-2'000, 2'000);
    }
    if (strikes(stream_loss)) {
      const PartitionId of{chance_.below(streams_.size())};
      const std::uint16_t last = streams_[of.value].newest();
      Stream& s = stream(of, last > 0 && chance_.one_in(2) ? std::uint16_t(last - 1) : last);
      const std::size_t lost = std::min<std::size_t>(s.messages.size(), chance_.below(5));
      s.messages.resize(s.messages.size() - lost);
      if (lost > 0) {
        ++counts_.stream_losses;
        lossy_.insert(of);
        say("a stream loses {} messages, {} are left", lost, s.messages.size());
      }
      // Whose connection was lost looks at what the stream has.
      for (Processor& q : processors_) {
        for (std::uint32_t i = 0; i < spread_.count && q.shard; ++i) {
          if (chance_.one_in(2)) connect(q, PartitionId{i});
        }
      }
    }
    if (strikes(stream_silence)) {
      const PartitionId of{chance_.below(streams_.size())};
      for (auto& [_, s] : streams_[of.value].all) {
        if (chance_.one_in(2)) s.silent_until = now_ + chance_.between(500, 20'000);
      }
    }
    // Sometimes an operator is there at once.
    const PartitionId id{chance_.below(spread_.count)};
    if (any_stopped(id) && chance_.one_in(40)) reseed(id);
  }

  // No more faults: everything must come to rest in bounded time, and be one.
  void settle() {
    faulty_ = false;
    stream_clock_ = 0;
    for (Streams& of : streams_) {
      for (auto& [_, s] : of.all) s.silent_until = 0;
    }
    for (Processor& p : processors_) {
      p.paused_until = 0;
      p.clock.set_wall(Timestamp{kStart.value + now_});
      if (!p.shard) boot(p);
      for (std::uint32_t i = 0; i < spread_.count; ++i) connect(p, PartitionId{i});
    }
    run_dry();
    // What streams have lost may show only behind the one that was made anew.
    for (int rounds = 0; rounds < 3; ++rounds) {
      for (std::uint32_t i = 0; i < spread_.count; ++i) {
        if (any_stopped(PartitionId{i}) || apart(PartitionId{i}) || forgotten(PartitionId{i}))
          reseed(PartitionId{i});
      }
      run_dry();
    }
    // And it works again: whoever buys is answered, or asks again.
    for (const auto& name : names_) {
      const SkuId sku = sku_id(name);
      const std::uint64_t before = counts_.accepted;
      for (int tries = 0; counts_.accepted == before; ++tries) {
        if (tries == 3) fail("a cluster at rest answers; " + where());
        ask(origins_[0], sku,
            PurchaseAttempted{.customer = *CustomerId::from("last"),
                              .key = idempotency_key("last"),
                              .quantity = Quantity{1}});
        run_dry();
      }
    }
  }

  // Where all processors stand.
  std::string where() const {
    std::string out;
    for (const Processor& p : processors_) {
      for (const auto& [id, s] : p.shard->follower.partitions()) {
        fmt::format_to(
            std::back_inserter(out),
            "processor {} partition {}: {}/{}{}{}{}, next read to {}{}, {} promises, cut "
            "{}; ",
            index(p), id.value, s.position.generation, s.position.sequence, s.gap ? " (gap)" : "",
            s.promised() ? " (promised)" : "", s.stopped, s.next_read, s.next_gap ? " (gap)" : "",
            s.promises.size(), s.cut ? std::to_string(*s.cut) : "unknown");
      }
    }
    return out;
  }

  void run_dry() {
    for (int i = 0; i < 60; ++i) {
      for (Origin& o : origins_) publish(o);
      advance(200);
      for (Processor& p : processors_) work(p, true);
    }
    advance(kPatience.value + delay_);
  }

  // A stream has lost how its generation began, before a processor had a block of it.
  bool forgotten(PartitionId id) const {
    if (!lossy_.contains(id)) return false;
    std::uint16_t least = UINT16_MAX;
    std::uint16_t most = streams_[id.value].opened;
    for (const Processor& p : processors_) {
      const auto at = p.shard->follower.partitions().at(id).position.generation;
      least = std::min(least, at);
      most = std::max(most, at);
    }
    for (const Origin& o : origins_) {
      if (const auto it = o.generations.find(id); it != o.generations.end()) {
        most = std::max(most, it->second);
      }
    }
    return least < most;
  }

  // Nobody noticed, since nothing has come since.
  bool apart(PartitionId id) const {
    for (const auto& name : names_) {
      const SkuId sku = sku_id(name);
      if (spread_.of(sku) != id) continue;
      for (const Processor& p : processors_) {
        if (!(p.disk.head(sku) == processors_[0].disk.head(sku))) return true;
      }
    }
    return false;
  }

  // What the log in the end makes of each event.
  void replay(SkuId sku, std::map<std::pair<SkuId, std::uint64_t>, Told>& out) {
    struct Again final : fairsale::Answers {
      void on_decided(const Ticket&, SkuId sku, Seq seq, const Event&, const Decision& d,
                      const Sale&) override {
        out[{sku, seq.value}] = Told::of(seq, d);
      }
      void on_refused(const Ticket&, const Event&, Admission) override {
        fail("an event of the log is refused when it comes again");
      }
      void on_followed(const Ordered&, const Head&) override {}
      explicit Again(std::map<std::pair<SkuId, std::uint64_t>, Told>& o) : out(o) {}
      std::map<std::pair<SkuId, std::uint64_t>, Told>& out;
    } again(out);
    MemoryLog log;
    Shard::Nobody nobody;
    Sequencer sequencer(log, processors_[0].clock, nobody, {.ordered_elsewhere = true});
    const auto read = processors_[0].disk.read(sku, Seq{1}, [&](const BlockView& b) {
      std::vector<Event> events;
      expect(b.for_each([&](Seq, const Event& e) { events.push_back(e); }).has_value(),
             "a block tells its events");
      const std::vector<Ticket> tickets(events.size(), Asker{NodeId{1}, BatchNumber{1}}.pack());
      const Ordered m{.sku = sku,
                      .position = b.header().epoch,
                      .time = b.header().time,
                      .events = events,
                      .tickets = tickets,
                      .knows = {}};
      expect(sequencer.follow({&m, 1}, again).has_value(), "a log can be taken again");
      return true;
    });
    expect(read.has_value(), "a log can be read");
  }

  void judge() {
    for (const auto& name : names_) {
      const SkuId sku = sku_id(name);
      const Sale* first = processors_[0].shard->sequencer.find(sku);
      for (const Processor& p : processors_) {
        expect(p.disk.head(sku) == processors_[0].disk.head(sku), "all logs are equal in the end");
        const Sale* sale = p.shard->sequencer.find(sku);
        expect((sale == nullptr) == (first == nullptr), "all know the same sales");
        if (sale == nullptr) continue;
        expect(!sale->check(), "sales are sound");
        expect(state_digest(*sale) == state_digest(*first), "and equal");
        trace_.add(processors_[0].disk.head(sku));
      }
    }
    for (const auto& [key, told] : answered_) {
      const auto& [sku, who, bytes] = key;
      const Sale* sale = processors_[0].shard->sequencer.find(sku);
      expect(sale != nullptr, "a sale that answered is there");
      if (told.purchase == 0) continue;
      const auto at = sale->find_purchase(Seq{told.purchase});
      if (!at || sale->customer_name(CustomerIndex{sale->purchase(*at).customer}) != who) {
        fail(
            fmt::format("a purchase of {} at {} was acknowledged and is gone", who, told.purchase));
      }
    }
    // Whatever was answered stands where it was said to stand.
    std::map<std::pair<SkuId, std::uint64_t>, Told> stands;
    for (const auto& name : names_) replay(sku_id(name), stands);
    for (const auto& [where, told] : decided_) {
      const auto at = stands.find(where);
      if (at == stands.end()) fail(fmt::format("what was answered at {} is lost", where.second));
      if (at->second != told) {
        fail(fmt::format("answered at {}: {}/{} purchase {}; in the log: {}/{} purchase {}",
                         where.second, told.kind, told.reason, told.purchase, at->second.kind,
                         at->second.reason, at->second.purchase));
      }
    }
  }

  template <class... T>
  void say(fmt::format_string<T...> text, T&&... values) {
    trace_.say([&] {
      return fmt::format("{:>7} ms  {}", now_, fmt::format(text, std::forward<T>(values)...));
    });
  }

  Chance shape_;
  Chance chance_;
  Chance net_;
  Trace trace_;
  ClusterReport report_;
  ClusterCounts counts_;

  std::size_t durable_on_ = 2;
  Partitions spread_;
  std::uint32_t customers_ = 0;
  std::uint32_t keys_ = 0;
  std::uint64_t steps_ = 0;
  std::int64_t delay_ = 0;
  std::uint32_t stock_ = 0;
  std::int64_t hold_ = 0;
  std::array<std::uint32_t, kFaults> faults_{};
  bool faulty_ = true;

  std::vector<std::string> names_;
  std::vector<Processor> processors_;
  std::vector<Origin> origins_;
  std::uint64_t origin_ids_ = 0;
  std::vector<Streams> streams_;
  std::set<PartitionId> lossy_;
  std::int64_t stream_clock_ = 0;
  std::int64_t now_ = 0;
  std::multimap<std::pair<std::int64_t, std::uint64_t>, Item> in_flight_;
  std::uint64_t sent_ = 0;

  // What clients were told.
  std::map<std::pair<SkuId, std::uint64_t>, Told> decided_;
  std::map<std::tuple<SkuId, std::string, std::array<std::uint8_t, 16>>, Told> answered_;
  std::vector<std::pair<SkuId, Seq>> bought_;
};

}  // namespace

ClusterReport simulate_cluster(std::uint64_t seed, std::FILE* text) {
  return Life(seed, text).run();
}

}  // namespace fairsale::sim
