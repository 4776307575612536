// How an origin makes batches, and what becomes of those that get no answer.
#include "api/cluster/member.hpp"

#include <gtest/gtest.h>

#include "api/http/problem.hpp"
#include "tests/engine/shop.hpp"

namespace fairsale::api {
namespace {

using cluster::BatchNumber;
using cluster::NodeId;
using cluster::PartitionId;
using cluster::Position;
using std::chrono::milliseconds;

// A network that keeps what is published.
class Published final : public Bus {
 public:
  struct Sent {
    BatchNumber number;
    std::uint16_t generation = 0;
    std::size_t events = 0;
  };
  std::vector<Sent> batches;
  int complaints = 0;
  bool connected = true;

  bool publish_batch(PartitionId, std::uint16_t generation, NodeId, BatchNumber n,
                     std::span<const std::byte> bytes) override {
    if (!connected) return false;
    cluster::Batch batch;
    EXPECT_TRUE(cluster::parse_batch(bytes, batch));
    batches.push_back({n, generation, batch.events.size()});
    return true;
  }
  void publish_unstored(PartitionId) override { ++complaints; }

  Result<void> available() override { return {}; }
  Result<void> ensure_stream(PartitionId, std::uint16_t) override { return {}; }
  Result<std::optional<LogStreamBounds>> bounds(PartitionId, std::uint16_t) override {
    return std::optional<LogStreamBounds>{};
  }
  Result<std::string> follow(PartitionId, Position, std::uint64_t) override { return ""; }
  void leave(PartitionId, std::uint16_t) override {}
  void probe(PartitionId, std::uint16_t) override {}
  milliseconds silent(PartitionId, std::uint16_t) const override { return {}; }
  bool lost(PartitionId, std::uint16_t) const override { return false; }
  void found(PartitionId, std::uint16_t, std::uint64_t) override {}
  milliseconds quiet(PartitionId, std::uint16_t) const override { return {}; }
  std::string heard(PartitionId, std::uint16_t) const override { return ""; }
  Result<std::optional<std::string>> leader(PartitionId, std::uint16_t) override {
    return std::optional<std::string>{};
  }
  void step_down(PartitionId, std::uint16_t) override {}
  bool remove_stream(PartitionId, std::uint16_t) override { return true; }
  Result<std::optional<LogStreamMessage>> fetch(PartitionId, Position) override {
    return std::optional<LogStreamMessage>{};
  }
  void publish_message(PartitionId, std::uint16_t, std::span<const std::byte>) override {}
  void publish_answers(NodeId, std::span<const std::byte>) override {}
  bool publish_query(PartitionId, NodeId, std::uint64_t, std::span<const std::byte>) override {
    return true;
  }
  void publish_reply(std::string_view, std::span<const std::byte>) override {}
  void publish_shown(std::span<const std::byte>) override {}
  void ask_to_show() override {}
  void publish_lacks(PartitionId, std::span<const std::byte>) override {}
  void publish_has(NodeId, std::span<const std::byte>) override {}
  void publish_heartbeat(std::span<const std::byte>) override {}
  Result<void> hear_origin(NodeId) override { return {}; }
  Result<void> hear_queries(PartitionId) override { return {}; }
  Result<void> hear_lacks(PartitionId) override { return {}; }
  Result<void> hear_has(NodeId) override { return {}; }
  Result<void> hear_shown() override { return {}; }
  Result<void> hear_show() override { return {}; }
  Result<void> hear_unstored(PartitionId) override { return {}; }
  Result<void> hear_heartbeats() override { return {}; }
  void close() override {}
};

class Clients final : public MemberDesk {
 public:
  void give(const Reply&, const Rendered& a) override { given += a.status == 201; }
  void give_up(const Reply&, bool) override { ++given_up; }
  void take_forwarded(Query, http::Ticket) override {}
  std::shared_ptr<const Availability> look_of(SkuId) override { return nullptr; }
  void on_decided(const Ticket&, SkuId, Seq, const Event&, const Decision&, const Sale&) override {}

  int given = 0;
  int given_up = 0;
};

class AnEdge : public testing::Test {
 protected:
  void ask(int attempts) {
    for (int i = 0; i < attempts; ++i) {
      ASSERT_TRUE(member.submit(sku, test::attempt("ann", "k"), {}));
    }
    turn();
  }
  void turn() { ASSERT_TRUE(member.turn(clients)); }
  void pass(std::int64_t ms) {
    shop.clock.advance(Duration{ms});
    turn();
  }
  // Two processors say the same of a batch, once it is stored.
  void answer(std::size_t batch) {
    const auto& sent = bus.batches.at(batch);
    Bytes content;
    for (std::size_t i = 0; i < sent.events; ++i) {
      append_rendered(content, {201, http::kJson, "", "{}"});
    }
    Bytes packed;
    pack(packed, content);
    const Position at{sent.generation, batch + 1};
    member.stored(sent.number, at);
    for (const std::uint64_t node : {1, 2}) {
      Bytes bytes;
      cluster::append_answers(bytes,
                              {.processor = cluster::ProcessorId{node},
                               .number = sent.number,
                               .sku = sku,
                               .position = at.epoch(),
                               .mark = {.seq = Seq{batch + 1}, .digest = batch}},
                              packed);
      member.answered(bytes);
    }
    turn();
  }
  std::vector<std::size_t> sizes() const {
    std::vector<std::size_t> out;
    for (const auto& b : bus.batches) out.push_back(b.events);
    return out;
  }
  using Sizes = std::vector<std::size_t>;

  const SkuId sku = sku_id("tour");
  MemoryLog log;
  test::Shop shop{log};
  Published bus;
  Clients clients;
  Member member{bus, shop.sequencer, shop.clock, {.partitions = {1}, .durable_on = 2}, [] {}};
};

TEST_F(AnEdge, HasOneBatchOfASkuUnderWayAndWhatComesMeanwhileIsTheNextOne) {
  pass(1'000);
  ask(1);
  ask(2);
  ask(3);
  EXPECT_EQ(sizes(), (Sizes{1}));
  answer(0);
  EXPECT_EQ(clients.given, 1);
  EXPECT_EQ(sizes(), (Sizes{1, 5}));
}

TEST_F(AnEdge, WaitsForACrowdThatItHasJustAnsweredWhileItComes) {
  pass(1'000);
  ask(100);
  pass(5);  // what the batch takes
  answer(0);
  EXPECT_EQ(clients.given, 100);
  ask(40);
  pass(2);
  ask(59);
  pass(2);
  EXPECT_EQ(sizes(), (Sizes{100}));
  EXPECT_LE(member.next_turn_in(), Duration{1});
  ask(1);
  EXPECT_EQ(sizes(), (Sizes{100, 100})) << "all are there";
  pass(5);
  answer(1);
  ask(1);
  pass(1);
  EXPECT_EQ(sizes().size(), 2u);
  pass(1);
  EXPECT_EQ(sizes().size(), 2u) << "one has come just now";
  pass(2);
  EXPECT_EQ(sizes(), (Sizes{100, 100, 1})) << "the others do not come";
}

TEST_F(AnEdge, LetsTwoHalvesOfACrowdThatTakeTurnsBecomeOne) {
  pass(1'000);
  ask(100);
  ask(60);
  pass(5);
  answer(0);
  ask(99);
  EXPECT_EQ(sizes(), (Sizes{100}));
  ask(1);
  EXPECT_EQ(sizes(), (Sizes{100, 160}));
}

TEST_F(AnEdge, HardlyWaitsForAnybodyWhenAFewTakeTurns) {
  pass(1'000);
  ask(10);
  ask(8);
  answer(0);
  EXPECT_EQ(sizes(), (Sizes{10}));
  pass(2);
  EXPECT_EQ(sizes(), (Sizes{10, 8}));
}

TEST_F(AnEdge, WaitsForNoMoreThanABatchTakes) {
  pass(1'000);
  ask(1'000);
  ask(1'000);
  answer(0);
  EXPECT_EQ(sizes(), (Sizes{1'000, 1'000}));
}

TEST_F(AnEdge, IsNotHeldUpByABatchThatGetsNoAnswer) {
  pass(1'000);
  ask(1);
  ask(1);
  pass(200);
  EXPECT_EQ(sizes().size(), 1u);
  pass(100);
  EXPECT_EQ(sizes().size(), 2u);
  // As if it were not there.
  for (std::size_t i = 1; i < 6; ++i) {
    answer(i);
    ask(1);
    EXPECT_EQ(sizes().size(), i + 2);
  }
  ask(1);
  EXPECT_EQ(sizes().size(), 7u) << "one more is under way";
  pass(4'000);
  EXPECT_EQ(clients.given_up, 2) << "the first, and the last";
}

TEST_F(AnEdge, HasNoMoreLateBatchesUnderWayThanItMay) {
  pass(1'000);
  for (int i = 0; i < 12; ++i) {
    ask(1);
    pass(300);
  }
  EXPECT_EQ(sizes().size(), 8u);
}

TEST_F(AnEdge, ComplainsOfABatchThatIsNotStored) {
  pass(1'000);
  ask(1);
  pass(900);
  EXPECT_EQ(bus.complaints, 0);
  pass(200);
  EXPECT_EQ(bus.complaints, 1);
}

TEST_F(AnEdge, GivesUpWhatWasUnderWayWhenAConnectionBrokeAndComplainsOfNothing) {
  pass(1'000);
  ask(3);
  pass(900);
  member.reconnected();
  pass(200);
  EXPECT_EQ(clients.given_up, 0) << "answers may still come";
  pass(100);
  EXPECT_EQ(clients.given_up, 3);
  EXPECT_EQ(bus.complaints, 0);
  ask(1);
  EXPECT_EQ(sizes(), (Sizes{3, 1}));
}

TEST_F(AnEdge, SaysAtOnceThatNothingWasSentWhenThereIsNoConnection) {
  pass(1'000);
  bus.connected = false;
  ask(2);
  EXPECT_EQ(clients.given_up, 2);
}

}  // namespace
}  // namespace fairsale::api
