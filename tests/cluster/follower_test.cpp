#include "core/cluster/follower.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "tests/engine/shop.hpp"

namespace fairsale::cluster {
namespace {

using test::attempt;
using test::kOpening;
using test::scheduled;

constexpr PartitionId kPartition{0};

// What a stream holds.
struct Stream {
  struct Stored {
    Position position;
    Timestamp time;
    std::vector<std::byte> bytes;
  };
  std::vector<Stored> messages;
  std::uint16_t generation = 0;

  void store(std::span<const std::byte> bytes, Timestamp time) {
    messages.push_back({{generation, messages.size() + 1}, time, {bytes.begin(), bytes.end()}});
  }
  std::vector<Delivered> after(std::uint64_t sequence) const {
    std::vector<Delivered> out;
    for (const Stored& m : messages) {
      if (m.position.sequence > sequence) out.push_back({kPartition, m.position, m.time, m.bytes});
    }
    return out;
  }
};

class Heard final : public fairsale::Answers {
 public:
  void on_decided(const Ticket& t, SkuId, Seq seq, const Event&, const Decision& d,
                  const Sale&) override {
    const Asker a = Asker::of(t);
    lines.push_back(
        fmt::format("{}/{} at {}: {}", a.number.value, a.index, seq.value, name_of(d.kind)));
  }
  void on_refused(const Ticket& t, const Event&, Admission) override {
    lines.push_back(fmt::format("{}/{} refused", Asker::of(t).number.value, Asker::of(t).index));
  }
  void on_followed(const Ordered& m, const Head& after) override {
    lines.push_back(fmt::format("batch of {} ends at {}", m.events.size(), after.seq.value));
  }
  std::vector<std::string> lines;
};

// A processor: its log outlives it.
struct Processor {
  explicit Processor(MemoryLog& kept, Timestamp now = kOpening, Partitions spread = {1},
                     std::size_t promises = 2)
      : log(kept),
        clock(now),
        sequencer(log, clock, decisions, {.ordered_elsewhere = true}),
        follower(sequencer, spread, promises) {
    Position at;
    const auto heads = log.heads();
    for (const SkuHead& h : *heads) {
      auto folded = fold(log, h, FoldFrom::start, nullptr);
      EXPECT_TRUE(folded);
      (void)log.read(h.sku, h.head.seq, [&](const BlockView& b) {
        at = std::max(at, Position::of(b.header().epoch));
        return true;
      });
      sequencer.adopt(h.sku, std::move(*folded));
    }
    follower.begin(kPartition, at);
  }

  // As much as the follower takes at once, until it has all.
  void take(const std::vector<Delivered>& messages) {
    std::span<const Delivered> left(messages);
    while (!left.empty()) {
      const auto n = follower.take(left, heard);
      ASSERT_TRUE(n) << n.error().message;
      ASSERT_GT(*n, 0u);
      left = left.subspan(*n);
    }
  }
  const Follower::State& state() const { return follower.partitions().at(kPartition); }
  Head head(std::string_view sku) const {
    const Head* h = sequencer.head(sku_id(sku));
    return h != nullptr ? *h : Head{};
  }
  std::string digest(std::string_view sku) const {
    return to_hex(state_digest(*sequencer.find(sku_id(sku))));
  }

  MemoryLog& log;
  ManualClock clock;
  test::Decisions decisions;
  Sequencer sequencer;
  Follower follower;
  Heard heard;
};

struct Origin {
  // Publishes one batch.
  void send(Stream& stream, std::string_view sku, const std::vector<Event>& events, Timestamp at,
            Mark knows = {}) {
    BatchBuilder b;
    b.begin(sku_id(sku), NodeId{1});
    for (const Event& e : events) ASSERT_TRUE(b.add(e));
    stream.store(b.finish(BatchNumber{++number}, knows), at);
  }
  std::uint64_t number = 0;
};

TEST(Follower, ABatchBecomesOneBlockWithTheTimeOfTheStream) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 1), attempt("x", "1"), attempt("y", "1")}, kOpening);
  MemoryLog log;
  Processor p(log, kOpening + Duration{5'000});
  p.take(stream.after(0));
  EXPECT_EQ(p.heard.lines, (std::vector<std::string>{"1/0 at 1: scheduled", "1/1 at 2: reserved",
                                                     "1/2 at 3: waiting", "batch of 3 ends at 3"}));
  int blocks = 0;
  ASSERT_TRUE(log.read(sku_id("a"), Seq{1}, [&](const BlockView& b) {
    ++blocks;
    EXPECT_EQ(b.header().time, kOpening);
    EXPECT_EQ(Position::of(b.header().epoch), (Position{0, 1}));
    return true;
  }));
  EXPECT_EQ(blocks, 1);
}

// What is told of each SKU, with the log time, up to the end of a commit.
class Told final : public SaleObserver {
 public:
  void seed(SkuId, const Sale&) override {}
  void on_decision(SkuId, const Sale& sale, const Decision& d) override {
    told.push_back(fmt::format("{} {} at {} s", sale.sku(), name_of(d.kind), at(sale)));
  }
  void on_commit(SkuId, const Sale& sale) override {
    told.push_back(fmt::format("{} up to {}, at {} s", sale.sku(), sale.seq().value, at(sale)));
  }
  std::vector<std::string> told;

 private:
  static std::int64_t at(const Sale& sale) { return (sale.time() - kOpening).value / 1'000; }
};

TEST(Follower, ObserversAreToldOfEachBlockByItselfHoweverManyOneCommitHolds) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 1)}, kOpening);
  origin.send(stream, "b", {scheduled("b", 1)}, kOpening);
  origin.send(stream, "a", {attempt("x", "1")}, kOpening + Duration{1'000});
  origin.send(stream, "b", {attempt("x", "1")}, kOpening + Duration{2'000});
  origin.send(stream, "a", {attempt("y", "1")}, kOpening + Duration{3'000});
  MemoryLog log;
  ManualClock clock(kOpening);
  Told observer;
  Sequencer sequencer(log, clock, observer, {.ordered_elsewhere = true});
  Follower follower(sequencer, Partitions{1});
  follower.begin(kPartition, {});
  Heard heard;
  ASSERT_EQ(*follower.take(stream.after(0), heard), 5u) << "in one commit";
  EXPECT_EQ(observer.told, (std::vector<std::string>{
                               "a scheduled at 0 s", "a opened at 0 s", "a up to 1, at 0 s",
                               "b scheduled at 0 s", "b opened at 0 s", "b up to 1, at 0 s",
                               "a reserved at 1 s", "a up to 2, at 1 s", "b reserved at 2 s",
                               "b up to 2, at 2 s", "a waiting at 3 s", "a up to 3, at 3 s"}));
}

TEST(Follower, TimeInTheLogNeverGoesBackWhateverTheStreamSays) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 1)}, kOpening);
  origin.send(stream, "a", {attempt("x", "1")}, kOpening + Duration{500});
  origin.send(stream, "a", {attempt("y", "1")}, kOpening);
  MemoryLog log;
  Processor p(log);
  p.take(stream.after(0));
  EXPECT_EQ(p.head("a").time, kOpening + Duration{500});
}

TEST(Follower, ARestartGoesOnWhereItsLogEnds) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 1)}, kOpening);
  origin.send(stream, "b", {scheduled("b", 1), attempt("x", "1")}, kOpening);
  MemoryLog log;
  {
    Processor p(log);
    p.take(stream.after(0));
  }
  origin.send(stream, "a", {attempt("x", "1")}, kOpening);
  Processor p(log);
  EXPECT_EQ(p.state().position, (Position{0, 2}));
  p.take(stream.after(0));
  EXPECT_EQ(p.heard.lines.size(), 2u) << "what it has already is not taken again";
  EXPECT_EQ(p.head("a").seq, Seq{2});
  EXPECT_EQ(p.state().position, (Position{0, 3}));
}

TEST(Follower, WhatBelongsToNoSaleIsRefusedAndTakesNoPlace) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {attempt("x", "1"), scheduled("a", 1), attempt("x", "1")}, kOpening);
  MemoryLog log;
  Processor p(log);
  p.take(stream.after(0));
  EXPECT_EQ(p.heard.lines,
            (std::vector<std::string>{"1/0 refused", "1/1 at 1: scheduled", "1/2 at 2: reserved",
                                      "batch of 3 ends at 2"}));
}

TEST(Follower, GarbageIsPassedOverByEverybodyAlike) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 1)}, kOpening);
  stream.store(std::as_bytes(std::span("not a batch")), kOpening);
  origin.send(stream, "a", {attempt("x", "1")}, kOpening);
  MemoryLog log;
  Processor p(log);
  p.take(stream.after(0));
  EXPECT_EQ(p.state().skipped, 1u);
  EXPECT_EQ(p.state().stopped, "");
  EXPECT_EQ(p.head("a").seq, Seq{2});
}

TEST(Follower, WhatFollowsAMissingMessageWaitsForIt) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 1)}, kOpening);
  origin.send(stream, "a", {attempt("x", "1")}, kOpening);
  origin.send(stream, "a", {attempt("y", "1")}, kOpening);
  auto delivered = stream.after(0);
  delivered.erase(delivered.begin() + 1);
  MemoryLog log;
  Processor p(log);
  p.take(delivered);
  EXPECT_TRUE(p.state().gap);
  EXPECT_EQ(p.head("a").seq, Seq{1});
  p.take(stream.after(2));
  EXPECT_EQ(p.head("a").seq, Seq{1}) << "the second message is missing still";
  p.take(stream.after(1));
  EXPECT_FALSE(p.state().gap);
  EXPECT_EQ(p.head("a").seq, Seq{3});
}

TEST(Follower, AMessageThatFollowsWhatTheStreamHasLostStopsThePartition) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 5)}, kOpening);
  origin.send(stream, "a", {attempt("x", "1")}, kOpening);
  MemoryLog log_of_one;
  Processor one(log_of_one);
  one.take(stream.after(0));
  const Mark known = Mark::of(one.head("a"));

  // The stream forgets the last message and gives its place to another.
  stream.messages.pop_back();
  origin.send(stream, "a", {attempt("y", "1")}, kOpening, known);
  MemoryLog log_of_other;
  Processor other(log_of_other);
  other.take(stream.after(0));
  EXPECT_NE(other.state().stopped.find("has lost messages"), std::string::npos)
      << other.state().stopped;
  EXPECT_EQ(other.head("a").seq, Seq{1});
  EXPECT_EQ(other.state().position, (Position{0, 1}));
}

TEST(Follower, AMessageThatTookThePlaceOfTheLastBlocksIsKnown) {
  const auto made = [](const std::vector<Event>& events, Timestamp at, std::uint64_t place = 2,
                       Timestamp stored = kOpening) {
    Stream stream;
    Origin origin;
    origin.send(stream, "a", {scheduled("a", 5)}, kOpening);
    // The second sale of this name finds no place.
    origin.send(stream, "a", {attempt("x", "1"), scheduled("a", 5), attempt("y", "1")}, stored);
    MemoryLog log;
    Processor p(log);
    p.take(stream.after(0));
    Stream other;
    origin.send(other, "a", events, at);
    const auto& m = other.messages.front();
    return *made_last_block(log, {kPartition, {0, place}, m.time, m.bytes});
  };
  const std::vector<Event> same{attempt("x", "1"), scheduled("a", 5), attempt("y", "1")};
  EXPECT_TRUE(made(same, kOpening));
  EXPECT_FALSE(made(same, kOpening, 3)) << "at another place";
  EXPECT_FALSE(made(same, kOpening + Duration{1})) << "stored later than the block says";
  EXPECT_TRUE(made(same, kOpening + Duration{-1})) << "a clock that went back";
  EXPECT_FALSE(made(same, kOpening + Duration{5}, 2, kOpening + Duration{6})) << "earlier";
  EXPECT_FALSE(made({attempt("x", "1"), scheduled("a", 5), attempt("z", "1")}, kOpening));
  EXPECT_FALSE(made({attempt("y", "1"), scheduled("a", 5), attempt("x", "1")}, kOpening));
  EXPECT_FALSE(made({attempt("x", "1")}, kOpening));
  EXPECT_FALSE(made({TimePassed{}}, kOpening));
}

TEST(Follower, AMessageThatFollowsAnotherLogStopsThePartition) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 5)}, kOpening);
  origin.send(stream, "a", {attempt("x", "1")}, kOpening);
  origin.send(stream, "a", {attempt("z", "1")}, kOpening, Mark{Seq{2}, 12345});
  MemoryLog log;
  Processor p(log);
  p.take(stream.after(0));
  EXPECT_NE(p.state().stopped.find("another log"), std::string::npos) << p.state().stopped;
  EXPECT_EQ(p.head("a").seq, Seq{2});
  // Also when the log has gone on since.
  MemoryLog log2;
  Processor later(log2);
  auto messages = stream.after(0);
  std::swap(messages[1].bytes, messages[2].bytes);
  later.take({messages[0]});
  EXPECT_EQ(later.state().stopped, "");
}

TEST(Follower, OtherPartitionsGoOnWhenOneStops) {
  const Partitions two{2};
  std::string even;
  std::string odd;
  for (int i = 0; even.empty() || odd.empty(); ++i) {
    const auto name = fmt::format("sku{}", i);
    (two.of(sku_id(name)).value == 0 ? even : odd) = name;
  }
  Stream a;
  Stream b;
  Origin origin;
  origin.send(a, even, {scheduled(even, 5)}, kOpening);
  origin.send(a, even, {attempt("x", "1")}, kOpening, Mark{Seq{7}, 1});
  origin.send(a, even, {attempt("y", "1")}, kOpening);
  origin.send(b, odd, {scheduled(odd, 5)}, kOpening);
  origin.send(b, odd, {attempt("x", "1")}, kOpening);
  auto messages = a.after(0);
  for (auto& m : b.after(0)) {
    m.partition = PartitionId{1};
    messages.push_back(m);
  }
  MemoryLog log;
  Processor p(log, kOpening, two);
  p.follower.begin(PartitionId{0}, {});
  p.follower.begin(PartitionId{1}, {});
  p.take(messages);
  EXPECT_NE(p.follower.partitions().at(PartitionId{0}).stopped, "");
  EXPECT_EQ(p.head(even).seq, Seq{1});
  EXPECT_EQ(p.follower.partitions().at(PartitionId{1}).stopped, "");
  EXPECT_EQ(p.head(odd).seq, Seq{2});
}

TEST(Follower, ANewGenerationBeginsWithWhatEverybodyHas) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 5)}, kOpening);
  MemoryLog log;
  Processor p(log);
  p.take(stream.after(0));

  Stream next;
  next.generation = 1;
  HeadsDigest digest;
  digest.add(sku_id("a"), p.head("a"));
  std::vector<std::byte> opening;
  append_opening(opening, {kPartition, 1, digest.skus(), digest.finish()});
  next.store(opening, kOpening);
  origin.send(next, "a", {attempt("x", "1")}, kOpening);
  p.take(next.after(0));
  EXPECT_EQ(p.state().stopped, "");
  EXPECT_EQ(p.state().position, (Position{1, 2}));
  EXPECT_EQ(p.head("a").seq, Seq{2});

  MemoryLog empty;
  Processor without(empty);
  without.take(next.after(0));
  EXPECT_NE(without.state().stopped.find("begins with logs that are not those"), std::string::npos);
}

// Two streams of a partition, the second ready to follow the first.
class Turnover : public ::testing::Test {
 protected:
  Turnover() {
    next.generation = 1;
    origin.send(stream, "a", {scheduled("a", 9)}, kOpening);
    for (int i = 0; i < 3; ++i) buy(stream, i);
  }
  void buy(Stream& s, int who) {
    origin.send(s, "a", {attempt(fmt::format("c{}", who), "1")}, kOpening);
  }
  // A promise of a processor that has the first stream up to there.
  void promise(std::string_view who, std::uint64_t has) {
    std::vector<std::byte> bytes;
    append_promise(bytes, {kPartition, 1, processor_id(who), has});
    next.store(bytes, kOpening);
  }
  void cut() {
    std::vector<std::byte> bytes;
    append_cut(bytes, {kPartition, 1});
    next.store(bytes, kOpening);
  }
  std::vector<Delivered> first(std::size_t n) const {
    auto out = stream.after(0);
    out.resize(n);
    return out;
  }

  Stream stream;
  Stream next;
  Origin origin;
  MemoryLog log;
  Processor p{log};
};

TEST_F(Turnover, EverybodyGoesOverBehindTheCut) {
  MemoryLog other_log;
  Processor other(other_log);
  p.take(stream.after(0));
  other.take(first(3));
  promise("p0", p.follower.promise(kPartition).sequence);
  promise("p1", other.follower.promise(kPartition).sequence);
  cut();
  buy(next, 7);
  p.take(next.after(0));
  EXPECT_EQ(p.state().position, (Position{1, 4}));
  EXPECT_EQ(p.state().anchor, (Position{1, 4}));

  // Who is behind the cut takes the rest first, whoever has it from.
  other.take(next.after(0));
  EXPECT_EQ(other.state().cut, 4u);
  EXPECT_EQ(other.state().position, (Position{0, 3}));
  buy(stream, 8);  // beyond the cut: nobody takes it
  other.take(stream.after(3));
  EXPECT_EQ(other.state().position, (Position{1, 3}));
  EXPECT_TRUE(other.state().gap) << "what came behind the cut is asked for again";
  other.follower.rewind(kPartition);
  other.take(next.after(3));
  EXPECT_EQ(other.head("a"), p.head("a"));
  EXPECT_EQ(other.digest("a"), p.digest("a"));
}

TEST_F(Turnover, WhoHasPromisedTakesNothingMoreUntilTheCutIsKnown) {
  p.take(first(2));
  EXPECT_EQ(p.follower.promise(kPartition), (Position{0, 2}));
  p.take(stream.after(2));
  EXPECT_EQ(p.state().position, (Position{0, 2}));
  EXPECT_FALSE(p.state().gap);
  promise("p0", 2);
  promise("p1", 3);
  cut();
  p.take(next.after(0));
  p.take(stream.after(2));
  EXPECT_EQ(p.state().position, (Position{1, 3}));
  EXPECT_EQ(p.head("a").seq, Seq{3}) << "the fourth message is beyond the cut";
}

TEST_F(Turnover, ACutNeedsThePromisesOfEnoughProcessors) {
  p.take(stream.after(0));
  promise("p0", 4);
  promise("p0", 4);  // again: it counts once
  cut();
  promise("p1", 2);
  promise("p1", 4);  // what it said first stands
  p.take(next.after(0));
  EXPECT_FALSE(p.state().cut);
  EXPECT_EQ(p.state().promises.at(processor_id("p1")), 2u);
  cut();
  p.take(next.after(4));
  EXPECT_TRUE(p.state().gap || p.state().position == (Position{1, 6}));
  p.take(next.after(5));
  EXPECT_EQ(p.state().position, (Position{1, 6}));
}

TEST_F(Turnover, ABlockBeyondTheCutIsTakenBackByANewStart) {
  p.take(stream.after(0));
  promise("p1", 2);
  promise("p2", 3);
  cut();
  buy(next, 7);
  p.take(next.after(0));
  EXPECT_NE(p.state().stopped.find("after message 3"), std::string::npos) << p.state().stopped;
  EXPECT_EQ(p.head("a").seq, Seq{4});
  ASSERT_EQ(p.state().shorten_to, (Position{0, 3}));

  const auto more = beyond(log, {1}, kPartition, *p.state().shorten_to);
  ASSERT_TRUE(more);
  EXPECT_EQ(more->blocks, 1u);
  EXPECT_EQ(more->events, 1u);
  ASSERT_EQ(more->heads.size(), 1u);
  EXPECT_EQ(more->heads[0].head.seq, Seq{3});
  ASSERT_TRUE(log.shorten(more->heads));
  EXPECT_TRUE(beyond(log, {1}, kPartition, {0, 3})->heads.empty());
  EXPECT_EQ(beyond(log, {1}, kPartition, {0, 0})->heads[0].head, Head{}) << "all of it";
  EXPECT_TRUE(beyond(log, {2}, PartitionId{1 - Partitions{2}.of(sku_id("a")).value}, {0, 0})
                  ->heads.empty());

  Processor again(log);
  again.take(next.after(0));
  again.follower.rewind(kPartition);
  again.take(next.after(3));
  MemoryLog other_log;
  Processor other(other_log);
  other.take(first(3));
  other.follower.promise(kPartition);
  other.take(next.after(0));
  EXPECT_EQ(again.head("a"), other.head("a"));
  EXPECT_EQ(again.head("a").seq, Seq{4});
}

TEST(TakingBack, NeedsSoManyOthersThatNobodyCanHaveHadMore) {
  EXPECT_FALSE(may_take_back(5, {5}, 3, 2));
  EXPECT_TRUE(may_take_back(5, {5, 5}, 3, 2));
  EXPECT_FALSE(may_take_back(5, {5, 5, 7}, 5, 3)) << "one left it elsewhere";
  EXPECT_TRUE(may_take_back(5, {5, 5, 5}, 5, 3));
  EXPECT_FALSE(may_take_back(5, {}, 1, 1));
}

TEST_F(Turnover, WhereGenerationsWereLeftIsKnown) {
  p.take(stream.after(0));
  p.follower.keep_cuts(kPartition, {{7, 1}});
  promise("p0", 4);
  promise("p1", 4);
  cut();
  p.take(next.after(0));
  EXPECT_EQ(p.state().cuts, (std::map<std::uint16_t, std::uint64_t>{{0, 4}, {7, 1}}));
}

TEST_F(Turnover, ALaterPromiseOfTheProcessBeforeIsKept) {
  p.take(first(2));
  p.follower.keep_promise(kPartition, 2);
  p.take(stream.after(2));
  EXPECT_EQ(p.state().position, (Position{0, 2}));
  p.follower.promise(kPartition);
  promise("p0", 2);
  promise("p1", 2);
  cut();
  buy(next, 7);
  p.take(next.after(0));
  EXPECT_EQ(p.state().position, (Position{1, 3}));
  EXPECT_TRUE(p.state().promised());
  EXPECT_EQ(p.head("a").seq, Seq{2});
}

TEST_F(Turnover, MissingPromisesAreWaitedFor) {
  p.take(stream.after(0));
  promise("p0", 4);
  promise("p1", 4);
  cut();
  p.take(next.after(1));
  EXPECT_TRUE(p.state().next_gap);
  EXPECT_TRUE(p.state().promises.empty());
  p.follower.reread(kPartition);
  p.take(next.after(0));
  EXPECT_EQ(p.state().position, (Position{1, 3}));
}

TEST_F(Turnover, BatchesBeforeTheCutAreNotTaken) {
  p.take(stream.after(0));
  buy(next, 7);
  promise("p0", 4);
  promise("p1", 4);
  cut();
  p.take(next.after(0));
  EXPECT_EQ(p.head("a").seq, Seq{4});
  EXPECT_EQ(p.state().position, (Position{1, 4}));
  // After a restart the log says only how far it was in the stream before.
  Processor again(log);
  EXPECT_EQ(again.state().position, (Position{0, 4}));
  again.take(next.after(0));
  EXPECT_EQ(again.state().position, (Position{1, 4}));
  EXPECT_TRUE(again.state().look) << "the others may have left this one too: it has to look first";
}

TEST(Follower, WhoeverSeesADeadlinePassSaysSo) {
  Stream stream;
  Origin origin;
  origin.send(stream, "a", {scheduled("a", 1), attempt("x", "1")}, kOpening);
  MemoryLog log;
  Processor p(log);
  p.take(stream.after(0));
  std::vector<SkuId> due;
  p.sequencer.take_overdue(Duration{30}, Duration{500}, due);
  EXPECT_TRUE(due.empty());
  p.clock.advance(Duration{60'000});
  p.sequencer.take_overdue(Duration{30}, Duration{500}, due);
  EXPECT_TRUE(due.empty()) << "others may be first";
  p.clock.advance(Duration{30});
  p.sequencer.take_overdue(Duration{30}, Duration{500}, due);
  EXPECT_EQ(due, std::vector{sku_id("a")});
  due.clear();
  p.sequencer.take_overdue(Duration{30}, Duration{500}, due);
  EXPECT_TRUE(due.empty());
  ASSERT_TRUE(p.sequencer.turn(p.heard));
  EXPECT_EQ(p.head("a").seq, Seq{2}) << "nothing is appended that was not ordered";
  p.clock.advance(Duration{500});
  p.sequencer.take_overdue(Duration{30}, Duration{500}, due);
  EXPECT_EQ(due, std::vector{sku_id("a")}) << "it had no effect";
  // It has, and twice does no harm.
  origin.send(stream, "a", {TimePassed{}}, p.clock.now().wall);
  origin.send(stream, "a", {TimePassed{}}, p.clock.now().wall);
  p.take(stream.after(0));
  EXPECT_EQ(p.decisions.count(DecisionKind::expired), 1u);
}

// However messages are cut into deliveries, repeated, and interrupted by restarts.
RC_GTEST_PROP(Follower, TheSameStreamGivesTheSameLogs, ()) {
  Stream stream;
  Origin origin;
  for (const char* sku : {"a", "b"}) origin.send(stream, sku, {scheduled(sku, 3)}, kOpening);
  const auto batches = *rc::gen::inRange(1, 25);
  for (int i = 0; i < batches; ++i) {
    std::vector<Event> events;
    const auto n = *rc::gen::inRange(1, 6);
    for (int e = 0; e < n; ++e) {
      events.push_back(attempt(fmt::format("c{}", *rc::gen::inRange(0, 9)),
                               fmt::format("k{}", *rc::gen::inRange(0, 3))));
    }
    origin.send(stream, *rc::gen::element("a", "b", "none"), events,
                kOpening + Duration{*rc::gen::inRange<std::int64_t>(0, 200'000)});
  }
  MemoryLog straight_log;
  Processor straight(straight_log);
  straight.take(stream.after(0));

  MemoryLog log;
  auto p = std::make_unique<Processor>(log, kOpening + Duration{*rc::gen::inRange(0, 100'000)});
  std::uint64_t upto = 0;
  while (upto < stream.messages.size()) {
    upto = std::min<std::uint64_t>(stream.messages.size(), upto + *rc::gen::inRange(1u, 9u));
    auto part = stream.after(*rc::gen::inRange<std::uint64_t>(0, p->state().position.sequence + 1));
    part.resize(std::min<std::size_t>(part.size(), upto - (stream.messages.size() - part.size())));
    p->take(part);
    RC_ASSERT(p->state().stopped.empty());
    if (*rc::gen::inRange(0, 4) == 0) p = std::make_unique<Processor>(log);
  }
  for (const char* sku : {"a", "b"}) {
    RC_ASSERT(p->head(sku) == straight.head(sku));
    RC_ASSERT(p->digest(sku) == straight.digest(sku));
  }
}

}  // namespace
}  // namespace fairsale::cluster
