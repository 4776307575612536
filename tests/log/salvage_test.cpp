// Copies of logs, and what is kept of a store that refuses to open.
#include <fmt/format.h>

#include "core/log/copy_log.hpp"
#include "core/log/memory_log.hpp"
#include "core/log/rocks_database.hpp"
#include "core/log/salvage.hpp"
#include "tests/log/support.hpp"

namespace fairsale::testing {
namespace {

namespace fs = std::filesystem;

std::vector<SkuHead> heads_of(const EventLog& log) { return log.heads().value(); }

Result<CopyReport> copy_all(const EventLog& from, EventLog& to,
                            const std::function<void(std::uint64_t)>& copied = {}) {
  return copy_log(from, to, heads_of(from), copied);
}

TEST(CopyLog, copies_what_is_new_and_nothing_twice) {
  MemoryLog from;
  MemoryLog to;
  Chain a{"boot-1"};
  Chain b{"sneaker-1"};
  commit(from, {a.block(3), b.block(2)});
  commit(from, {a.block(4)});
  std::uint64_t told = 0;
  auto report = copy_all(from, to, [&](std::uint64_t n) { told += n; });
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->skus, 2u);
  EXPECT_EQ(report->blocks, 3u);
  EXPECT_EQ(report->events, 9u);
  EXPECT_EQ(told, 9u);

  commit(from, {b.block(5)});
  report = copy_all(from, to);
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->blocks, 1u);
  EXPECT_EQ(report->events, 5u);
  EXPECT_EQ(copy_all(from, to)->events, 0u);
  for (const Chain* c : {&a, &b}) {
    EXPECT_EQ(read_all(to, c->sku()), read_all(from, c->sku()));
  }
}

TEST(CopyLog, copies_no_further_than_the_heads_it_is_given) {
  MemoryLog from;
  MemoryLog to;
  Chain a{"boot-1"};
  Chain b{"sneaker-1"};
  commit(from, {a.block(3), b.block(2)});
  std::vector<SkuHead> heads = heads_of(from);
  commit(from, {a.block(4)});
  commit(from, {a.block(1), b.block(1)});
  std::erase_if(heads, [&](const SkuHead& h) { return h.sku == b.sku(); });
  const auto report = copy_log(from, to, heads, {});
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(report->events, 3u);
  ASSERT_EQ(heads_of(to).size(), 1u);
  EXPECT_EQ(heads_of(to)[0].head, heads[0].head);
  EXPECT_EQ(copy_log(from, to, heads, {})->events, 0u);

  // A head inside of a block, or of another history, is none that the log leads to.
  for (const bool inside : {true, false}) {
    MemoryLog other;
    std::vector<SkuHead> wrong = heads;
    if (inside) wrong[0].head.seq = Seq{5};
    if (!inside) wrong[0].head.digest.bytes[0] ^= std::byte{1};
    const auto refused = copy_log(from, other, wrong, {});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().fault, Fault::damaged);
  }
}

TEST(CopyLog, refuses_a_target_with_another_history_and_leaves_it_alone) {
  MemoryLog from;
  Chain one{"boot-1"};
  commit(from, {one.block(3)});
  commit(from, {one.block(3)});
  const auto refused = [&](EventLog& to) {
    const auto before = heads_of(to);
    const auto report = copy_all(from, to);
    EXPECT_FALSE(report);
    EXPECT_EQ(report.error().fault, Fault::invalid);
    EXPECT_EQ(heads_of(to).size(), before.size());
    EXPECT_EQ(heads_of(to)[0].head, before[0].head);
    return report.error().message;
  };
  MemoryLog ahead;
  ASSERT_TRUE(copy_all(from, ahead));
  Chain more = std::move(one);
  commit(ahead, {more.block(1)});
  EXPECT_NE(refused(ahead).find("ahead of the source"), std::string::npos);

  MemoryLog other;
  Chain forked{"boot-1"};
  commit(other, {forked.block(4)});
  EXPECT_NE(refused(other).find("no block that ends at position 4"), std::string::npos);

  MemoryLog stranger;
  Chain unknown{"sneaker-1"};
  commit(stranger, {unknown.block(1)});
  EXPECT_NE(refused(stranger).find("which the source does not know"), std::string::npos);
}

// A closed store of two sales with six commits each; the first ones are in tables.
struct Salvaging : ::testing::Test {
  Salvaging() {
    {
      const auto log = open_log(data);
      for (int i = 0; i < 3; ++i) commit(*log, {a.block(200), b.block(200)});
    }
    const auto log = open_log(data);  // the recovery writes the tables
    for (int i = 0; i < 3; ++i) commit(*log, {a.block(200), b.block(200)});
    for (int i = 0; i < 40; ++i) commit(*log, {c.block(200)});
    commit(*log, {a.block(200)});
    log->settle();
  }

  const Salvaged& of(const Chain& chain) const {
    for (const Salvaged& s : report.skus) {
      if (s.sku == chain.sku()) return s;
    }
    ADD_FAILURE() << "the report does not name " << chain.sku().value;
    return report.skus.at(0);
  }

  void run() {
    auto done = salvage(data, to, {});
    ASSERT_TRUE(done) << done.error().message;
    report = std::move(*done);
    // What is kept opens, and is a prefix.
    const auto log = open_log(to);
    ASSERT_TRUE(log);
    for (const Chain* chain : {&a, &b, &c}) {
      const auto kept = read_all(*log, chain->sku());
      ASSERT_LE(kept.size(), chain->blocks().size());
      for (std::size_t i = 0; i < kept.size(); ++i) EXPECT_EQ(kept[i], *chain->blocks()[i]);
      // A sale of which nothing is left is not even known.
      if (!kept.empty()) {
        EXPECT_EQ(of(*chain).kept.seq.value, kept.size() * 200);
      }
    }
    EXPECT_FALSE(fs::exists(to.string() + ".work"));
  }

  fs::path largest_table() const {
    fs::path largest;
    for (const fs::path& f : log_files(data, ".sst")) {
      if (largest.empty() || fs::file_size(f) > fs::file_size(largest)) largest = f;
    }
    return largest;
  }

  TempDir dir;
  fs::path data = dir / "data";
  fs::path to = dir / "repaired";
  Chain a{"boot-1"};
  Chain b{"sneaker-1"};
  Chain c{"tour-1"};  // sold last, alone
  SalvageReport report;
};

TEST_F(Salvaging, a_whole_store_is_kept_whole) {
  run();
  EXPECT_TRUE(report.notes.empty());
  for (const Chain* chain : {&a, &b}) {
    EXPECT_EQ(of(*chain).kept, chain->head());
    EXPECT_EQ(of(*chain).why, "");
  }
  EXPECT_EQ(of(a).name, "boot-1");
}

TEST_F(Salvaging, a_flipped_bit_in_the_write_ahead_log_costs_what_follows_it) {
  const fs::path wal = log_files(data, ".log").back();
  flip_bit(wal, 5000);  // in the first commit of the file
  ASSERT_EQ(refusal(data).fault, Fault::damaged);
  run();
  ASSERT_EQ(report.notes.size(), 1u);
  EXPECT_NE(report.notes[0].find("is damaged at offset"), std::string::npos) << report.notes[0];
  EXPECT_TRUE(report.more_may_be_lost) << "nothing may be left that names a sale";
  for (const Chain* chain : {&a, &b}) {
    EXPECT_GE(of(*chain).kept.seq.value, 600u) << "what is in tables stays";
    EXPECT_LT(of(*chain).kept.seq.value, 1200u);
  }
  EXPECT_EQ(of(a).known, Seq{1400}) << "its last commit is legible and belongs behind what is lost";
  EXPECT_EQ(of(a).acked, Seq{1400});
  EXPECT_NE(of(a).why, "");
  EXPECT_EQ(of(c).kept, c.head()) << "what was committed later of another sale checks out";
  EXPECT_EQ(of(c).why, "");
}

TEST_F(Salvaging, a_flipped_bit_in_a_table_costs_one_sale_its_rest) {
  flip_bit(largest_table(), fs::file_size(largest_table()) / 4);
  run();
  const bool a_first = a.sku() < b.sku();
  const Chain& hit = a_first ? a : b;
  const Chain& other = a_first ? b : a;
  EXPECT_LT(of(hit).kept.seq.value, 600u);
  EXPECT_EQ(of(hit).known, hit.head().seq);
  EXPECT_EQ(of(hit).acked, hit.head().seq);
  EXPECT_FALSE(report.more_may_be_lost) << "every head is on record";
  EXPECT_NE(of(hit).why.find("position"), std::string::npos) << of(hit).why;
  EXPECT_EQ(of(other).kept, other.head());
  EXPECT_EQ(of(other).why, "");
}

TEST_F(Salvaging, without_its_list_of_files_the_store_is_put_together_again) {
  for (const auto& f : fs::directory_iterator(data / "log")) {
    if (f.path().filename().string().starts_with("MANIFEST")) fs::resize_file(f.path(), 10);
  }
  ASSERT_EQ(refusal(data).fault, Fault::damaged);
  run();
  ASSERT_FALSE(report.notes.empty());
  for (const Chain* chain : {&a, &b, &c}) EXPECT_EQ(of(*chain).kept, chain->head());
}

TEST_F(Salvaging, a_lost_tail_is_counted) {
  fs::resize_file(log_files(data, ".log").back(), 0);
  ASSERT_EQ(refusal(data).fault, Fault::damaged);
  run();
  for (const Chain* chain : {&a, &b}) {
    EXPECT_EQ(of(*chain).kept.seq, Seq{600});
  }
  EXPECT_TRUE(report.more_may_be_lost);
  EXPECT_EQ(of(a).known, Seq{1400}) << "ACKED names who sold last";
  EXPECT_EQ(of(a).why, "the blocks behind it are gone");
  ASSERT_FALSE(report.notes.empty());
  EXPECT_NE(report.notes.back().find("that were acknowledged are gone"), std::string::npos)
      << report.notes.back();
}

TEST_F(Salvaging, a_missing_block_costs_what_follows_it) {
  {
    Database db;
    ASSERT_TRUE(Database::open(db, [&](auto* handles, auto* out) {
                  return rocksdb::DB::Open(database_options(nullptr), (data / "log").string(),
                                           families(), handles, out);
                }).ok());
    const Key key = block_key(a.sku(), Seq{401});
    ASSERT_TRUE(db.db->Delete({}, db.blocks, slice(key)).ok());
  }
  run();
  EXPECT_EQ(of(a).kept.seq, Seq{400});
  EXPECT_EQ(of(a).known, a.head().seq);
  EXPECT_NE(of(a).why.find("position 401"), std::string::npos) << of(a).why;
  EXPECT_EQ(of(b).kept, b.head());
}

TEST_F(Salvaging, nothing_is_done_over_what_is_there) {
  fs::create_directory(to);
  EXPECT_EQ(salvage(data, to, {}).error().fault, Fault::invalid);
  fs::remove(to);
  fs::create_directory(dir / "repaired.work");
  EXPECT_EQ(salvage(data, to, {}).error().fault, Fault::invalid);
  EXPECT_TRUE(fs::exists(dir / "repaired.work"));
  EXPECT_EQ(salvage(dir / "nowhere", dir / "x", {}).error().fault, Fault::not_found);
}

}  // namespace
}  // namespace fairsale::testing
