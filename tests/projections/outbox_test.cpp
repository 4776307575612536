// Messages leave through the outbox: each at least once, in order, whatever is killed or fails.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "core/log/memory_log.hpp"
#include "projections/outbox/dispatcher.hpp"
#include "tests/log/support.hpp"
#include "tests/projections/life.hpp"

namespace fairsale::test {
namespace {

using fairsale::testing::TempDir;

std::string text_of(std::string_view sku, const MessageRow& m) {
  return fmt::format("{}:{}:{} {} {}", sku, m.position.value, m.number, name_of(m.kind),
                     m.customer.view());
}

// Where messages end up: what a consumer of our tests has taken, repeats included.
struct Inbox {
  std::vector<std::string> got;
  std::map<std::string, std::vector<MessageRow>> once;  // by SKU; a repeat is told by its id

  void put(std::string_view sku, const MessageRow& m) {
    got.push_back(text_of(sku, m));
    auto& known = once[std::string(sku)];
    const auto id = [](const MessageRow& r) { return std::pair(r.position, r.number); };
    for (const MessageRow& k : known) {
      if (id(k) != id(m)) continue;
      EXPECT_EQ(k, m) << "the same id, another message";
      return;
    }
    EXPECT_TRUE(known.empty() || id(known.back()) < id(m)) << "out of order";
    known.push_back(m);
  }
};

struct TestConsumer final : Consumer {
  TestConsumer(std::string its_name, Inbox& in, bool past = true)
      : called(std::move(its_name)), inbox(in), from_the_start(past) {}

  std::string_view name() const override { return called; }
  bool wants_the_past() const override { return from_the_start; }
  Taken take(const Consignment& c) override {
    Taken taken;
    if (when_given) when_given();
    for (const MessageRow& m : c.messages) {
      if (broken || (left && *left == 0)) {
        taken.trouble = Error{Fault::io, "nobody is there"};
        break;
      }
      if (left) --*left;
      inbox.put(c.name, m);
      ++taken.messages;
    }
    return taken;
  }

  std::function<void()> when_given;
  std::string called;
  Inbox& inbox;
  bool from_the_start;
  bool broken = false;
  std::optional<std::size_t> left;  // messages until it breaks
};

class Outbox : public ::testing::Test {
 protected:
  // A life with a dispatcher behind it. What `life` decides is delivered by deliver().
  void live() {
    life = std::make_unique<Life>(log, projections_directory(dir.path()), clock);
    DispatcherOptions options;
    options.report = [this](std::string_view who, const Error& e) {
      trouble.push_back(fmt::format("{}: {}", who, e.message));
    };
    auto cursors = CursorStore::open(outbox_directory(dir.path()));
    ASSERT_TRUE(cursors) << cursors.error().message;
    dispatcher = std::make_unique<Dispatcher>(
        log, [this] { return life->projector.store(); }, std::move(*cursors), options);
    life->grew = [this](SkuId sku) { dispatcher->grew(sku); };
  }
  TestConsumer& consumer(std::string name, Inbox& into, bool past = true) {
    auto c = std::make_unique<TestConsumer>(std::move(name), into, past);
    TestConsumer& it = *c;
    EXPECT_TRUE(dispatcher->add(std::move(c)));
    return it;
  }
  void deliver() {
    life->settle();
    dispatcher->work();
  }
  // What was not written down is gone.
  void die() {
    dispatcher.reset();
    life.reset();
  }

  TempDir dir;
  MemoryLog log;
  ManualClock clock{kStart};
  std::unique_ptr<Life> life;
  std::unique_ptr<Dispatcher> dispatcher;
  Inbox inbox;
  std::vector<std::string> trouble;
};

TEST_F(Outbox, TellsWhatBecameOfEachPurchaseAndNothingElse) {
  live();
  consumer("shop", inbox);
  life->now("demo", scheduled("demo", 1));
  const Seq anna = life->now("demo", attempt(1)).purchase;
  const Seq ben = life->now("demo", attempt(2)).purchase;
  life->now("demo", attempt(2));  // the same again: answered, and not told anybody
  life->now("demo", attempt(3));
  clock.advance(Duration{61'000});
  life->turn();                      // Anna's hold ends
  life->now("demo", payment(anna));  // too late
  life->now("demo", payment(ben));
  deliver();
  EXPECT_EQ(inbox.got, (std::vector<std::string>{
                           "demo:1:0 scheduled ",
                           "demo:1:1 opened ",
                           "demo:2:0 reserved c1",
                           "demo:3:0 waiting c2",
                           "demo:5:0 waiting c3",
                           "demo:6:0 expired c1",
                           "demo:6:1 offered c2",
                           "demo:7:0 refund_due c1",
                           "demo:8:0 ordered c2",
                           "demo:8:1 released c3",
                           "demo:8:2 line_released ",
                           "demo:8:3 sold_out ",
                       }));
  const auto& all = inbox.once["demo"];
  EXPECT_EQ(all[7].reason, Reason::hold_expired);
  EXPECT_EQ(all[7].reference, *PaymentReference::from(fmt::format("pay-{}", anna.value)));
  EXPECT_EQ(all[8].amount, (Money{MinorUnits{1000}, Currency{{'E', 'U', 'R'}}}));
  EXPECT_EQ(all[6].until, kStart + Duration{121'000});
  EXPECT_TRUE(trouble.empty());
}

TEST_F(Outbox, AConsumerInTroubleHoldsUpNobodyAndIsGivenAllOfItLater) {
  live();
  Inbox other;
  auto& broken = consumer("broken", inbox);
  consumer("well", other);
  broken.broken = true;
  life->now("demo", scheduled("demo", 5));
  for (int i = 0; i < 5; ++i) life->now("demo", attempt(i));
  deliver();
  deliver();
  EXPECT_TRUE(inbox.got.empty());
  EXPECT_EQ(other.once["demo"], said(log, kDemo));
  EXPECT_EQ(trouble, std::vector<std::string>{"broken: nobody is there"}) << "told once";
  EXPECT_EQ(dispatcher->status()[0].failures, 2u);
  EXPECT_EQ(dispatcher->status()[0].skus_behind, 1u);
  broken.broken = false;
  deliver();
  EXPECT_EQ(inbox.once["demo"], said(log, kDemo));
  EXPECT_EQ(inbox.got.size(), inbox.once["demo"].size());
  EXPECT_FALSE(dispatcher->status()[0].trouble);
}

TEST_F(Outbox, WhatAConsumerHasInHandIsNotYetTaken) {
  live();
  std::vector<std::size_t> behind;
  consumer("slow", inbox).when_given = [&] {
    behind.push_back(dispatcher->status()[0].skus_behind);
  };
  life->now("demo", scheduled("demo", 5));
  deliver();
  EXPECT_EQ(behind, std::vector<std::size_t>{1});
  EXPECT_EQ(dispatcher->status()[0].skus_behind, 0u);
}

TEST_F(Outbox, ANewConsumerMayBeginWithWhatComes) {
  live();
  life->now("demo", scheduled("demo", 5));
  life->now("demo", attempt(1));
  consumer("late", inbox, false);
  life->now("demo", attempt(2));
  life->now("other", scheduled("other", 1));
  deliver();
  const std::vector<std::string> expected{"demo:3:0 reserved c2", "other:1:0 scheduled ",
                                          "other:1:1 opened "};
  EXPECT_EQ(inbox.got, expected);
  die();
  live();
  consumer("late", inbox, false);  // it is known now
  deliver();
  EXPECT_EQ(inbox.got, expected);
}

TEST_F(Outbox, AnOlderLogIsDeliveredOnFromItsEnd) {
  live();
  consumer("shop", inbox);
  life->now("demo", scheduled("demo", 5));
  for (int i = 0; i < 5; ++i) life->now("demo", attempt(i));
  deliver();
  die();
  MemoryLog older;
  ASSERT_TRUE(log.read(kDemo, Seq{1}, [&](const BlockView& b) {
    if (b.last() > Seq{3}) return false;
    const BlockWrite w{kDemo, b.header().first, {b.last(), b.header().time, b.digest()}, b.bytes()};
    return older.append(std::span(&w, 1)).has_value();
  }));
  Inbox after;
  life = std::make_unique<Life>(older, projections_directory(dir.path()), clock);
  dispatcher = std::make_unique<Dispatcher>(
      older, [this] { return life->projector.store(); },
      std::move(*CursorStore::open(outbox_directory(dir.path()))),
      DispatcherOptions{
          .report = [this](std::string_view, const Error& e) { trouble.push_back(e.message); }});
  life->grew = [this](SkuId sku) { dispatcher->grew(sku); };
  consumer("shop", after);
  life->now("demo", attempt(9));
  deliver();
  EXPECT_EQ(after.got, std::vector<std::string>{"demo:4:0 reserved c9"});
  ASSERT_EQ(trouble.size(), 1u);
  EXPECT_NE(trouble[0].find("ends at position 3"), std::string::npos) << trouble[0];
}

// A disk whose power can fail: what was not synced of a write-ahead log is gone then.
class PowerCut : public rocksdb::FileSystemWrapper {
 public:
  PowerCut() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "PowerCut"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* out,
                                    rocksdb::IODebugContext* dbg) override {
    auto s = target()->NewWritableFile(name, options, out, dbg);
    if (!s.ok() || !name.ends_with(".log")) return s;
    synced_[name] = 0;
    out->reset(new File(std::move(*out), synced_[name]));
    return s;
  }
  // Once whoever wrote is gone.
  void happens() const {
    for (const auto& [name, bytes] : synced_) {
      if (std::filesystem::exists(name)) std::filesystem::resize_file(name, bytes);
    }
  }

 private:
  class File : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSWritableFile>&& file, std::uint64_t& synced)
        : FSWritableFileOwnerWrapper(std::move(file)), synced_(synced) {}

    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* dbg) override {
      synced_ = FSWritableFileOwnerWrapper::GetFileSize(options, dbg);
      return FSWritableFileOwnerWrapper::Sync(options, dbg);
    }

   private:
    std::uint64_t& synced_;
  };

  std::map<std::string, std::uint64_t> synced_;  // bytes, by the name of the file
};

// Else it would begin anew behind what was said in between.
TEST(Cursors, WhoIsKnownStaysKnownThroughAPowerCut) {
  const TempDir dir;
  const auto disk = std::make_shared<PowerCut>();
  const auto env = rocksdb::NewCompositeEnv(disk);
  {
    auto cursors = CursorStore::open(dir / "outbox", env.get());
    ASSERT_TRUE(cursors) << cursors.error().message;
    ASSERT_TRUE((*cursors)->put("late", kDemo, Cursor::past(Seq{3})));
    ASSERT_TRUE((*cursors)->remember("late"));
    ASSERT_TRUE((*cursors)->put("late", kDemo, Cursor::past(Seq{5})));
  }
  disk->happens();
  auto cursors = CursorStore::open(dir / "outbox", env.get());
  ASSERT_TRUE(cursors) << cursors.error().message;
  EXPECT_TRUE((*cursors)->knows("late").value());
  EXPECT_EQ((*cursors)->cursor("late", kDemo).value(), Cursor::past(Seq{3}));
}

TEST(Cursors, OfADamagedStoreItIsToldWhatToDo) {
  const TempDir dir;
  ASSERT_TRUE(CursorStore::open(dir / "outbox"));
  for (const auto& f : std::filesystem::directory_iterator(dir / "outbox")) {
    if (f.path().filename().string().starts_with("MANIFEST")) {
      std::filesystem::resize_file(f.path(), 1);
    }
  }
  const auto opened = CursorStore::open(dir / "outbox");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().fault, Fault::damaged);
  EXPECT_NE(opened.error().message.find("Move it away"), std::string::npos)
      << opened.error().message;
}

// Kills, consumers that fail anywhere, lost queues: in the end each message has arrived, in order,
// and only what the consumer had not yet been credited with has come twice.
TEST(OutboxLaw, AtLeastOnceInOrder) {
  ASSERT_TRUE(rc::check([] {
    const std::unique_ptr<rocksdb::Env> disk(rocksdb::NewMemEnv(rocksdb::Env::Default()));
    MemoryLog log;
    ManualClock clock{kStart};
    Inbox inbox;
    std::unique_ptr<Life> life;
    std::unique_ptr<Dispatcher> dispatcher;
    TestConsumer* consumer = nullptr;
    const auto live = [&] {
      dispatcher.reset();
      life.reset();
      life = std::make_unique<Life>(log, "/projections", clock,
                                    *rc::gen::inRange<std::uint64_t>(1, 40), disk.get());
      auto cursors = CursorStore::open("/outbox", disk.get());
      RC_ASSERT(cursors.has_value());
      dispatcher = std::make_unique<Dispatcher>(
          log, [&life] { return life->projector.store(); }, std::move(*cursors),
          DispatcherOptions{.batch = *rc::gen::inRange<std::size_t>(1, 6)});
      life->grew = [&dispatcher](SkuId sku) { dispatcher->grew(sku); };
      auto c = std::make_unique<TestConsumer>("c", inbox);
      consumer = c.get();
      RC_ASSERT(dispatcher->add(std::move(c)).has_value());
    };
    live();
    const std::vector<std::string> skus{"demo", "other"};
    for (const auto& sku : skus) life->now(sku, scheduled(sku, 3));
    std::vector<Seq> purchases;
    const auto steps = *rc::gen::inRange(10, 80);
    for (int i = 0; i < steps; ++i) {
      const std::string& sku = skus[*rc::gen::inRange<std::size_t>(0, 2)];
      switch (*rc::gen::inRange(0, 9)) {
        case 0: live(); break;
        case 1:
          clock.advance(Duration{*rc::gen::inRange(1, 70'000)});
          life->turn();
          break;
        case 2:
          if (!purchases.empty()) life->now(sku, payment(*rc::gen::elementOf(purchases)));
          break;
        case 3: life->projector.work(); break;
        case 4: consumer->left = *rc::gen::inRange<std::size_t>(0, 5); break;
        case 5: consumer->left.reset(); break;
        case 6: dispatcher->work(); break;
        default: purchases.push_back(life->now(sku, attempt(*rc::gen::inRange(0, 12))).purchase);
      }
    }
    consumer->left.reset();
    life->settle();
    dispatcher->work();
    for (const auto& sku : skus) RC_ASSERT(inbox.once[sku] == said(log, sku_id(sku)));
    RC_ASSERT(dispatcher->status()[0].skus_behind == 0u);
    // Credit follows each consignment, and only a kill comes in between: here it never does.
    std::size_t different = 0;
    for (const auto& [sku, messages] : inbox.once) different += messages.size();
    RC_ASSERT(inbox.got.size() == different);
  }));
}

TEST_F(Outbox, ConsumersComeAndGoWhileItWorks) {
  live();
  Inbox early;
  Inbox late;
  consumer("early", early);
  life->projector.start();
  dispatcher->start();
  life->now("demo", scheduled("demo", 5));
  while (dispatcher->status()[0].taken < 2) std::this_thread::yield();
  consumer("late", late, false);
  consumer("all", inbox);
  for (int i = 0; i < 5; ++i) life->now("demo", attempt(i));
  const auto all_have = [&](std::size_t consumers) {
    const auto status = dispatcher->status();
    EXPECT_EQ(status.size(), consumers);
    return std::all_of(status.begin(), status.end(), [&](const ConsumerStatus& s) {
      return s.taken == said(log, kDemo).size() - (s.name == "late" ? 2 : 0);
    });
  };
  while (!all_have(3)) std::this_thread::yield();
  ASSERT_TRUE(dispatcher->remove("early"));
  EXPECT_EQ(dispatcher->remove("early").error().fault, Fault::not_found);
  const std::size_t was = early.got.size();
  life->now("demo", attempt(7));
  while (!all_have(2)) std::this_thread::yield();
  EXPECT_EQ(early.got.size(), was);
  // Whoever comes again under its name is as new.
  Inbox again;
  consumer("early", again);
  while (!all_have(3)) std::this_thread::yield();
  dispatcher->stop();
  life->projector.stop();
  EXPECT_EQ(again.once["demo"], said(log, kDemo));
  EXPECT_EQ(inbox.once["demo"], said(log, kDemo));
}

TEST_F(Outbox, ACursorIsMovedBackAndNeverForth) {
  live();
  auto& it = consumer("shop", inbox);
  life->now("demo", scheduled("demo", 5));
  for (int i = 0; i < 5; ++i) life->now("demo", attempt(i));
  deliver();
  const std::size_t all = inbox.got.size();
  ASSERT_TRUE(dispatcher->rewind("shop", kDemo, Cursor::past(Seq{4})));
  ASSERT_TRUE(dispatcher->rewind("shop", kDemo, Cursor::past(Seq{1000})));
  EXPECT_EQ(dispatcher->rewind("nobody", kDemo, {}).error().fault, Fault::not_found);
  it.broken = true;
  deliver();
  die();
  live();
  consumer("shop", inbox);
  deliver();
  EXPECT_EQ(inbox.got.size(), all + 2) << "those at 5 and 6, also after a restart";
}

// The pause after trouble is cut short by who knows that it is over.
TEST_F(Outbox, ARetryIsAtOnce) {
  live();
  auto& it = consumer("shop", inbox);
  it.broken = true;
  life->now("demo", scheduled("demo", 5));
  life->settle();
  dispatcher->start();
  while (dispatcher->status()[0].failures < 5) std::this_thread::yield();
  const unsigned before = dispatcher->status()[0].failures;
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_TRUE(dispatcher->retry("shop"));  // the next would be in more than a second
  while (dispatcher->status()[0].failures == before) std::this_thread::yield();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(900));
  dispatcher->stop();
}

// The threads do the same as work(), while the sales go on.
TEST_F(Outbox, ThreadsDeliverBesideTheSales) {
  live();
  consumer("shop", inbox);
  life->projector.start();
  dispatcher->start();
  life->now("demo", scheduled("demo", 200));
  for (int i = 0; i < 200; ++i) life->now("demo", attempt(i));
  while (dispatcher->status()[0].taken < 202) std::this_thread::yield();
  dispatcher->stop();
  life->projector.stop();
  EXPECT_EQ(inbox.once["demo"], said(log, kDemo));
  EXPECT_EQ(inbox.got.size(), 202u);
}

}  // namespace
}  // namespace fairsale::test
