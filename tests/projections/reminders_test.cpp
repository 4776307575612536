// Who holds units is reminded once before they go back, and never of what is paid or given up.
#include "projections/outbox/reminders.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rocksdb/env.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/log/memory_log.hpp"
#include "projections/outbox/dispatcher.hpp"
#include "tests/log/support.hpp"
#include "tests/projections/life.hpp"

namespace fairsale::test {
namespace {

using fairsale::testing::TempDir;
using std::chrono::milliseconds;

constexpr std::int64_t kHold = 60'000;  // of scheduled()
constexpr std::int64_t kLead = 20'000;  // a third of it
constexpr std::int64_t kFresh = 250;

void seed_from(Reminders& reminders, const Life& life) {
  life.sequencer.for_each_head(
      [&](SkuId sku, const Head&) { reminders.seed(sku, *life.sequencer.find(sku)); });
}

// Whom it was reminded of: each reminder as it came.
struct Reminded final : Consumer {
  using Told = std::vector<std::pair<std::string, Reminder>>;
  explicit Reminded(Told& to) : told(to) {}

  std::string_view name() const override { return "reminded"; }
  Taken take(const Consignment& c) override {
    if (broken) return {0, Error{Fault::io, "nobody is there"}};
    messages += c.messages.size();
    return {c.messages.size(), {}};
  }
  Taken remind(std::string_view sku, std::span<const Reminder> reminders) override {
    Taken taken;
    for (const Reminder& r : reminders) {
      if (broken || deaf || (left && *left == 0)) {
        taken.trouble = Error{Fault::io, "no reminders, please"};
        break;
      }
      if (left) --*left;
      told.emplace_back(sku, r);
      ++taken.messages;
    }
    return taken;
  }

  Told& told;
  std::size_t messages = 0;
  bool broken = false;
  bool deaf = false;
  std::optional<std::size_t> left;  // reminders until it breaks
};

class RemindersTest : public ::testing::Test {
 protected:
  RemindersTest() { live(); }

  void live() {
    die();
    life = std::make_unique<Life>(log, projections_directory(dir.path()), clock);
    reminders = std::make_unique<Reminders>(
        log, [this] { return life->projector.store(); }, life->board, clock,
        RemindersOptions{.current = [this] { return current; }});
    seed_from(*reminders, *life);
    auto cursors = CursorStore::open(outbox_directory(dir.path()));
    ASSERT_TRUE(cursors) << cursors.error().message;
    dispatcher = std::make_unique<Dispatcher>(
        log, [this] { return life->projector.store(); }, std::move(*cursors),
        DispatcherOptions{.reminders = reminders.get()});
    life->grew = [this](SkuId sku) { dispatcher->grew(sku); };
    auto c = std::make_unique<Reminded>(told);
    consumer = c.get();
    ASSERT_TRUE(dispatcher->add(std::move(c)));
  }
  // What was not written down is gone.
  void die() {
    dispatcher.reset();
    reminders.reset();
    life.reset();
  }
  void deliver() {
    life->settle();
    dispatcher->work();
  }
  void pass(std::int64_t ms) {
    clock.advance(Duration{ms});
    life->turn();
  }
  std::vector<std::string> names() const {
    std::vector<std::string> all;
    for (const auto& [sku, r] : told) all.push_back(fmt::format("{} {}", sku, r.customer.view()));
    return all;
  }
  using Names = std::vector<std::string>;

  TempDir dir;
  MemoryLog log;
  ManualClock clock{kStart};
  std::unique_ptr<Life> life;
  std::unique_ptr<Reminders> reminders;
  std::unique_ptr<Dispatcher> dispatcher;
  Reminded* consumer = nullptr;
  Reminded::Told told;
  bool current = true;
};

TEST_F(RemindersTest, AHoldIsToldOnceWhenAThirdOfItIsLeft) {
  life->now("demo", scheduled("demo", 5));
  const Seq anna = life->now("demo", attempt(1)).purchase;
  pass(kHold - kLead - 1);
  deliver();
  EXPECT_EQ(names(), Names{});
  pass(1);
  deliver();
  ASSERT_EQ(names(), Names{"demo c1"}) << "though nothing happened in the sale";
  EXPECT_EQ(told[0].second.purchase, anna);
  EXPECT_EQ(told[0].second.until, kStart + Duration{kHold});
  EXPECT_EQ(told[0].second.at, kStart + Duration{kHold - kLead});
  EXPECT_EQ(told[0].second.quantity, Quantity{1});
  pass(kLead - 1);
  deliver();
  pass(kHold);
  deliver();
  EXPECT_EQ(names(), Names{"demo c1"});
}

TEST_F(RemindersTest, NobodyIsRemindedOfWhatIsPaidOrGivenUp) {
  life->now("demo", scheduled("demo", 5));
  const Seq paid = life->now("demo", attempt(1)).purchase;
  const Seq given_up = life->now("demo", attempt(2)).purchase;
  life->now("demo", attempt(3));
  deliver();
  life->now("demo", payment(paid));
  life->now("demo", PurchaseCancelled{.purchase = given_up});
  pass(kHold - kLead);
  deliver();
  EXPECT_EQ(names(), Names{"demo c3"});
}

TEST_F(RemindersTest, AnOfferIsAHoldAndAPlaceInLineIsNone) {
  life->now("demo", scheduled("demo", 1));
  life->now("demo", attempt(1));
  life->now("demo", attempt(2));
  pass(kHold);  // the first one's ends, and the second has an offer
  pass(kHold - kLead - 1);
  deliver();
  EXPECT_EQ(names(), Names{});
  pass(1);
  deliver();
  ASSERT_EQ(names(), Names{"demo c2"});
  EXPECT_EQ(told[0].second.until, kStart + Duration{2 * kHold});
}

TEST_F(RemindersTest, AHoldThatHasEndedIsNotTold) {
  life->now("demo", scheduled("demo", 5));
  life->now("demo", attempt(1));
  deliver();
  clock.advance(Duration{kHold});  // and nobody has decided so yet
  deliver();
  EXPECT_EQ(names(), Names{});
}

TEST_F(RemindersTest, WhatIsNotYetInTheOutboxIsWaitedFor) {
  life->now("demo", scheduled("demo", 5));
  const Seq anna = life->now("demo", attempt(1)).purchase;
  life->now("demo", attempt(2));
  pass(kHold - kLead);
  life->settle();
  life->now("demo", payment(anna));
  auto next = reminders->next({}, 8);
  EXPECT_TRUE(next.reminders.empty()) << "it was paid for";
  EXPECT_LE(next.wait, milliseconds(50));
  clock.advance(Duration{20});
  next = reminders->next({}, 8);
  EXPECT_TRUE(next.reminders.empty()) << "it is still not known";
  // The outbox gets to where the sale was, and the sale is ahead again: true enough.
  life->settle();
  life->now("demo", attempt(9));
  clock.advance(Duration{20});
  next = reminders->next({}, 8);
  ASSERT_EQ(next.reminders.size(), 1u);
  EXPECT_EQ(next.reminders[0].customer.view(), "c2");
  // But not for long.
  clock.advance(Duration{kFresh + 1});
  EXPECT_TRUE(reminders->next({}, 8).reminders.empty());
}

TEST_F(RemindersTest, AfterARestartAnOpenHoldIsToldAgainAndOneThatEndedIsNot) {
  life->now("demo", scheduled("demo", 5));
  const Seq paid = life->now("demo", attempt(1)).purchase;
  life->now("demo", attempt(2));
  deliver();
  live();  // between opening and reminder
  pass(kHold - kLead);
  deliver();
  EXPECT_EQ(names(), (Names{"demo c1", "demo c2"}));
  life->now("demo", payment(paid));  // which is in the log, and not in the outbox
  live();
  deliver();
  ASSERT_EQ(names(), (Names{"demo c1", "demo c2", "demo c2"}));
  EXPECT_EQ(message_id("demo", told[1].second), message_id("demo", told[2].second));
  clock.advance(Duration{kLead});
  live();
  deliver();
  EXPECT_EQ(told.size(), 3u);
}

TEST_F(RemindersTest, WhoTakesNoRemindersIsGivenMessagesNonetheless) {
  life->now("demo", scheduled("demo", 5));
  life->now("demo", attempt(1));
  life->now("demo", attempt(2));
  consumer->deaf = true;
  pass(kHold - kLead);
  deliver();
  EXPECT_EQ(consumer->messages, said(log, kDemo).size());
  EXPECT_EQ(dispatcher->status()[0].trouble->message, "no reminders, please");
  consumer->deaf = false;
  consumer->left = 1;
  deliver();
  EXPECT_EQ(names(), Names{"demo c1"});
  consumer->left.reset();
  deliver();
  EXPECT_EQ(names(), (Names{"demo c1", "demo c2"})) << "what was not taken is given again";
  EXPECT_FALSE(dispatcher->status()[0].trouble);
  EXPECT_EQ(dispatcher->status()[0].taken, consumer->messages + 2);
}

TEST_F(RemindersTest, TroubleWithRemindersOfHoldsThatHaveEndedIsOver) {
  life->now("demo", scheduled("demo", 5));
  life->now("demo", attempt(1));
  consumer->deaf = true;
  pass(kHold - kLead);
  deliver();
  ASSERT_TRUE(dispatcher->status()[0].trouble);
  pass(kHold);
  deliver();
  EXPECT_FALSE(dispatcher->status()[0].trouble) << "nothing is left that could not be given";
  EXPECT_EQ(names(), Names{});
}

TEST_F(RemindersTest, ANodeThatDoesNotKnowItsSalesRemindsNobody) {
  life->now("demo", scheduled("demo", 5));
  life->now("demo", attempt(1));
  pass(kHold - kLead);
  current = false;
  deliver();
  EXPECT_EQ(names(), Names{});
  current = true;
  deliver();
  EXPECT_EQ(names(), Names{"demo c1"});
}

TEST_F(RemindersTest, AClockThatIsBehindTheLogGoesOnAtItsPace) {
  life->now("demo", scheduled("demo", 5));
  clock.set_wall(kStart + Duration{-3'600'000});
  life->now("demo", attempt(1));
  deliver();
  pass(kHold - kLead - 1);
  deliver();
  EXPECT_EQ(names(), Names{});
  pass(1);
  deliver();
  EXPECT_EQ(names(), Names{"demo c1"});
}

// A crowd's reminders fall due together: each is told, in bounded portions, of each sale.
TEST_F(RemindersTest, ACrowdOfSeveralSalesIsToldOfEachHoldOnce) {
  for (const char* sku : {"a", "b"}) {
    life->now(sku, scheduled(sku, 300));
    for (int i = 0; i < 300; ++i) life->now(sku, attempt(i));
  }
  pass(kHold - kLead);
  deliver();
  std::set<std::string> different;
  for (const auto& [sku, r] : told) different.insert(message_id(sku, r));
  EXPECT_EQ(different.size(), 600u);
  EXPECT_EQ(told.size(), 600u);
}

// The threads tell of it in time, though nothing else happens.
TEST_F(RemindersTest, ThreadsRemindInTime) {
  life->now("demo", scheduled("demo", 5));
  life->now("demo", attempt(1));
  clock.advance(Duration{kHold - kLead});
  life->projector.start();
  dispatcher->start();
  while (dispatcher->status()[0].taken < said(log, kDemo).size() + 1) std::this_thread::yield();
  dispatcher->stop();
  life->projector.stop();
  EXPECT_EQ(names(), Names{"demo c1"});
}

// Kills, lost queues, a consumer that fails anywhere: nobody is told of a hold that had ended a
// quarter of a second before, nobody twice in one life, and whoever's moment has come is told as
// soon as the outbox is there.
TEST(RemindersLaw, EachOpenHoldInTimeAndNoOther) {
  ASSERT_TRUE(rc::check([] {
    const std::unique_ptr<rocksdb::Env> disk(rocksdb::NewMemEnv(rocksdb::Env::Default()));
    MemoryLog log;
    ManualClock clock{kStart};
    std::unique_ptr<Life> life;
    std::unique_ptr<Reminders> reminders;
    std::unique_ptr<Dispatcher> dispatcher;
    Reminded::Told told;
    Reminded* consumer = nullptr;
    std::set<std::string> this_life;
    using Id = std::pair<std::string, std::uint64_t>;
    std::map<Id, std::int64_t> ended;  // when, by the steady clock
    const std::vector<std::string> skus{"demo", "other"};
    std::set<Id> were_open;
    const auto steady = [&] { return clock.now().steady.value; };
    const auto note_ends = [&] {
      std::set<Id> open;
      for (const auto& sku : skus) {
        const Sale* sale = life->sequencer.find(sku_id(sku));
        for (std::uint32_t i = 0; sale != nullptr && i < sale->purchases(); ++i) {
          const Purchase& p = sale->purchase(PurchaseIndex{i});
          if (holds_units(p.status)) open.emplace(sku, p.seq.value);
        }
      }
      for (const Id& id : were_open) {
        if (!open.contains(id)) ended[id] = steady();
      }
      were_open = open;
    };
    const auto live = [&] {
      dispatcher.reset();
      reminders.reset();
      life.reset();
      life = std::make_unique<Life>(log, "/projections", clock, 8192, disk.get());
      reminders = std::make_unique<Reminders>(
          log, [&life] { return life->projector.store(); }, life->board, clock);
      seed_from(*reminders, *life);
      auto cursors = CursorStore::open("/outbox", disk.get());
      RC_ASSERT(cursors.has_value());
      dispatcher = std::make_unique<Dispatcher>(
          log, [&life] { return life->projector.store(); }, std::move(*cursors),
          DispatcherOptions{.reminders = reminders.get()});
      life->grew = [&dispatcher](SkuId sku) { dispatcher->grew(sku); };
      auto c = std::make_unique<Reminded>(told);
      consumer = c.get();
      RC_ASSERT(dispatcher->add(std::move(c)).has_value());
      this_life.clear();
    };
    const auto work = [&] {
      note_ends();
      const std::size_t before = told.size();
      dispatcher->work();
      for (std::size_t i = before; i < told.size(); ++i) {
        const auto& [sku, r] = told[i];
        RC_ASSERT(this_life.insert(message_id(sku, r)).second);
        RC_ASSERT(r.at <= clock.now().wall);
        RC_ASSERT(clock.now().wall < r.until);
        if (const auto it = ended.find({sku, r.purchase.value}); it != ended.end()) {
          RC_ASSERT(steady() - it->second <= kFresh);
        }
      }
    };
    const auto all_are_told = [&] {
      consumer->left.reset();
      life->settle();
      work();
      for (const auto& [sku, purchase] : were_open) {
        const Sale* sale = life->sequencer.find(sku_id(sku));
        const Purchase& p = sale->purchase(*sale->find_purchase(Seq{purchase}));
        const std::int64_t left = (p.until - clock.now().wall).value;
        if (left <= 0 || left > kLead) continue;
        RC_ASSERT(this_life.contains(message_id(sku, Reminder{.purchase = p.seq})));
      }
    };
    live();
    for (const auto& sku : skus) life->now(sku, scheduled(sku, 6));
    const auto some_open = [&]() -> Id {
      if (were_open.empty()) return {"demo", 1};
      return *std::next(were_open.begin(), *rc::gen::inRange<std::ptrdiff_t>(
                                               0, static_cast<std::ptrdiff_t>(were_open.size())));
    };
    const auto steps = *rc::gen::inRange(20, 120);
    for (int i = 0; i < steps; ++i) {
      const std::string& sku = skus[*rc::gen::inRange<std::size_t>(0, 2)];
      switch (*rc::gen::inRange(0, 15)) {
        case 0: live(); break;
        case 1:
        case 2:
          clock.advance(Duration{*rc::gen::inRange(1, 30'000)});
          if (*rc::gen::arbitrary<bool>()) life->turn();
          break;
        case 3: clock.advance(Duration{*rc::gen::inRange(1, 400)}); break;
        case 4: {
          const auto [of, purchase] = some_open();
          life->now(of, payment(Seq{purchase}));
          break;
        }
        case 5: {
          const auto [of, purchase] = some_open();
          life->now(of, PurchaseCancelled{.purchase = Seq{purchase}});
          break;
        }
        case 6: life->projector.work(); break;
        case 7: consumer->left = *rc::gen::inRange<std::size_t>(0, 3); break;
        case 8:
        case 9: work(); break;
        case 10: all_are_told(); break;
        default: life->now(sku, attempt(*rc::gen::inRange(0, 30)));
      }
      note_ends();
    }
    all_are_told();
  }));
}

}  // namespace
}  // namespace fairsale::test
