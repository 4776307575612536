#include <rapidcheck.h>

#include <iterator>
#include <set>

#include "projections/availability.hpp"
#include "projections/line.hpp"
#include "tests/engine/shop.hpp"

namespace fairsale::test {
namespace {

// The projections over one board.
struct Projected {
  AvailabilityBoard board;
  AvailabilityProjection availability{board};
  LineProjection line;
  std::vector<Projection*> all{&availability, &line};
  Observers observers{{&availability, &line}};
};

struct ProjectedShop {
  explicit ProjectedShop(EventLog& log) : sequencer(log, clock, projected.observers, {}) {}

  Decision now(std::string_view sku, const Event& event) {
    sequencer.submit(sku_id(sku), event, Ticket{{++tickets, 0, 0}});
    EXPECT_TRUE(sequencer.turn(recorder));
    return recorder.answers.at(tickets).decision;
  }

  ManualClock clock{kOpening};
  Projected projected;
  Recorder recorder;
  Sequencer sequencer;
  std::uint64_t tickets = 0;
};

TEST(Projections, FollowOneSaleThroughALine) {
  MemoryLog log;
  ProjectedShop shop(log);
  const SkuId a = sku_id("a");
  shop.now("a", scheduled("a", 1));
  const Seq anna = shop.now("a", attempt("anna", "1")).purchase;
  const Seq ben = shop.now("a", attempt("ben", "1")).purchase;
  const Seq cleo = shop.now("a", attempt("cleo", "1")).purchase;
  const Seq dora = shop.now("a", attempt("dora", "1")).purchase;

  auto& p = shop.projected;
  const auto index = [&](Seq purchase) { return *shop.sequencer.find(a)->find_purchase(purchase); };
  EXPECT_EQ(p.line.place(a, index(ben)), 1u);
  EXPECT_EQ(p.line.place(a, index(cleo)), 2u);
  EXPECT_EQ(p.line.place(a, index(dora)), 3u);
  EXPECT_EQ(p.line.place(a, index(anna)), std::nullopt);

  shop.now("a", PurchaseCancelled{.purchase = cleo});
  EXPECT_EQ(p.line.place(a, index(dora)), 2u) << "who stood behind moves up";
  EXPECT_EQ(p.line.head(a, 10), (std::vector{index(ben), index(dora)}));

  shop.clock.advance(Duration{60'000});
  ASSERT_TRUE(shop.sequencer.turn(shop.recorder));
  EXPECT_EQ(p.line.place(a, index(ben)), std::nullopt) << "it is offered the unit";
  EXPECT_EQ(p.line.place(a, index(dora)), 1u);

  const auto board = p.board.find("a");
  ASSERT_NE(board, nullptr);
  EXPECT_EQ(board->position, shop.sequencer.find(a)->seq());
  EXPECT_NE(board->json().find("\"held\":1"), std::string::npos) << board->json();
  EXPECT_NE(board->json().find("\"waiting\":1"), std::string::npos) << board->json();
}

TEST(Projections, AvailabilityIsListedByName) {
  MemoryLog log;
  ProjectedShop shop(log);
  for (const auto* sku : {"pear", "apple", "fig"}) shop.now(sku, scheduled(sku, 1));
  const auto all = shop.projected.board.list("", 10);
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0]->name.view(), "apple");
  EXPECT_EQ(all[2]->name.view(), "pear");
  const auto rest = shop.projected.board.list("apple", 1);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0]->name.view(), "fig");
  EXPECT_EQ(shop.projected.board.find("plum"), nullptr);
}

TEST(Projections, WhatIsWithdrawnIsNotThereUntilItIsPublishedAgain) {
  MemoryLog log;
  ProjectedShop shop(log);
  for (const auto* sku : {"pear", "fig"}) shop.now(sku, scheduled(sku, 1));
  auto& board = shop.projected.board;
  const auto version = board.version();
  board.withdraw("fig");
  board.withdraw("plum");
  EXPECT_GT(board.version(), version);
  EXPECT_EQ(board.find("fig"), nullptr);
  EXPECT_EQ(board.list("", 10).size(), 1u);
  shop.now("fig", attempt("anna", "1"));
  EXPECT_NE(board.find("fig"), nullptr);
  EXPECT_EQ(board.list("", 10).size(), 2u);
}

// Against a set that counts one by one.
TEST(RankedSet, CountsWhoIsBelow) {
  EXPECT_TRUE(rc::check([] {
    RankedSet set;
    std::set<std::uint32_t> model;
    const auto number = rc::gen::oneOf(rc::gen::inRange<std::uint32_t>(0, 300),
                                       rc::gen::inRange<std::uint32_t>(65'000, 67'000),
                                       rc::gen::inRange<std::uint32_t>(0, 400'000));
    for (int i = 0; i < 200; ++i) {
      const std::uint32_t n = *number;
      if (model.insert(n).second) {
        set.insert(n);
      } else if (*rc::gen::arbitrary<bool>()) {
        set.erase(n);
        model.erase(n);
      }
      const std::uint32_t at = *number;
      const auto next = model.lower_bound(at);
      RC_ASSERT(set.size() == model.size());
      RC_ASSERT(set.contains(at) == model.contains(at));
      RC_ASSERT(set.rank(at) == std::distance(model.begin(), next));
      RC_ASSERT(set.next(at) == (next == model.end() ? RankedSet::kNone : *next));
    }
  }));
}

// The law of projection.hpp: seeded from a state, or followed from the start, is the same.
TEST(Projections, SeededFromAnyStateEqualsFollowedFromTheStart) {
  EXPECT_TRUE(rc::check([] {
    MemoryLog log;
    ProjectedShop shop(log);
    auto event = scheduled("a", *rc::gen::inRange<std::uint32_t>(1, 6));
    event.terms.line_policy = *rc::gen::element(LinePolicy::strict, LinePolicy::skip_if_unfit);
    shop.now("a", event);

    std::vector<Seq> purchases;
    const int steps = *rc::gen::inRange(1, 60);
    const int seeded_at = *rc::gen::inRange(0, steps);
    Projected late;
    SkuId a = sku_id("a");
    // What `late` is to see: everything after its seed.
    struct Follow final : SaleObserver {
      SaleObserver* to = nullptr;
      SaleObserver* also = nullptr;
      void seed(SkuId s, const Sale& sale) override { to->seed(s, sale); }
      void on_decision(SkuId s, const Sale& sale, const Decision& d) override {
        to->on_decision(s, sale, d);
        if (also != nullptr) also->on_decision(s, sale, d);
      }
      void on_commit(SkuId s, const Sale& sale) override {
        to->on_commit(s, sale);
        if (also != nullptr) also->on_commit(s, sale);
      }
    } follow;
    follow.to = &shop.projected.observers;
    Sequencer sequencer(log, shop.clock, follow, {});
    auto folded = fold(log, log.heads()->front(), FoldFrom::start, nullptr);
    RC_ASSERT(folded.has_value());
    sequencer.adopt(a, std::move(*folded));

    for (int i = 0; i < steps; ++i) {
      if (i == seeded_at) {
        late.observers.seed(a, *sequencer.find(a));
        follow.also = &late.observers;
      }
      const auto customer = fmt::format("c{}", *rc::gen::inRange(0, 5));
      Event next;
      const Seq target = purchases.empty() ? Seq{99} : *rc::gen::elementOf(purchases);
      switch (*rc::gen::inRange(0, 7)) {
        case 0: next = PurchaseCancelled{.purchase = target}; break;
        case 1: next = OfferDeclined{.purchase = target}; break;
        case 2:
          next = PaymentReceived{.purchase = target,
                                 .reference = *PaymentReference::from(fmt::format("r{}", i)),
                                 .amount = {MinorUnits{1000}, Currency{{'E', 'U', 'R'}}}};
          break;
        case 3: next = OrderRefunded{.purchase = target, .restock = true}; break;
        default:
          next = attempt(customer, fmt::format("k{}", *rc::gen::inRange(0, 30)),
                         *rc::gen::inRange<std::uint32_t>(0, 4));
      }
      shop.clock.advance(Duration{*rc::gen::inRange(0, 40'000)});
      sequencer.submit(a, next, Ticket{{1, 0, 0}});
      RC_ASSERT(sequencer.turn(shop.recorder).has_value());
      purchases.push_back(shop.recorder.answers.at(1).decision.purchase);
    }
    for (std::size_t i = 0; i < late.all.size(); ++i) {
      RC_ASSERT(late.all[i]->cursor(a) == sequencer.find(a)->seq());
      RC_ASSERT(late.all[i]->digest(a) == shop.projected.all[i]->digest(a));
    }
  }));
}

}  // namespace
}  // namespace fairsale::test
