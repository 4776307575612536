#include "api/cluster/wire.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include "api/http/problem.hpp"

namespace fairsale::api {
namespace {

using cluster::NodeId;
using cluster::PartitionId;
using cluster::Position;

Query sample_query() {
  Query q;
  q.kind = Query::Kind::payment;
  q.sku = *SkuName::from("tour");
  q.purchase = Seq{17};
  q.customer = *CustomerId::from("ann");
  q.limit = 50;
  q.min_seq = Seq{16};
  q.who = {Role::shop, *CustomerId::from("ann")};
  q.event = PaymentReceived{
      Seq{17}, *PaymentReference::from("pay-1"), {MinorUnits{4'900}, Currency{{'E', 'U', 'R'}}}};
  return q;
}

TEST(ClusterWire, AnEventOfAnotherKindThanItsQueryIsNotTaken) {
  for (const auto kind : {Query::Kind::payment, Query::Kind::demo_payment, Query::Kind::refund}) {
    Query q = sample_query();
    q.kind = kind;
    q.event = TimePassed{};
    Bytes bytes;
    append_query(bytes, q);
    EXPECT_FALSE(parse_query(bytes));
  }
}

TEST(ClusterWire, AQueryComesBackAsItWas) {
  Bytes bytes;
  append_query(bytes, sample_query());
  const auto q = parse_query(bytes);
  ASSERT_TRUE(q);
  EXPECT_EQ(q->kind, Query::Kind::payment);
  EXPECT_EQ(q->sku.view(), "tour");
  EXPECT_EQ(q->purchase, Seq{17});
  EXPECT_EQ(q->customer.view(), "ann");
  EXPECT_EQ(q->limit, 50u);
  EXPECT_EQ(q->min_seq, Seq{16});
  EXPECT_EQ(q->who.role, Role::shop);
  const auto& payment = std::get<PaymentReceived>(q->event);
  EXPECT_EQ(payment.purchase, Seq{17});
  EXPECT_EQ(payment.reference.view(), "pay-1");
  EXPECT_EQ(payment.amount.amount, MinorUnits{4'900});
}

TEST(ClusterWire, AnswersComeBackOneAfterTheOther) {
  Bytes bytes;
  append_rendered(bytes, {201, http::kJson, "Location: /x\r\n", "{}"});
  append_rendered(bytes, {503, {}, {}, {}});
  std::span<const std::byte> left(bytes);
  const auto first = take_rendered(left);
  ASSERT_TRUE(first);
  EXPECT_EQ(first->status, 201);
  EXPECT_EQ(first->content_type, http::kJson);
  EXPECT_EQ(first->headers, "Location: /x\r\n");
  EXPECT_EQ(first->body, "{}");
  const auto second = take_rendered(left);
  ASSERT_TRUE(second);
  EXPECT_EQ(second->status, 503);
  EXPECT_TRUE(second->content_type.empty());
  EXPECT_FALSE(take_rendered(left));
}

TEST(ClusterWire, WhatIsLackedAndWhatIsLentComeBackAsTheyWere) {
  Bytes bytes;
  append_lacks(bytes, {PartitionId{3}, Position{2, 900}, NodeId{77}});
  const auto lacks = parse_lacks(bytes);
  ASSERT_TRUE(lacks);
  EXPECT_EQ(lacks->partition, PartitionId{3});
  EXPECT_EQ(lacks->from, (Position{2, 900}));
  EXPECT_EQ(lacks->node, NodeId{77});

  const Bytes content(1'000, std::byte{9});
  bytes.clear();
  append_has(bytes, {PartitionId{3}, Position{2, 901}, Timestamp{1'800'000'000'123}, content});
  const auto has = parse_has(bytes);
  ASSERT_TRUE(has);
  EXPECT_EQ(has->position, (Position{2, 901}));
  EXPECT_EQ(has->time, Timestamp{1'800'000'000'123});
  EXPECT_TRUE(std::equal(has->bytes.begin(), has->bytes.end(), content.begin(), content.end()));
}

TEST(ClusterWire, ThatAllSalesWereShownIsToldApartFromOne) {
  Bytes bytes;
  append_all_shown(bytes, {PartitionId{0}, PartitionId{3}});
  EXPECT_EQ(parse_all_shown(bytes), (std::vector{PartitionId{0}, PartitionId{3}}));
  EXPECT_FALSE(parse_shown(bytes));
  EXPECT_FALSE(parse_no_sale(bytes));
  bytes[0] = std::byte{1};
  EXPECT_FALSE(parse_all_shown(bytes));
}

TEST(ClusterWire, ThatThereIsNoSaleComesBackAsItWas) {
  Bytes bytes;
  append_no_sale(bytes, {7, SkuId{9}});
  const auto back = parse_no_sale(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->generation, 7);
  EXPECT_EQ(back->sku, SkuId{9});
  EXPECT_FALSE(parse_shown(bytes));
  EXPECT_FALSE(parse_all_shown(bytes));
  bytes.pop_back();
  EXPECT_FALSE(parse_no_sale(bytes));
}

TEST(ClusterWire, AHeartbeatComesBackAsItWas) {
  Heartbeat h{.node = NodeId{5}, .processor = true, .name = "p0", .partitions = {}};
  h.partitions.push_back({PartitionId{0}, Position{1, 4}, true, false});
  h.partitions.push_back({PartitionId{1}, Position{0, 9}, false, true, {{2, 7}, {3, 1}}});
  h.hears = {NodeId{6}, NodeId{1}};
  Bytes bytes;
  append_heartbeat(bytes, h);
  const auto back = parse_heartbeat(bytes);
  ASSERT_TRUE(back);
  EXPECT_EQ(back->node, NodeId{5});
  EXPECT_TRUE(back->processor);
  EXPECT_EQ(back->name, "p0");
  ASSERT_EQ(back->partitions.size(), 2u);
  EXPECT_TRUE(back->partitions[0].stopped);
  EXPECT_FALSE(back->partitions[0].waits);
  EXPECT_EQ(back->partitions[1].position, (Position{0, 9}));
  EXPECT_TRUE(back->partitions[1].waits);
  EXPECT_EQ(back->partitions[1].cuts, h.partitions[1].cuts);
  EXPECT_EQ(back->hears, h.hears);
}

// What was cut off is none of its kind, and what was changed is read within its bounds.
RC_GTEST_PROP(ClusterWire, WhatIsChangedOrCutOffIsReadWithinItsBounds, ()) {
  Bytes bytes;
  append_query(bytes, sample_query());
  const auto kept = *rc::gen::inRange<std::size_t>(0, bytes.size());
  RC_ASSERT(!parse_query(std::span(bytes).first(kept)));
  const auto changes = *rc::gen::inRange(1, 6);
  for (int i = 0; i < changes; ++i) {
    bytes[*rc::gen::inRange<std::size_t>(0, bytes.size())] = std::byte(*rc::gen::inRange(0, 256));
  }
  std::span<const std::byte> given(bytes);
  (void)parse_query(given);
  (void)parse_lacks(given);
  (void)parse_has(given);
  (void)parse_heartbeat(given);
  (void)parse_shown(given);
  (void)take_rendered(given);
  Bytes unpacked;
  (void)unpack(unpacked, given);
}

RC_GTEST_PROP(ClusterWire, WhatIsPackedComesBackAndWhatIsCutOffDoesNot, (const std::string& text)) {
  std::string much = text;
  for (int i = 0; i < 6; ++i) much += much;
  const auto bytes = std::as_bytes(std::span(much));
  Bytes packed;
  Bytes unpacked;
  pack(packed, bytes);
  RC_ASSERT(unpack(unpacked, packed));
  RC_ASSERT(std::equal(unpacked.begin(), unpacked.end(), bytes.begin(), bytes.end()));
  const auto kept = *rc::gen::inRange<std::size_t>(0, packed.size());
  RC_ASSERT(!unpack(unpacked, std::span(packed).first(kept)));
}

TEST(ClusterWire, NothingIsUnpackedThatIsLongerThanAMessageMayBe) {
  Bytes packed;
  Bytes unpacked;
  pack(packed, Bytes(cluster::kMaxAnswersBytes));
  EXPECT_TRUE(unpack(unpacked, packed));
  pack(packed, Bytes(cluster::kMaxAnswersBytes + 1));
  EXPECT_FALSE(unpack(unpacked, packed));
}

}  // namespace
}  // namespace fairsale::api
