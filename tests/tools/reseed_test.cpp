// With which logs a cluster goes on, and with which generation of its streams.
#include "tools/cluster/reseed.hpp"

#include <gtest/gtest.h>

#include <map>

#include "core/log/memory_log.hpp"
#include "tests/log/support.hpp"
#include "tests/tools/event_log_support.hpp"

namespace fairsale::cli {
namespace {

using cluster::PartitionId;
using cluster::Position;
using testing::attempt;
using testing::scheduled;

const ClusterShape kThree{.partitions = 2, .processors = 3, .durable_on = 2};

// A processor's logs, written block by block as messages of a stream.
struct Processor {
  void take(const char* sku, std::uint64_t message, std::vector<Event> events,
            std::uint16_t generation = 0) {
    const Position at{generation, message};
    append_block(log, sku_id(sku), heads[sku], Timestamp{static_cast<std::int64_t>(message)},
                 at.epoch(), events);
  }
  // The sale, and so many purchases of a customer each.
  void sell(const char* sku, unsigned first_message, unsigned purchases) {
    take(sku, first_message, {scheduled(sku)});
    for (unsigned i = 0; i < purchases; ++i) take(sku, first_message + i + 1, {attempt(i)});
  }
  std::vector<std::vector<std::byte>> blocks(const char* sku) const {
    std::vector<std::vector<std::byte>> out;
    EXPECT_TRUE(log.read(sku_id(sku), Seq{1}, [&](const BlockView& b) {
      out.emplace_back(b.bytes().begin(), b.bytes().end());
      return true;
    }));
    return out;
  }

  MemoryLog log;
  std::map<std::string, Head> heads;
};

struct Reseed : ::testing::Test {
  Result<ReseedPlan> plan(std::size_t copies = 3, const ClusterShape& shape = kThree) {
    const EventLog* const logs[] = {&a.log, &b.log, &c.log};
    return plan_reseed(std::span(logs).first(copies), shape);
  }
  Result<CopyReport> bring_all_up(const ReseedPlan& p) {
    EventLog* const logs[] = {&a.log, &b.log, &c.log};
    return bring_up(logs, p, {});
  }
  const SalePlan& sale(const ReseedPlan& p, const char* sku) {
    for (const SalePlan& s : p.sales) {
      if (s.sku == sku_id(sku)) return s;
    }
    throw std::out_of_range(sku);
  }
  Processor a, b, c;
};

TEST_F(Reseed, GivesShorterCopiesTheBlocksThatTheyLackAsTheyAre) {
  // Each sale is longest in another copy, and one is not there at all in two.
  a.sell("tour", 1, 3);
  b.sell("tour", 1, 1);
  a.sell("fair", 10, 1);
  b.sell("fair", 10, 4);
  c.sell("fair", 10, 2);
  c.sell("opera", 1, 2);
  const auto p = plan();
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_EQ(sale(*p, "tour").from, 0u);
  EXPECT_EQ(sale(*p, "tour").name, "tour");
  EXPECT_EQ(sale(*p, "tour").copies[1].lacks, 2u);
  EXPECT_EQ(sale(*p, "tour").copies[2].lacks, 4u);
  EXPECT_EQ(sale(*p, "fair").from, 1u);
  EXPECT_EQ(sale(*p, "opera").from, 2u);
  EXPECT_EQ(p->apart, std::vector<bool>(3, false));

  const auto done = bring_all_up(*p);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(done->events, 2u + 4 + 3 + 2 + 3 + 3);
  for (const char* sku : {"tour", "fair", "opera"}) {
    EXPECT_EQ(a.blocks(sku), b.blocks(sku)) << sku;
    EXPECT_EQ(a.blocks(sku), c.blocks(sku)) << sku;
  }
  const auto again = plan();
  ASSERT_TRUE(again);
  EXPECT_EQ(bring_all_up(*again)->events, 0u);
}

TEST_F(Reseed, LeavesPartitionsAsTheyAreThatItIsNotToldOf) {
  a.sell("tour", 1, 3);
  b.sell("tour", 1, 1);
  const auto own = cluster::Partitions{2}.of(sku_id("tour"));
  const char* const other = sku_id("demo").value % 2 == own.value ? "fair" : "demo";
  ASSERT_NE(cluster::Partitions{2}.of(sku_id(other)), own);
  c.sell(other, 1, 2);  // the only one that takes it
  ClusterShape shape = kThree;
  shape.takes = *cluster::PartitionSet::parse(std::to_string(own.value), {2});
  const auto p = plan(3, shape);
  ASSERT_TRUE(p) << p.error().message;
  ASSERT_EQ(p->partitions.size(), 1U);
  EXPECT_EQ(p->partitions[0].id, own);
  const auto done = bring_all_up(*p);
  ASSERT_TRUE(done) << done.error().message;
  EXPECT_EQ(b.blocks("tour"), a.blocks("tour"));
  EXPECT_EQ(c.blocks("tour"), a.blocks("tour"));
  EXPECT_TRUE(a.blocks(other).empty());
}

TEST_F(Reseed, RefusesWhenWhatWasAcknowledgedMayBeElsewhere) {
  a.sell("tour", 1, 3);
  const auto p = plan(1);
  ASSERT_FALSE(p);
  EXPECT_EQ(p.error().fault, Fault::invalid);
  EXPECT_NE(p.error().message.find("bring at least 2"), std::string::npos) << p.error().message;
  EXPECT_TRUE(plan(2));
  for (const ClusterShape& wrong : {ClusterShape{2, 3, 1}, {2, 3, 4}, {2, 2, 2}}) {
    EXPECT_FALSE(plan(3, wrong)) << wrong.processors << ' ' << wrong.durable_on;
  }
}

TEST_F(Reseed, RefusesTooFewAlsoWhereThereIsNoSaleYet) {
  EXPECT_FALSE(plan(1));
  EXPECT_TRUE(plan(2));
}

TEST_F(Reseed, LeavesACopyThatHasPartedAsItIs) {
  a.sell("tour", 1, 3);
  b.sell("tour", 1, 2);
  c.sell("tour", 1, 1);
  c.take("tour", 3, {attempt(77)});
  c.take("tour", 4, {attempt(78)});
  b.sell("fair", 10, 2);
  EXPECT_FALSE(plan(1));
  const auto p = plan();
  ASSERT_TRUE(p) << p.error().message;
  EXPECT_EQ(p->apart, (std::vector<bool>{false, false, true}));
  EXPECT_EQ(sale(*p, "tour").from, 0u);
  EXPECT_EQ(sale(*p, "tour").copies[2].apart, Seq{3});
  EXPECT_EQ(sale(*p, "tour").copies[2].lacks, 2u);
  const auto before = c.blocks("tour");
  ASSERT_TRUE(bring_all_up(*p));
  EXPECT_EQ(a.blocks("tour"), b.blocks("tour"));
  EXPECT_EQ(a.blocks("fair"), b.blocks("fair"));
  EXPECT_EQ(c.blocks("tour"), before);
  EXPECT_TRUE(c.blocks("fair").empty());
}

TEST_F(Reseed, PartitionsKnowHowFarTheyHaveComeAndTheHeadsThatTheyGoOnWith) {
  const cluster::Partitions spread{2};
  ASSERT_EQ(spread.of(sku_id("opera")), PartitionId{0});
  ASSERT_EQ(spread.of(sku_id("tour")), PartitionId{1});
  a.sell("opera", 1, 1);
  b.sell("opera", 1, 5);
  a.sell("tour", 1, 1);
  a.take("tour", 2, {attempt(50)}, 3);
  const auto p = plan(2);
  ASSERT_TRUE(p);
  ASSERT_EQ(p->partitions.size(), 2u);
  EXPECT_EQ(p->partitions[0].furthest, (Position{0, 6}));
  EXPECT_EQ(p->partitions[1].furthest, (Position{3, 2}));
  cluster::HeadsDigest opera;
  opera.add(sku_id("opera"), b.heads["opera"]);
  const auto opening = cluster::parse_opening(p->partitions[0].opening(7));
  ASSERT_TRUE(opening);
  EXPECT_EQ(opening->partition, PartitionId{0});
  EXPECT_EQ(opening->generation, 7);
  EXPECT_EQ(opening->skus, 1u);
  EXPECT_EQ(opening->heads, opera.finish());
}

// Streams in memory. The key is partition and generation.
struct FakeStreams final : LogStreams {
  using Messages = std::vector<std::vector<std::byte>>;
  static auto key(const api::LogStream& s) { return std::pair(s.partition.value, s.generation); }

  Result<void> ensure(const api::LogStream& s) override {
    all.try_emplace(key(s));
    return {};
  }
  Result<std::optional<api::LogStreamBounds>> bounds(const api::LogStream& s) override {
    const auto it = all.find(key(s));
    if (it == all.end()) return std::optional<api::LogStreamBounds>{};
    return std::optional(api::LogStreamBounds{1, it->second.size()});
  }
  Result<std::optional<std::vector<std::byte>>> message(const api::LogStream& s,
                                                        std::uint64_t n) override {
    const auto it = all.find(key(s));
    if (it == all.end() || n > it->second.size()) return std::optional<std::vector<std::byte>>{};
    return std::optional(it->second[n - 1]);
  }
  Result<void> open(const api::LogStream& s, std::span<const std::byte> bytes) override {
    if (!all[key(s)].empty()) return fail(Fault::io, "it has a message");
    all[key(s)].emplace_back(bytes.begin(), bytes.end());
    return {};
  }

  std::map<std::pair<std::uint32_t, std::uint16_t>, Messages> all;
};

struct Generations : ::testing::Test {
  NextGeneration next() {
    const auto n = next_generation(streams, partition);
    EXPECT_TRUE(n) << n.error().message;
    return n.value_or(NextGeneration{});
  }
  FakeStreams streams;
  PartitionPlan partition{
      .id = PartitionId{1}, .furthest = {3, 17}, .skus = 1, .heads = sha256({})};
};

TEST_F(Generations, FollowThatOfTheLogsAndBeginWithTheirOpening) {
  const auto n = next();
  EXPECT_EQ(n.number, 4);
  EXPECT_FALSE(n.there);
  ASSERT_TRUE(begin_generation(streams, partition, n));
  EXPECT_EQ(*streams.message({PartitionId{1}, 4}, 1), partition.opening(4));
}

TEST_F(Generations, ThatWereOpenedForTheseLogsAreLeftAsTheyAre) {
  ASSERT_TRUE(begin_generation(streams, partition, next()));
  const auto again = next();
  EXPECT_EQ(again.number, 4);
  EXPECT_TRUE(again.there);
  ASSERT_TRUE(begin_generation(streams, partition, again));
  EXPECT_EQ((streams.all[{1, 4}].size()), 1u);
}

TEST_F(Generations, ThatWereMadeAndNotOpenedAreOpenedNow) {
  ASSERT_TRUE(streams.ensure({PartitionId{1}, 4}));
  const auto n = next();
  EXPECT_EQ(n.number, 4);
  EXPECT_FALSE(n.there);
  EXPECT_TRUE(begin_generation(streams, partition, n));
}

TEST_F(Generations, WithOtherLogsOrWithoutAnOpeningAreNotUsed) {
  streams.all[{1, 4}] = {{std::byte{7}}};
  PartitionPlan other = partition;
  other.heads.bytes[0] ^= std::byte{1};
  streams.all[{1, 5}] = {other.opening(5)};
  EXPECT_EQ(next().number, 6);
  ASSERT_TRUE(begin_generation(streams, partition, next()));
  EXPECT_TRUE(next().there);
}

TEST_F(Generations, AreNotOpenedWhereSomebodyWasFaster) {
  const auto n = next();
  streams.all[{1, 4}] = {{std::byte{7}}};
  EXPECT_FALSE(begin_generation(streams, partition, n));
  EXPECT_EQ(next().number, 5);
}

TEST_F(Generations, EndSomewhere) {
  partition.furthest = {UINT16_MAX, 1};
  EXPECT_FALSE(next_generation(streams, partition));
}

}  // namespace
}  // namespace fairsale::cli
