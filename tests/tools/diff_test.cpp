// Where two logs part.
#include "tools/events/diff.hpp"

#include <gtest/gtest.h>

#include "core/log/memory_log.hpp"
#include "tests/log/support.hpp"
#include "tests/tools/event_log_support.hpp"

namespace fairsale::cli {
namespace {

using testing::attempt;
using testing::scheduled;

// A log that is written block by block.
struct Written {
  void block(std::vector<Event> events, std::int64_t time = 5, std::uint64_t epoch = 1) {
    append_block(log, sku, head, Timestamp{time}, Epoch{epoch}, events);
  }
  SkuId sku = sku_id("sneaker-1");
  MemoryLog log;
  Head head;
};

Difference between(const Written& a, const Written& b) {
  const auto d = first_difference(a.log, a.head, b.log, b.head, a.sku);
  EXPECT_TRUE(d) << d.error().message;
  return d.value_or(Difference{});
}

// Long enough that a log is read in several pieces.
void begin(Written& w, unsigned blocks = 0) {
  w.block({scheduled()});
  for (unsigned i = 0; i < blocks; ++i) w.block({attempt(2 * i), attempt(2 * i + 1)});
}

TEST(Diff, the_same_log_is_equal) {
  Written a;
  Written b;
  EXPECT_EQ(between(a, b).relation, Relation::equal);
  begin(a, 100);
  begin(b, 100);
  const Difference d = between(a, b);
  EXPECT_EQ(d.relation, Relation::equal);
  EXPECT_EQ(d.seq, Seq{0});
  EXPECT_FALSE(d.a);
}

TEST(Diff, a_prefix_is_told_from_either_side) {
  for (const unsigned length : {0U, 1U, 37U, 99U}) {
    Written a;
    Written b;
    begin(a, length);
    begin(b, 100);
    Difference d = between(a, b);
    EXPECT_EQ(d.relation, Relation::a_is_prefix);
    EXPECT_EQ(d.seq, Seq{2 * length + 2});
    EXPECT_FALSE(d.a);
    ASSERT_TRUE(d.b);
    EXPECT_EQ(std::get<PurchaseAttempted>(d.b->event).customer, attempt(2 * length).customer);
    d = between(b, a);
    EXPECT_EQ(d.relation, Relation::b_is_prefix);
    EXPECT_EQ(d.seq, Seq{2 * length + 2});
    EXPECT_FALSE(d.b);
  }
  Written none;
  Written some;
  begin(some);
  EXPECT_EQ(between(none, some).relation, Relation::a_is_prefix);
  EXPECT_EQ(between(some, none).relation, Relation::b_is_prefix);
}

TEST(Diff, the_first_event_that_differs_is_found_wherever_it_is) {
  for (unsigned at = 0; at < 60; ++at) {
    Written a;
    Written b;
    begin(a, at);
    begin(b, at);
    a.block({attempt(7), attempt(1000), attempt(5)});
    b.block({attempt(7), attempt(1001), attempt(5)});
    begin(a, at % 7);
    const Difference d = between(a, b);
    EXPECT_EQ(d.relation, Relation::events_differ);
    ASSERT_EQ(d.seq, Seq{2 * at + 3});
    EXPECT_EQ(std::get<PurchaseAttempted>(d.a->event).customer, attempt(1000).customer);
    EXPECT_EQ(std::get<PurchaseAttempted>(d.b->event).customer, attempt(1001).customer);
    EXPECT_EQ(d.a->first, Seq{2 * at + 2});
  }
}

TEST(Diff, another_time_is_another_event) {
  Written a;
  Written b;
  begin(a, 3);
  begin(b, 3);
  a.block({attempt(1)}, 6);
  b.block({attempt(1)}, 7);
  const Difference d = between(a, b);
  EXPECT_EQ(d.relation, Relation::events_differ);
  EXPECT_EQ(d.seq, Seq{8});
  EXPECT_EQ(d.a->time, Timestamp{6});
  EXPECT_EQ(d.b->time, Timestamp{7});
}

TEST(Diff, the_same_events_in_other_blocks_are_told_apart_from_other_events) {
  Written a;
  Written b;
  begin(a, 3);
  begin(b, 3);
  // More than is read at once.
  for (unsigned i = 0; i < 5000; ++i) {
    a.block({attempt(2 * i), attempt(2 * i + 1)});
    b.block({attempt(2 * i)});
    b.block({attempt(2 * i + 1)});
  }
  Difference d = between(a, b);
  EXPECT_EQ(d.relation, Relation::blocks_differ);
  EXPECT_EQ(d.seq, Seq{8});
  EXPECT_EQ(d.a->last, Seq{9});
  EXPECT_EQ(d.b->last, Seq{8});
  b.block({attempt(1)});
  EXPECT_EQ(between(a, b).relation, Relation::blocks_differ);
  a.block({attempt(2)});
  d = between(a, b);
  EXPECT_EQ(d.relation, Relation::events_differ);
  EXPECT_EQ(d.seq, Seq{10'008});
}

TEST(Diff, another_epoch_is_another_block) {
  Written a;
  Written b;
  begin(a, 3);
  begin(b, 3);
  a.block({attempt(1)}, 5, 1);
  b.block({attempt(1)}, 5, 2);
  const Difference d = between(a, b);
  EXPECT_EQ(d.relation, Relation::blocks_differ);
  EXPECT_EQ(d.a->epoch, Epoch{1});
  EXPECT_EQ(d.b->epoch, Epoch{2});
}

}  // namespace
}  // namespace fairsale::cli
