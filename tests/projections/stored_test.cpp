// Stored projections follow, heal, are rebuilt and compared.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <set>

#include "core/log/memory_log.hpp"
#include "tests/domain/histories.hpp"
#include "tests/log/support.hpp"
#include "tests/projections/differences.hpp"
#include "tests/projections/life.hpp"

namespace fairsale::test {
namespace {

using fairsale::testing::TempDir;

using Rows = std::map<std::string, std::string>;

// What each projection is to hold at position n: made event by event, from nothing but the sale, by
// other code than that of the projections.
Rows expected(const EventLog& log, SkuId sku, StoredProjection p, Seq n) {
  struct Listener final : DecisionSink {
    explicit Listener(const Sale& s) : sale(s) {}
    void on(const Decision& d) override {
      const auto index = d.purchase.value != 0 ? sale.find_purchase(d.purchase) : std::nullopt;
      if (d.kind == DecisionKind::ordered) {
        const Money due{MinorUnits{sale.terms().price.amount.value * d.quantity.value},
                        sale.terms().price.currency};
        const StoredRow row = encode(OrderRow{.position = sale.seq(),
                                              .at = sale.time(),
                                              .purchase = d.purchase,
                                              .customer = *CustomerId::from(sale.customer_name(
                                                  CustomerIndex{sale.purchase(*index).customer})),
                                              .quantity = Quantity{sale.purchase(*index).quantity},
                                              .amount = due,
                                              .reference = *PaymentReference::from(reference)});
        rows[row.key] = row.value;
      }
      say(d, index);
      if (d.kind == DecisionKind::refunded) {
        const StoredRow row = encode(RefundRow{d.purchase, sale.seq(), sale.time()});
        rows[row.key] = row.value;
      }
    }
    void say(const Decision& d, std::optional<PurchaseIndex> index) {
      static const std::set<DecisionKind> unsaid{
          DecisionKind::refused, DecisionKind::payment_failure_noted, DecisionKind::noted};
      if (unsaid.contains(d.kind)) return;
      number = sale.seq() == last ? number + 1 : 0;
      last = sale.seq();
      MessageRow m{.position = last,
                   .number = number,
                   .at = sale.time(),
                   .kind = d.kind,
                   .reason = d.reason,
                   .quantity = d.quantity,
                   .place = d.place,
                   .until = d.until,
                   .purchase = d.purchase,
                   .customer = {},
                   .reference = {},
                   .amount = {}};
      if (index) {
        m.customer =
            *CustomerId::from(sale.customer_name(CustomerIndex{sale.purchase(*index).customer}));
      }
      if (d.kind == DecisionKind::ordered || d.kind == DecisionKind::refund_due) {
        m.reference = *PaymentReference::from(reference);
        m.amount = amount;
      }
      const StoredRow row = encode(m);
      messages[row.key] = row.value;
    }
    const Sale& sale;
    std::string reference;
    Money amount;
    Rows rows;
    Rows messages;
    Seq last;
    std::uint32_t number = 0;
  };
  Sale sale;
  Listener orders(sale);
  Rows seconds;
  EXPECT_TRUE(log.read(sku, Seq{1}, [&](const BlockView& block) {
    EXPECT_TRUE(block.for_each([&](Seq seq, const Event& e) {
      if (seq > n) return;
      if (const auto* paid = std::get_if<PaymentReceived>(&e)) {
        orders.reference = paid->reference.view();
        orders.amount = paid->amount;
      }
      sale.apply(seq, block.header().time, e, orders);
      if (!sale.exists()) return;
      const Counters& c = sale.counters();
      const StoredRow row =
          encode(TimelineRow{sale.time().value / 1000, seq, sale.purchases(), sale.customers(),
                             c.available, c.held, c.sold, c.waiting, sale.phase()});
      seconds[row.key] = row.value;
    }));
    return true;
  }));
  switch (p) {
    case StoredProjection::availability:
      return sale.exists() ? Rows{{"", render_sale(sale)}} : Rows{};
    case StoredProjection::timeline: return seconds;
    case StoredProjection::orders: return orders.rows;
    case StoredProjection::outbox: return orders.messages;
  }
  return {};
}

Rows stored(const ProjectionStore& store, GenerationId g, SkuId sku) {
  Rows rows;
  EXPECT_TRUE(store.each_row(g, sku, {}, {}, [&](auto key, auto value) {
    rows[std::string(key)] = value;
    return true;
  }));
  return rows;
}

Digest digest_of(StoredProjection p, SkuId sku, const Rows& rows) {
  RowSum sum;
  for (const auto& [key, value] : rows) sum.add(row_hash(p, sku, key, value));
  return sum.digest();
}

// A sale with `n` purchases, all paid, the first refunded.
void sell(Life& life, int n, int first_customer = 0) {
  if (life.sequencer.find(kDemo) == nullptr) life.now("demo", scheduled("demo", 1000));
  Seq first;
  for (int i = 0; i < n; ++i) {
    const Seq purchase = life.now("demo", attempt(first_customer + i)).purchase;
    life.now("demo", payment(purchase));
    if (i == 0) first = purchase;
    life.clock.advance(Duration{400});
  }
  life.now("demo", OrderRefunded{.purchase = first, .restock = true});
}

// What is wrong with the current generations, by the product's own check.
std::vector<ProjectionDifference> differences(const EventLog& log, const ProjectionStore& store,
                                              SkuId sku) {
  auto compared = compare(log, store, sku);
  EXPECT_TRUE(compared) << compared.error().message;
  if (!compared) return {};
  EXPECT_EQ(compared->left, 0u);
  return std::move(compared->differences);
}

// Content, count and digest are what the log says, at the position that is claimed.
void expect_right(const Life& life, SkuId sku = kDemo) {
  const auto store = life.projector.store();
  ASSERT_NE(store, nullptr);
  for (const StoredProjection p : kStoredProjections) {
    const GenerationId g = life.current(p);
    const Coverage c = *store->coverage(g, sku);
    const Rows want = expected(life.log, sku, p, c.position);
    EXPECT_EQ(stored(*store, g, sku), want) << name_of(p);
    EXPECT_EQ(c.rows, want.size()) << name_of(p);
    EXPECT_EQ(c.digest, digest_of(p, sku, want)) << name_of(p);
  }
  for (const ProjectionDifference& d : differences(life.log, *store, sku)) ADD_FAILURE() << d.row;
}

void expect_at_head(const Life& life, SkuId sku = kDemo) {
  const auto store = life.projector.store();
  ASSERT_NE(store, nullptr);
  for (const StoredProjection p : kStoredProjections) {
    EXPECT_EQ(*store->position(p, sku), life.sequencer.find(sku)->seq()) << name_of(p);
    EXPECT_EQ(life.status(p).state, ProjectionStatus::State::live) << name_of(p);
    EXPECT_EQ(life.status(p).lag, 0u) << name_of(p);
  }
}

class Stored : public ::testing::Test {
 protected:
  std::filesystem::path directory() const { return projections_directory(dir.path()); }

  TempDir dir;
  MemoryLog log;
  ManualClock clock{kStart};
};

TEST_F(Stored, FollowASale) {
  Life life(log, directory(), clock);
  sell(life, 5);
  life.settle();
  expect_at_head(life);
  expect_right(life);

  const auto page = life.projector.store()->orders(kDemo, Seq{0}, 3);
  ASSERT_TRUE(page);
  ASSERT_EQ(page->orders.size(), 3u);
  EXPECT_TRUE(page->more);
  EXPECT_EQ(page->position, life.sequencer.find(kDemo)->seq());
  EXPECT_EQ(page->orders[0].order.customer.view(), "c0");
  EXPECT_EQ(page->orders[0].order.reference.view(), "pay-2");
  EXPECT_EQ(page->orders[0].order.amount.amount.value, 1000);
  ASSERT_TRUE(page->orders[0].refund);
  EXPECT_EQ(page->orders[0].refund->position, page->position);
  EXPECT_FALSE(page->orders[1].refund);
  const auto rest = life.projector.store()->orders(kDemo, page->orders[2].order.position, 3);
  ASSERT_EQ(rest->orders.size(), 2u);
  EXPECT_FALSE(rest->more);

  const auto seconds = life.projector.store()->timeline(kDemo, 0, 100);
  ASSERT_EQ(seconds->seconds.size(), 3u) << "1,700,000,000 to 1,700,000,002";
  EXPECT_EQ(seconds->seconds.front().purchases, 3u);
  EXPECT_EQ(seconds->seconds.back().purchases, 5u);
  EXPECT_EQ(seconds->seconds.back().position, seconds->position);
  EXPECT_EQ(life.projector.store()->timeline(kDemo, seconds->seconds[0].second, 1)->seconds[0],
            seconds->seconds[1]);
}

TEST_F(Stored, ContinueAfterAStopAndHealAfterAKill) {
  {
    Life life(log, directory(), clock);
    sell(life, 3);
    life.settle();
  }
  {
    Life life(log, directory(), clock);
    expect_at_head(life);  // at once
    sell(life, 3, 10);
    // Killed before anything of this life was stored.
  }
  Life life(log, directory(), clock);
  EXPECT_EQ(life.status(StoredProjection::orders).state, ProjectionStatus::State::healing);
  EXPECT_GT(life.status(StoredProjection::orders).lag, 0u);
  life.settle();
  expect_at_head(life);
  expect_right(life);
}

TEST_F(Stored, ADeletedStoreComesBack) {
  {
    Life life(log, directory(), clock);
    sell(life, 3);
    life.settle();
  }
  std::filesystem::remove_all(directory());
  Life life(log, directory(), clock, 4);
  // Live rows that come meanwhile do not fit before it is healed.
  sell(life, 3, 10);
  life.settle();
  expect_at_head(life);
  expect_right(life);
}

TEST_F(Stored, WhatAFullQueueLosesIsReadFromTheLog) {
  Life life(log, directory(), clock, 1);
  sell(life, 1);
  life.settle();
  std::vector<Stretch> none;
  // Fill the queue with as many SKUs as it takes.
  for (std::size_t i = 0; i < StretchQueue::kMaxSkus; ++i) {
    std::vector<Stretch> one{{.sku = SkuId{i}, .from = Seq{0}, .to = Seq{0}}};
    life.projector.queue(0).put(one);
  }
  sell(life, 2, 10);
  std::vector<Stretch> taken;
  EXPECT_TRUE(life.projector.queue(0).take(taken)) << "it must have lost something";
  EXPECT_EQ(taken.size(), StretchQueue::kMaxSkus);
  // The next stretch does not fit; it is not known for what it lacks.
  life.now("demo", attempt(20));
  EXPECT_TRUE(life.projector.work());
  EXPECT_EQ(life.status(StoredProjection::orders).state, ProjectionStatus::State::healing);
  life.settle();
  expect_at_head(life);
  expect_right(life);
}

TEST_F(Stored, NothingIsJoinedAcrossALoss) {
  Bell bell;
  StretchQueue queue(bell);
  const auto put = [&queue](std::uint64_t from, std::size_t seconds) {
    std::vector<Stretch> one(1);
    one[0].sku = kDemo;
    one[0].from = Seq{from};
    one[0].to = Seq{from + 1};
    one[0].seconds.resize(seconds);
    queue.put(one);
  };
  put(0, 1);
  put(1, StretchQueue::kMaxRows);
  put(2, 1);
  std::vector<Stretch> taken;
  EXPECT_TRUE(queue.take(taken)) << "it must have lost something";
  ASSERT_EQ(taken.size(), 1u);
  EXPECT_EQ(taken[0].to, Seq{1});
}

TEST_F(Stored, ALossOfAQuietSkuIsFoundAsWell) {
  Life life(log, directory(), clock);
  sell(life, 1);
  life.settle();
  for (std::size_t i = 0; i < StretchQueue::kMaxSkus; ++i) {
    std::vector<Stretch> one{{.sku = SkuId{i}, .from = Seq{0}, .to = Seq{0}}};
    life.projector.queue(0).put(one);
  }
  sell(life, 2, 10);  // lost, and nothing follows
  life.settle();
  expect_at_head(life);
  expect_right(life);
}

TEST_F(Stored, ARebuildSwitchesBesideSalesAndKeepsTheOldGeneration) {
  Life life(log, directory(), clock, 4);
  sell(life, 10);
  life.settle();
  const GenerationId before = life.current(StoredProjection::orders);
  ASSERT_EQ(life.projector.rebuild(StoredProjection::orders, false), GenerationChange::done);
  EXPECT_EQ(life.projector.rebuild(StoredProjection::orders, false), GenerationChange::under_way);
  Seq seen = *life.projector.store()->position(StoredProjection::orders, kDemo);
  double progress = 0;
  for (int i = 0; i < 100'000 && life.projector.work(); ++i) {
    if (i < 5) sell(life, 1, 100 + i);
    const auto status = life.status(StoredProjection::orders);
    if (status.state == ProjectionStatus::State::rebuilding) progress = status.progress;
    const Seq position = *life.projector.store()->position(StoredProjection::orders, kDemo);
    EXPECT_GE(position, seen) << "a read went backwards";
    seen = position;
  }
  EXPECT_GT(progress, 0.5);
  const GenerationId after = life.current(StoredProjection::orders);
  EXPECT_NE(after, before);
  EXPECT_EQ(life.current(StoredProjection::timeline).number, 1u) << "others are left alone";
  expect_at_head(life);
  expect_right(life);

  // The old one is there until it is let go.
  auto status = life.status(StoredProjection::orders);
  ASSERT_EQ(status.generations.size(), 2u);
  EXPECT_EQ(status.generations[0].state, GenerationState::old);
  EXPECT_FALSE(stored(*life.projector.store(), before, kDemo).empty());
  EXPECT_EQ(life.projector.drop(StoredProjection::orders, after.number), GenerationChange::in_use);
  ASSERT_EQ(life.projector.drop(StoredProjection::orders, before.number), GenerationChange::done);
  EXPECT_EQ(life.projector.drop(StoredProjection::orders, before.number),
            GenerationChange::unknown);
  life.settle();
  EXPECT_EQ(life.status(StoredProjection::orders).generations.size(), 1u);
  EXPECT_TRUE(stored(*life.projector.store(), before, kDemo).empty());
  expect_right(life);
}

TEST_F(Stored, ARebuildGoesOnAfterAKill) {
  {
    Life life(log, directory(), clock, 4);
    sell(life, 20);
    life.settle();
    ASSERT_EQ(life.projector.rebuild(StoredProjection::timeline, false), GenerationChange::done);
    for (int i = 0; i < 4; ++i) EXPECT_TRUE(life.projector.work());
    EXPECT_GT(life.status(StoredProjection::timeline).progress, 0);
    EXPECT_LT(life.status(StoredProjection::timeline).progress, 1);
  }
  Life life(log, directory(), clock, 4);
  EXPECT_EQ(life.status(StoredProjection::timeline).state, ProjectionStatus::State::rebuilding);
  life.settle();
  EXPECT_EQ(life.current(StoredProjection::timeline).number, 2u);
  expect_at_head(life);
  expect_right(life);
}

// Makes the current generation say something else than the log: as a defect would.
void falsify(const std::filesystem::path& directory, StoredProjection p, Seq position) {
  const auto store = ProjectionStore::open(directory);
  ASSERT_TRUE(store);
  ProjectionStore::Batch batch(**store);
  Stretch wrong{.sku = kDemo, .from = position, .to = Seq{position.value + 1}};
  wrong.orders.push_back({.position = wrong.to, .purchase = Seq{1}});
  wrong.seconds.push_back({.second = 1, .position = wrong.to});
  wrong.document = "{}";
  ASSERT_TRUE(batch.add({p, 1}, wrong));
  ASSERT_TRUE(batch.write());
}

TEST_F(Stored, AGenerationThatDiffersIsNotSwitchedToUnlessTold) {
  Seq end;
  {
    Life life(log, directory(), clock);
    sell(life, 5);
    life.settle();
    end = life.sequencer.find(kDemo)->seq();
    life.now("demo", attempt(50));  // to be stored by falsify()
  }
  falsify(directory(), StoredProjection::orders, end);
  Life life(log, directory(), clock);
  life.settle();
  expect_at_head(life);
  const auto found = differences(log, *life.projector.store(), kDemo);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].generation, (GenerationId{StoredProjection::orders, 1}));
  EXPECT_EQ(found[0].row, fmt::format("order at position {}", end.value + 1));
  EXPECT_EQ(found[0].expected, "nothing");

  ASSERT_EQ(life.projector.rebuild(StoredProjection::orders, false), GenerationChange::done);
  life.settle();
  auto status = life.status(StoredProjection::orders);
  EXPECT_EQ(status.generation, 1u);
  ASSERT_TRUE(status.mismatch);
  EXPECT_EQ(status.mismatch->sku, kDemo);
  EXPECT_EQ(status.mismatch->position, Seq{end.value + 1});
  EXPECT_NE(status.mismatch->built, status.mismatch->current);
  EXPECT_EQ(status.generations.back().state, GenerationState::refused);
  ASSERT_EQ(life.said.size(), 1u);
  EXPECT_NE(life.said[0].find("orders"), std::string::npos);

  ASSERT_EQ(life.projector.rebuild(StoredProjection::orders, true), GenerationChange::done);
  life.settle();
  status = life.status(StoredProjection::orders);
  EXPECT_EQ(status.generation, 3u);
  EXPECT_TRUE(status.mismatch) << "what was overruled stays visible";
  expect_right(life);
}

TEST_F(Stored, AGenerationOfAsManyOtherRowsDiffers) {
  Seq end;
  {
    Life life(log, directory(), clock);
    sell(life, 5);
    life.settle();
    end = life.sequencer.find(kDemo)->seq();
    life.now("demo", attempt(50));
  }
  falsify(directory(), StoredProjection::availability, end);
  Life life(log, directory(), clock);
  life.settle();
  ASSERT_EQ(life.projector.rebuild(StoredProjection::availability, false), GenerationChange::done);
  life.settle();
  const auto status = life.status(StoredProjection::availability);
  EXPECT_EQ(status.generation, 1u);
  EXPECT_TRUE(status.mismatch);
}

TEST_F(Stored, ComparingNamesTheFirstDifference) {
  const auto difference = [&](const std::function<void(rocksdb::DB&)>& damage) {
    std::filesystem::remove_all(directory());
    {
      Life life(log, directory(), clock);
      if (life.sequencer.find(kDemo) == nullptr) sell(life, 5);
      life.settle();
    }
    rocksdb::DB* db = nullptr;
    EXPECT_TRUE(rocksdb::DB::Open({}, directory().string(), &db).ok());
    damage(*db);
    delete db;
    const auto store = ProjectionStore::open_view(directory());
    EXPECT_TRUE(store);
    const auto found = differences(log, **store, kDemo);
    EXPECT_EQ(found.size(), 1u);
    return found.empty() ? ProjectionDifference{} : found[0];
  };
  const auto key = [](StoredProjection p, const std::string& row) {
    std::string k{'R', static_cast<char>(p), 0, 0, 0, 1};
    for (int shift = 56; shift >= 0; shift -= 8) k += static_cast<char>(kDemo.value >> shift);
    return k + row;
  };
  using P = StoredProjection;
  auto d = difference([&](rocksdb::DB& db) { db.Delete({}, key(P::orders, order_key(Seq{5}))); });
  EXPECT_EQ(d.row, "order at position 5");
  EXPECT_EQ(d.found, "nothing");
  EXPECT_NE(d.expected.find("c1"), std::string::npos) << d.expected;
  d = difference([&](rocksdb::DB& db) { db.Delete({}, key(P::orders, refund_key(Seq{2}))); });
  EXPECT_EQ(d.row, "refund of purchase 2");
  d = difference([&](rocksdb::DB& db) {
    const StoredRow row = encode(RefundRow{Seq{4}, Seq{5}, kStart});
    db.Put({}, key(P::orders, row.key), row.value);
  });
  EXPECT_EQ(d.row, "refund of purchase 4");
  EXPECT_EQ(d.expected, "nothing");
  d = difference([&](rocksdb::DB& db) {
    const StoredRow row = encode(TimelineRow{.second = 1'700'000'009});
    db.Put({}, key(P::timeline, row.key), row.value);
  });
  EXPECT_EQ(d.generation.projection, P::timeline);
  EXPECT_EQ(d.row, "second 2023-11-14T22:13:29.000Z");
  d = difference([&](rocksdb::DB& db) { db.Put({}, key(P::availability, ""), "{}"); });
  EXPECT_EQ(d.row, "the sale document");
  EXPECT_EQ(d.found, "{}");
  d = difference([&](rocksdb::DB& db) {
    std::string coverage = key(P::orders, "");
    coverage[0] = 'M';
    std::string value;
    db.Get({}, coverage, &value);
    value[value.size() - 1] = static_cast<char>(value.back() + 1);
    db.Put({}, coverage, value);
  });
  EXPECT_EQ(d.row, "the digest");
}

TEST_F(Stored, RowsAndEntriesThatNoEncoderWritesAreNone) {
  OrderRow order{.position = Seq{2}, .at = Timestamp{-1}, .purchase = Seq{1}};
  EXPECT_FALSE(decode_order(encode(order).key, encode(order).value));
  order.at = Timestamp{kMaxTimestampMs};
  EXPECT_TRUE(decode_order(encode(order).key, encode(order).value));
  const RefundRow refund{.at = Timestamp{std::numeric_limits<std::int64_t>::min()}};
  EXPECT_FALSE(decode_refund(encode(refund).key, encode(refund).value));
  const TimelineRow second{.second = -1};
  EXPECT_FALSE(decode_timeline(encode(second).key, encode(second).value));
  const TimelineRow phase{.phase = static_cast<Phase>(6)};
  EXPECT_FALSE(decode_timeline(encode(phase).key, encode(phase).value));

  CatalogEntry entry{.version = 1, .next = 3, .generations = {{1}, {2}}};
  entry.generations[1].state = static_cast<GenerationState>(6);
  EXPECT_FALSE(decode_catalog(encode(entry)));
  entry.generations[1].state = GenerationState::old;
  EXPECT_TRUE(decode_catalog(encode(entry)));
}

TEST_F(Stored, ADamagedStoreIsMovedAsideAndBuiltAnew) {
  {
    Life life(log, directory(), clock);
    sell(life, 3);
    life.settle();
  }
  for (int round = 1; round <= 5; ++round) {
    {
      std::ofstream current(directory() / "CURRENT");
      current << "nonsense";
    }
    Life life(log, directory(), clock);
    ASSERT_EQ(life.said.size(), 1u) << "the operator is told";
    life.settle();
    expect_at_head(life);
    expect_right(life);
  }
  EXPECT_TRUE(std::filesystem::exists(dir / "projections.damaged-3"));
  EXPECT_FALSE(std::filesystem::exists(dir / "projections.damaged-4")) << "not for ever more";
}

// RocksDB takes the rest for all there was, and goes on with a write-ahead log that does not follow
// (faults_test, seed 20261127, cases 10711 to 10808: a second was missing from a timeline).
TEST_F(Stored, AManifestThatWasCutOffLosesNoRows) {
  for (int i = 0; i < 4; ++i) {
    Life life(log, directory(), clock);
    sell(life, 3, 10 * i);
    life.settle();
  }
  std::string name;
  std::ifstream(directory() / "CURRENT") >> name;
  for (auto size = std::filesystem::file_size(directory() / name); size > 0; size -= 1) {
    const auto copy = dir / "copy";
    fairsale::testing::copy_tree(directory(), copy);
    std::filesystem::resize_file(copy / name, size - 1);
    {
      Life life(log, copy, clock);
      life.settle();
      expect_at_head(life);
      expect_right(life);
    }
    for (const auto* aside : {"copy", "copy.damaged-1"}) std::filesystem::remove_all(dir / aside);
    if (HasFailure()) break;
    size -= std::min<std::uintmax_t>(size - 1, 6);
  }
}

// Lets the writing of RocksDB's write-ahead log fail on demand, half way.
class FullDisk : public rocksdb::FileSystemWrapper {
 public:
  FullDisk() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "FullDisk"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* out,
                                    rocksdb::IODebugContext* dbg) override {
    if (full) return rocksdb::IOStatus::NoSpace("injected");
    auto s = target()->NewWritableFile(name, options, out, dbg);
    if (s.ok() && name.ends_with(".log")) out->reset(new File(std::move(*out), *this));
    return s;
  }

  std::atomic<bool> full{false};

 private:
  class File : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSWritableFile>&& file, FullDisk& disk)
        : FSWritableFileOwnerWrapper(std::move(file)), disk_(disk) {}

    using FSWritableFileOwnerWrapper::Append;
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override {
      if (!disk_.full) return FSWritableFileOwnerWrapper::Append(data, options, dbg);
      const rocksdb::Slice half(data.data(), data.size() / 2);
      FSWritableFileOwnerWrapper::Append(half, options, dbg).PermitUncheckedError();
      return rocksdb::IOStatus::NoSpace("injected");
    }

   private:
    FullDisk& disk_;
  };
};

TEST_F(Stored, AFullDiskLeavesReadsAndSalesAloneAndIsMadeUpFor) {
  const auto disk = std::make_shared<FullDisk>();
  const auto env = rocksdb::NewCompositeEnv(disk);
  {
    Life life(log, directory(), clock, 8192, env.get());
    sell(life, 3);
    life.settle();
    const Seq stored_to = life.sequencer.find(kDemo)->seq();
    disk->full = true;
    sell(life, 3, 10);
    life.projector.work();
    EXPECT_EQ(life.status(StoredProjection::orders).state, ProjectionStatus::State::unavailable);
    ASSERT_TRUE(life.projector.error());
    EXPECT_FALSE(life.said.empty());
    ASSERT_NE(life.projector.store(), nullptr) << "what is there can be read";
    EXPECT_EQ(*life.projector.store()->position(StoredProjection::orders, kDemo), stored_to);
    life.projector.work();
    disk->full = false;
    for (int i = 0; i < 10; ++i) life.settle();
    EXPECT_FALSE(life.projector.error());
    expect_at_head(life);
    expect_right(life);
    sell(life, 1, 20);
    life.settle();
    expect_at_head(life);
  }
  Life life(log, directory(), clock, 8192, env.get());
  life.settle();
  expect_at_head(life);
  expect_right(life);
}

// A file system that has no descriptors left for tables.
class NoDescriptors : public rocksdb::FileSystemWrapper {
 public:
  NoDescriptors() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}
  const char* Name() const override { return "NoDescriptors"; }

  rocksdb::IOStatus NewSequentialFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSSequentialFile>* file,
                                      rocksdb::IODebugContext* dbg) override {
    if (none) return rocksdb::IOStatus::IOError(name, std::strerror(EMFILE));
    return FileSystemWrapper::NewSequentialFile(name, options, file, dbg);
  }

  bool none = false;
};

TEST_F(Stored, AStoreThatCannotBeOpenedNowIsNotTakenForADamagedOne) {
  const auto files = std::make_shared<NoDescriptors>();
  const auto env = rocksdb::NewCompositeEnv(files);
  {
    Life life(log, directory(), clock, 8192, env.get());
    sell(life, 3);
    life.settle();
  }
  files->none = true;
  {
    Life life(log, directory(), clock, 8192, env.get());
    life.settle();
    EXPECT_EQ(life.status(StoredProjection::orders).state, ProjectionStatus::State::unavailable);
    files->none = false;
    for (int i = 0; i < 10; ++i) life.settle();
    expect_at_head(life);
    expect_right(life);
  }
  EXPECT_FALSE(std::filesystem::exists(directory().string() + ".damaged-1"));
}

TEST_F(Stored, DamageThatAReadFindsIsHealedAsWell) {
  Life life(log, directory(), clock);
  sell(life, 3);
  life.settle();
  life.projector.suspect({Fault::damaged, "a read says so"});
  life.projector.suspect({Fault::damaged, "and another"});
  EXPECT_EQ(life.said.size(), 1u);
  sell(life, 1, 30);
  life.settle();
  EXPECT_TRUE(std::filesystem::exists(dir / "projections.damaged-1"));
  expect_at_head(life);
  expect_right(life);
}

TEST_F(Stored, ANewerStoreIsRefusedAndLeftAlone) {
  rocksdb::DB* db = nullptr;
  rocksdb::Options options;
  options.create_if_missing = true;
  ASSERT_TRUE(rocksdb::DB::Open(options, directory().string(), &db).ok());
  db->Put({}, "V", "fairsale projections 2");
  delete db;
  Life life(log, directory(), clock);
  sell(life, 2);
  life.settle();
  EXPECT_EQ(life.projector.store(), nullptr);
  EXPECT_EQ(life.status(StoredProjection::orders).state, ProjectionStatus::State::unavailable);
  ASSERT_FALSE(life.said.empty());
  EXPECT_NE(life.said[0].find("newer fairsale"), std::string::npos) << life.said[0];
  EXPECT_NE(life.said[0].find("delete the directory"), std::string::npos);
  EXPECT_EQ(life.projector.rebuild(StoredProjection::orders, false), GenerationChange::unavailable);
}

TEST_F(Stored, RowsOfALogThatIsGoneAreForgotten) {
  {
    Life life(log, directory(), clock);
    sell(life, 5);
    life.settle();
  }
  // A log that begins anew, and one that ends earlier, as a backup does.
  MemoryLog other;
  {
    Life life(other, directory(), clock);
    life.settle();
    EXPECT_EQ(stored(*life.projector.store(), life.current(StoredProjection::orders), kDemo),
              Rows{});
    sell(life, 4, 10);
    life.settle();
    expect_at_head(life);
    expect_right(life);
  }
  MemoryLog backup;
  {
    Life elsewhere(backup, dir / "elsewhere", clock);
    sell(elsewhere, 2, 20);
  }
  Life life(backup, directory(), clock);
  life.settle();
  expect_at_head(life);
  expect_right(life);
}

TEST_F(Stored, WhatWasReadFromTheLogIsNotStoredAgain) {
  {
    Life life(log, directory(), clock);
    sell(life, 1);
  }
  Life life(log, directory(), clock);
  // In the log, and not yet handed over, while the SKU is read from there.
  for (int i = 0; i < 3; ++i) {
    life.submit("demo", attempt(10 + i));
    life.turn(false);
    life.submit("demo", payment(life.answers.last.purchase));
    life.turn(false);
  }
  life.settle();
  expect_at_head(life);
  life.now("demo", OrderRefunded{.purchase = life.answers.last.purchase, .restock = true});
  life.settle();
  expect_at_head(life);
  expect_right(life);
}

TEST_F(Stored, TheThreadDoesTheSame) {
  Life life(log, directory(), clock);
  life.projector.start();
  sell(life, 50);
  ASSERT_EQ(life.projector.rebuild(StoredProjection::orders, false), GenerationChange::done);
  sell(life, 50, 100);
  life.projector.stop();  // stores what is in the queues
  const auto store = life.projector.store();
  for (const StoredProjection p : {StoredProjection::availability, StoredProjection::timeline}) {
    EXPECT_EQ(*store->position(p, kDemo), life.sequencer.find(kDemo)->seq());
  }
  expect_right(life);
}

// The law: whatever happens, and however it is cut into turns, hand-overs, pieces and lives, a
// generation has the rows of log[1..n] for the n that it claims; and in the end n is the head.
TEST_F(Stored, ContentIsAFunctionOfTheLog) {
  EXPECT_TRUE(rc::check([] {
    const History history = *any_history();
    const std::vector<Arrival> arrivals = arrivals_of(history);
    TempDir temporary;
    const auto at = projections_directory(temporary.path());
    const std::unique_ptr<rocksdb::Env> memory(rocksdb::NewMemEnv(rocksdb::Env::Default()));
    MemoryLog events;
    ManualClock time{Timestamp{0}};
    auto life = std::make_unique<Life>(events, at, time, 1 + *rc::gen::inRange(0, 8), memory.get());
    std::map<StoredProjection, Seq> seen;
    bool queued = false;
    for (const Arrival& a : arrivals) {
      const std::int64_t ahead = a.at.value - time.now().wall.value;
      time.advance(Duration{std::max<std::int64_t>(0, ahead)});
      if (!well_formed(a.event)) continue;  // the API refuses it
      const auto* scheduled = std::get_if<SaleScheduled>(&a.event);
      if (scheduled != nullptr && sku_id(scheduled->sku.view()) != kDemo) continue;  // elsewhere
      if (life->sequencer.submit(kDemo, a.event, {}) != Admission::accepted) continue;
      queued = true;
      switch (*rc::gen::inRange(0, 12)) {
        case 0:  // more comes in the same turn
          continue;
        case 1:
          life->turn(false);  // the hand-over of two turns at once
          break;
        case 2: {  // what is handed over is lost
          life->turn();
          std::vector<Stretch> lost;
          life->projector.queue(0).take(lost);
          break;
        }
        case 3: {
          life->turn();
          (void)life->projector.rebuild(*rc::gen::elementOf(std::vector<StoredProjection>(
                                            kStoredProjections.begin(), kStoredProjections.end())),
                                        false);
          break;
        }
        case 4: {  // kill -9
          life->turn(*rc::gen::arbitrary<bool>());
          life.reset();
          seen.clear();
          life =
              std::make_unique<Life>(events, at, time, 1 + *rc::gen::inRange(0, 8), memory.get());
          break;
        }
        case 5: {
          life->turn();
          if (const Sale* sale = life->sequencer.find(kDemo)) {
            (void)events.put_snapshot(kDemo, *life->sequencer.head(kDemo), *sale);
          }
          break;
        }
        default: life->turn();
      }
      queued = false;
      for (int i = *rc::gen::inRange(0, 4); i > 0; --i) life->projector.work();
      const auto store = life->projector.store();
      for (const StoredProjection p : kStoredProjections) {
        const GenerationId g = life->current(p);
        const Coverage c = *store->coverage(g, kDemo);
        RC_ASSERT(c.position >= seen[p]);
        seen[p] = c.position;
        const Rows want = expected(events, kDemo, p, c.position);
        RC_ASSERT(stored(*store, g, kDemo) == want);
        RC_ASSERT(c.rows == want.size());
        RC_ASSERT(c.digest == digest_of(p, kDemo, want));
      }
    }
    if (queued) life->turn();
    life->follower.hand_over();
    // A loss that nothing followed is found when the next life looks.
    life.reset();
    life = std::make_unique<Life>(events, at, time, 8192, memory.get());
    life->settle();
    const auto heads = events.heads();
    const auto store = life->projector.store();
    for (const StoredProjection p : kStoredProjections) {
      const auto status = life->status(p);
      RC_ASSERT(status.state == ProjectionStatus::State::live);
      RC_ASSERT(!status.mismatch);
      RC_ASSERT(status.lag == 0u);
      if (heads->empty()) continue;
      RC_ASSERT(*store->position(p, kDemo) == heads->front().head.seq);
      RC_ASSERT(stored(*store, life->current(p), kDemo) ==
                expected(events, kDemo, p, heads->front().head.seq));
    }
    RC_ASSERT(differences(events, *store, kDemo).empty());
  }));
}

}  // namespace
}  // namespace fairsale::test
