#include "core/engine/recovery.hpp"

#include "tests/engine/shop.hpp"

namespace fairsale::test {
namespace {

// A sale with some of everything behind it.
void trade(Shop& shop, std::string_view sku, int rounds) {
  if (shop.sequencer.find(sku_id(sku)) == nullptr) shop.now(sku, scheduled(sku, 5));
  for (int i = 0; i < rounds; ++i) {
    const auto name = fmt::format("c{}", i % 40);
    const Decision d = shop.now(sku, attempt(name, fmt::format("k{}", i)));
    if (d.kind == DecisionKind::reserved && i % 3 == 0) {
      shop.now(sku, PaymentReceived{.purchase = d.purchase,
                                    .reference = *PaymentReference::from(fmt::format("p{}", i)),
                                    .amount = {MinorUnits{1000}, Currency{{'E', 'U', 'R'}}}});
    }
    if (d.kind == DecisionKind::waiting && i % 5 == 0) {
      shop.now(sku, PurchaseCancelled{.purchase = d.purchase});
    }
    shop.clock.advance(Duration{7'000});
  }
}

SkuHead head_of(const EventLog& log) { return log.heads()->front(); }

TEST(Recovery, FoldingTheLogGivesTheStateThatServed) {
  MemoryLog log;
  Shop shop(log);
  trade(shop, "a", 200);
  const auto folded = fold(log, head_of(log), FoldFrom::start, nullptr);
  ASSERT_TRUE(folded) << folded.error().message;
  EXPECT_EQ(state_digest(folded->sale), state_digest(*shop.sequencer.find(sku_id("a"))));
  EXPECT_EQ(folded->head, *shop.sequencer.head(sku_id("a")));
  EXPECT_FALSE(folded->sale.check());
}

TEST(Recovery, ASnapshotShortensTheFoldAndChangesNothing) {
  MemoryLog log;
  Shop shop(log, {.snapshot_least = 1});
  trade(shop, "a", 100);
  EXPECT_EQ(shop.sequencer.stop().snapshots, 1u);
  const Seq snapshot_at = shop.sequencer.head(sku_id("a"))->seq;
  trade(shop, "a", 60);

  const auto whole = fold(log, head_of(log), FoldFrom::start, nullptr);
  const auto rest = fold(log, head_of(log), FoldFrom::snapshot, nullptr);
  ASSERT_TRUE(whole && rest);
  EXPECT_EQ(rest->from, snapshot_at);
  EXPECT_EQ(state_digest(rest->sale), state_digest(whole->sale));
}

TEST(Recovery, ASaleGoesOnAfterARestartWhereItWas) {
  MemoryLog log;
  Digest before;
  {
    Shop shop(log);
    trade(shop, "a", 50);
    before = state_digest(*shop.sequencer.find(sku_id("a")));
  }
  Shop shop(log);
  shop.clock.set_wall(kOpening + Duration{50 * 7'000});
  auto folded = fold(log, head_of(log), FoldFrom::snapshot, &shop.decisions);
  ASSERT_TRUE(folded);
  shop.sequencer.adopt(sku_id("a"), std::move(*folded));
  EXPECT_EQ(state_digest(*shop.sequencer.find(sku_id("a"))), before);

  // The first answer is still the answer.
  const Decision again = shop.now("a", attempt("c0", "k0"));
  EXPECT_TRUE(again.repeated);
  EXPECT_EQ(again.kind, DecisionKind::reserved);
  // And what fell due while the server was down falls due now.
  shop.clock.advance(Duration{120'000});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_GT(shop.decisions.count(DecisionKind::expired), 0u);
}

TEST(Recovery, ALogThatEndsBeforeItsHeadIsRefused) {
  MemoryLog log;
  Shop shop(log);
  trade(shop, "a", 10);
  SkuHead head = head_of(log);
  head.head.seq.value += 1;
  const auto folded = fold(log, head, FoldFrom::start, nullptr);
  ASSERT_FALSE(folded);
  EXPECT_EQ(folded.error().fault, Fault::damaged);
}

TEST(Recovery, ALogThatDoesNotLeadToItsHeadIsRefused) {
  MemoryLog log;
  Shop shop(log);
  trade(shop, "a", 10);
  SkuHead head = head_of(log);
  head.head.digest.bytes[0] ^= std::byte{1};
  const auto folded = fold(log, head, FoldFrom::start, nullptr);
  ASSERT_FALSE(folded);
  EXPECT_EQ(folded.error().fault, Fault::damaged);
}

TEST(Recovery, AFoldMayStopAtAnyPosition) {
  MemoryLog log;
  Shop shop(log, {.snapshot_least = 1});
  trade(shop, "a", 20);
  EXPECT_EQ(shop.sequencer.stop().snapshots, 1u);
  trade(shop, "a", 10);
  for (const FoldFrom from : {FoldFrom::start, FoldFrom::snapshot}) {
    for (std::uint64_t until = 1; until <= shop.sequencer.head(sku_id("a"))->seq.value; ++until) {
      const auto folded = fold(log, head_of(log), from, nullptr, Seq{until});
      ASSERT_TRUE(folded) << folded.error().message;
      EXPECT_EQ(folded->sale.seq(), Seq{until});
    }
  }
}

}  // namespace
}  // namespace fairsale::test
