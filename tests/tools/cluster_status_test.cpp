// How a cluster is, from what its nodes say.
#include "tools/cluster/status.hpp"

#include <gtest/gtest.h>

namespace fairsale::cli {
namespace {

PartitionSeen at(std::uint64_t generation, std::uint64_t message, std::string stopped = {}) {
  return {.partition = 0,
          .generation = generation,
          .message = message,
          .stopped = stopped,
          .waits = {}};
}

NodeSeen node(const char* name, std::vector<PartitionSeen> partitions) {
  return {.url = {},
          .id = std::string("id of ") + name,
          .name = name,
          .role = partitions.empty() ? "edge" : "processor",
          .not_ready = {},
          .partitions = std::move(partitions)};
}

TEST(ClusterStatus, IsReadFromWhatANodeAnswers) {
  const auto a = parse_cluster(
      R"({"node":"p0","id":"1f","role":"processor","not_ready":"partition 1 is stopped: gone",)"
      R"("partitions":[{"partition":1,"generation":2,"message":17,"stopped":"gone","waits":null}],)"
      R"("others":[{"node":"p1","id":"2f","role":"processor","partitions":)"
      R"([{"partition":1,"generation":2,"message":19,"stopped":null,"waits":"reads"}]}]})");
  ASSERT_TRUE(a) << a.error().message;
  EXPECT_EQ(a->node.name, "p0");
  EXPECT_EQ(a->node.not_ready, "partition 1 is stopped: gone");
  ASSERT_EQ(a->node.partitions.size(), 1u);
  EXPECT_EQ(a->node.partitions[0].message, 17u);
  EXPECT_EQ(a->node.partitions[0].stopped, "gone");
  ASSERT_EQ(a->others.size(), 1u);
  EXPECT_EQ(a->others[0].partitions[0].message, 19u);
  EXPECT_EQ(a->others[0].partitions[0].waits, "reads");
  for (const char* wrong :
       {"", "{}", "[]", R"({"node":"p0","id":"1f","role":"edge","not_ready":null})",
        R"({"node":1,"id":"1f","role":"edge","not_ready":null,"partitions":[],"others":[]})"}) {
    EXPECT_FALSE(parse_cluster(wrong)) << wrong;
  }
}

TEST(ClusterStatus, TellsHowFarEachIsBehindTheFurthestThatIsKnown) {
  ClusterStatus s;
  s.add("http://a", {node("p0", {at(1, 17)}), {node("p2", {at(1, 20)})}});
  s.add("http://b", {node("p1", {at(0, 99)}), {node("p0", {at(1, 16)})}});
  ASSERT_EQ(s.nodes().size(), 3u);
  EXPECT_EQ(s.nodes()[0].name, "p0");
  EXPECT_EQ(s.nodes()[1].name, "p1");
  EXPECT_EQ(s.nodes()[2].name, "p2");
  EXPECT_EQ(s.lag(s.nodes()[0].partitions[0]), 3u);
  EXPECT_EQ(s.lag(s.nodes()[1].partitions[0]), std::nullopt);
  EXPECT_EQ(s.lag(s.nodes()[2].partitions[0]), 0u);
  EXPECT_TRUE(s.well());
  EXPECT_NE(s.text().find("not asked"), std::string::npos) << s.text();
  EXPECT_NE(s.text().find("a generation"), std::string::npos) << s.text();
}

TEST(ClusterStatus, ANodeThatWasHeardOfFirstIsThereOnce) {
  ClusterStatus s;
  s.add("http://a", {node("p0", {at(0, 1)}), {node("p1", {at(0, 1)})}});
  s.add("http://b", {node("p1", {at(0, 2)}), {}});
  ASSERT_EQ(s.nodes().size(), 2u);
  EXPECT_EQ(s.nodes()[1].url, "http://b");
}

TEST(ClusterStatus, IsNotWellWhenSomethingIsStoppedNotReadyOrNotThere) {
  NodeSeen ready = node("e0", {});
  ClusterStatus stopped;
  stopped.add("http://a", {ready, {node("p0", {at(0, 1, "its own answer says why")})}});
  EXPECT_FALSE(stopped.well());
  ClusterStatus waits;
  NodeSeen not_ready = ready;
  not_ready.not_ready = "NATS is not connected";
  waits.add("http://a", {not_ready, {}});
  EXPECT_FALSE(waits.well());
  EXPECT_NE(waits.text().find("no: NATS is not connected"), std::string::npos) << waits.text();
  ClusterStatus behind;
  NodeSeen reads = node("p1", {at(0, 1)});
  reads.partitions[0].waits = "it has to read the next stream first";
  behind.add("http://a", {ready, {reads}});
  EXPECT_FALSE(behind.well());
  EXPECT_NE(behind.text().find("waits: it has to"), std::string::npos) << behind.text();
  ClusterStatus gone;
  gone.add("http://a", {ready, {}});
  EXPECT_TRUE(gone.well());
  gone.add_failure("http://b", "http://b: Couldn't connect to server");
  EXPECT_FALSE(gone.well());
  ClusterStatus alone;
  NodeSeen no_cluster;
  no_cluster.role = "alone";
  alone.add("http://a", {no_cluster, {}});
  EXPECT_FALSE(alone.well());
}

TEST(ClusterStatus, HeadsAreComparedWherePositionsAreTheSame) {
  const auto heads = [](std::vector<HeadSeen> all) {
    return SaleHeads{.sku = "tour", .heads = std::move(all), .failures = {}};
  };
  EXPECT_TRUE(heads({{"p0", 5, "aa", "s"}, {"p1", 6, "bb", "t"}, {"p2", 5, "aa", "s"}}).agree());
  EXPECT_FALSE(heads({{"p0", 5, "aa", "s"}, {"p1", 6, "bb", "t"}, {"p2", 5, "ab", "s"}}).agree());
  EXPECT_FALSE(heads({{"p0", 5, "aa", "s"}, {"p1", 5, "aa", "t"}}).agree());
  ClusterStatus s;
  s.add_heads(heads({{"p0", 5, "aa", "s"}, {"p1", 5, "ab", "s"}}));
  EXPECT_FALSE(s.well());
  EXPECT_NE(s.text().find("HEADS DIFFER"), std::string::npos) << s.text();
  const auto parsed =
      parse_audit_head(R"({"sku":"tour","position":6,"head":"f0","state_digest":"41"})");
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->position, 6u);
}

TEST(ClusterStatus, WhatANodeSaysOfItselfBeginsNoLineOfItsOwn) {
  ClusterStatus s;
  NodeSeen liar = node("p0\nall is well", {});
  liar.not_ready = "x\ny";
  s.add("http://a", {liar, {}});
  const std::string text = s.text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
}

}  // namespace
}  // namespace fairsale::cli
