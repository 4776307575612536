#include "core/log/memory_log.hpp"

#include "tests/log/support.hpp"

namespace fairsale::testing {
namespace {

TEST(MemoryLog, gives_back_what_was_committed) {
  MemoryLog log;
  Chain a("a");
  Chain b("b");
  commit(log, {a.block(3), b.block(2)});
  commit(log, {a.block(4), a.block(1)});
  EXPECT_EQ(read_all(log, a.sku()).size(), 3U);
  EXPECT_EQ(read_all(log, a.sku(), Seq{4}).size(), 2U);
  EXPECT_EQ(read_all(log, a.sku(), Seq{5}).size(), 2U);
  EXPECT_EQ(read_all(log, a.sku(), Seq{8}), (std::vector<Bytes>{*a.blocks()[2]}));
  EXPECT_TRUE(read_all(log, a.sku(), Seq{9}).empty());
  EXPECT_TRUE(read_all(log, sku_id("nobody")).empty());
  const auto heads = log.heads();
  ASSERT_TRUE(heads);
  ASSERT_EQ(heads->size(), 2U);
  for (const SkuHead& h : *heads) {
    EXPECT_EQ(h.head, h.sku == a.sku() ? a.head() : b.head());
  }
}

TEST(MemoryLog, refuses_blocks_that_do_not_continue_the_log) {
  MemoryLog log;
  Chain a("a");
  const BlockWrite first = a.block();
  const BlockWrite second = a.block();
  const auto early = log.append(std::vector{second});
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().fault, Fault::invalid);
  commit(log, {first});
  EXPECT_FALSE(log.append(std::vector{first}));
  commit(log, {second});
  BlockWrite misnamed = a.block();
  misnamed.first = Seq{99};
  EXPECT_FALSE(log.append(std::vector{misnamed}));
  EXPECT_FALSE(log.append({}));
}

TEST(MemoryLog, is_dead_after_a_failure) {
  MemoryLog log;
  Chain a("a");
  commit(log, {a.block()});
  log.fail_next_append({Fault::full, "no space"});
  const BlockWrite next = a.block();
  for (int i = 0; i < 2; ++i) {
    const auto failed = log.append(std::vector{next});
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().fault, Fault::full);
  }
  EXPECT_EQ(read_all(log, a.sku()).size(), 1U);
}

TEST(MemoryLog, is_shortened_to_heads_that_it_had) {
  MemoryLog log;
  Chain a("a");
  Chain b("b");
  commit(log, {a.block(2)});
  const Head kept = a.head();
  commit(log, {a.block(3), b.block(1)});
  ASSERT_TRUE(log.put_snapshot(a.sku(), a.head(), fold(a)));
  EXPECT_FALSE(log.shorten(std::vector{SkuHead{b.sku(), Head{}}, SkuHead{a.sku(), b.head()}}));
  EXPECT_EQ(read_all(log, b.sku()).size(), 1U);
  ASSERT_TRUE(log.shorten(std::vector{SkuHead{b.sku(), Head{}}, SkuHead{a.sku(), kept}}));
  EXPECT_EQ(log.heads()->size(), 1U);
  EXPECT_EQ(log.heads()->front().head, kept);
  EXPECT_FALSE(*log.snapshot(a.sku(), Seq{100}));
  a.go_back(kept);
  commit(log, {a.block(1)});
  EXPECT_EQ(read_all(log, a.sku()).size(), 2U);
}

TEST(MemoryLog, keeps_the_latest_two_snapshots) {
  MemoryLog log;
  Chain a("a");
  std::vector<Head> heads;
  for (int i = 0; i < 3; ++i) {
    commit(log, {a.block()});
    heads.push_back(a.head());
    ASSERT_TRUE(log.put_snapshot(a.sku(), a.head(), fold(a)));
  }
  const auto at = [&](Seq most) { return log.snapshot(a.sku(), most); };
  ASSERT_TRUE(*at(heads[2].seq));
  EXPECT_EQ((*at(heads[2].seq))->head, heads[2]);
  EXPECT_EQ((*at(heads[2].seq))->state, state_digest((*at(heads[2].seq))->sale));
  EXPECT_EQ((*at(Seq{heads[2].seq.value - 1}))->head, heads[1]);
  EXPECT_FALSE(*at(heads[0].seq));
}

}  // namespace
}  // namespace fairsale::testing
