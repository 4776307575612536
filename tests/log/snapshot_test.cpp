// Snapshots save time and may never cost more than that.
#include <algorithm>
#include <set>

#include "core/log/snapshot_files.hpp"
#include "tests/log/support.hpp"

namespace fairsale::testing {
namespace {

namespace fs = std::filesystem;

struct Snapshots : ::testing::Test {
  Snapshots() : log(open_log(dir / "data")) {
    for (int i = 0; i < 3; ++i) {
      commit(*log, {chain.block(40)});
      heads.push_back(chain.head());
      digests.push_back(state_digest(fold(chain)));
      const auto ok = log->put_snapshot(chain.sku(), chain.head(), fold(chain));
      EXPECT_TRUE(ok) << ok.error().message;
    }
  }

  std::optional<Head> newest(Seq at_most = Seq{1000}) {
    const auto s = log->snapshot(chain.sku(), at_most);
    EXPECT_TRUE(s);
    if (!*s) return std::nullopt;
    EXPECT_EQ((*s)->state, state_digest((*s)->sale));
    EXPECT_EQ((*s)->sale.seq(), (*s)->head.seq);
    return (*s)->head;
  }

  std::vector<fs::path> files() {
    std::vector<fs::path> files;
    for (const auto& e : fs::recursive_directory_iterator(dir / "data/snapshots")) {
      if (e.is_regular_file()) files.push_back(e.path());
    }
    std::sort(files.begin(), files.end());
    return files;
  }

  TempDir dir;
  Chain chain{"a"};
  std::unique_ptr<EventLog> log;
  std::vector<Head> heads;
  std::vector<Digest> digests;
};

TEST_F(Snapshots, the_newest_at_or_before_a_position_is_given) {
  EXPECT_EQ(newest(), heads[2]);
  EXPECT_EQ(newest(heads[2].seq), heads[2]);
  EXPECT_EQ(newest(Seq{heads[2].seq.value - 1}), heads[1]);
  EXPECT_EQ(newest(Seq{heads[1].seq.value - 1}), std::nullopt);  // two are kept
  EXPECT_EQ((*log->snapshot(chain.sku(), Seq{1000}))->state, digests[2]);
  EXPECT_EQ(files().size(), 2U);
  EXPECT_FALSE(*log->snapshot(sku_id("nobody"), Seq{1000}));
}

TEST_F(Snapshots, survive_a_restart_and_are_seen_by_a_second_reader) {
  RecoveryReport report;
  auto reader = open_rocks_log({.directory = dir / "data", .mode = OpenMode::read_only}, report);
  ASSERT_TRUE(reader);
  EXPECT_EQ((*(*reader)->snapshot(chain.sku(), Seq{1000}))->head, heads[2]);
  log.reset();
  log = open_log(dir / "data");
  EXPECT_EQ(newest(), heads[2]);
}

TEST_F(Snapshots, when_damaged_the_older_one_is_given) {
  const fs::path file = files().back();
  const Bytes whole = read_file(file);
  for (std::size_t at = 0; at < whole.size(); at += at < 120 ? 1 : 61) {
    flip_bit(file, at, 3);
    EXPECT_EQ(newest(), heads[1]) << at;
    write_file(file, whole);
  }
  truncate_file(file, whole.size() - 1);
  EXPECT_EQ(newest(), heads[1]);
  Bytes longer = whole;
  longer.push_back(std::byte{0});
  write_file(file, longer);
  EXPECT_EQ(newest(), heads[2]);  // what follows the announced size is not part of it
  write_file(file, {});
  EXPECT_EQ(newest(), heads[1]);
}

TEST_F(Snapshots, can_all_be_deleted) {
  log.reset();
  fs::remove_all(dir / "data/snapshots");
  RecoveryReport report;
  log = open_log(dir / "data", &report);
  EXPECT_TRUE(report.notes.empty());
  EXPECT_EQ(newest(), std::nullopt);
  EXPECT_EQ(read_all(*log, chain.sku()).size(), 3U);
  EXPECT_TRUE(log->put_snapshot(chain.sku(), chain.head(), fold(chain)));
  EXPECT_EQ(newest(), heads[2]);
}

TEST_F(Snapshots, of_a_log_that_was_replaced_are_passed_over) {
  log.reset();
  fs::rename(dir / "data/snapshots", dir / "kept");
  fs::remove_all(dir / "data");
  Chain other("a");
  log = open_log(dir / "data");
  commit(*log, {other.block(1)});
  commit(*log, {other.block(119)});
  fs::rename(dir / "kept", dir / "data/snapshots");
  EXPECT_EQ(newest(), std::nullopt);
}

TEST_F(Snapshots, left_half_written_by_a_crash_are_removed) {
  log.reset();
  const fs::path half = files().back().parent_path() / "7.unfinished";
  write_file(half, {});
  log = open_log(dir / "data");
  EXPECT_FALSE(fs::exists(half));
  EXPECT_EQ(newest(), heads[2]);
}

TEST_F(Snapshots, from_behind_where_a_log_was_shortened_to_are_gone) {
  ASSERT_EQ(files().size(), 2U);
  ASSERT_TRUE(log->shorten(std::vector{SkuHead{chain.sku(), heads[1]}}));
  EXPECT_EQ(files().size(), 1U);
  EXPECT_EQ(newest(), heads[1]);
}

// Old snapshots of long logs stay at positions that are spaced ever wider, whatever the rhythm in
// which they are taken.
TEST(SnapshotFiles, of_a_long_log_stay_for_looks_into_the_past) {
  for (const std::uint64_t least : {100'000U, 500'000U, 3'000'000U}) {
    const TempDir dir;
    SnapshotFiles files(dir.path(), true);
    std::vector<std::uint64_t> taken;
    std::uint64_t last_size = 0;
    for (std::uint64_t at = least; at < 100'000'000; at += std::max(least, at / 8)) {
      taken.push_back(at);
      ASSERT_TRUE(files.put(SkuId{7}, Head{.seq = Seq{at}}, Sale()));

      std::set<std::uint64_t> wanted(taken.end() - std::min<std::ptrdiff_t>(2, std::ssize(taken)),
                                     taken.end());
      for (std::uint64_t octave = 1 << 20; octave <= at; octave *= 2) {
        for (const std::uint64_t mark : {octave, octave + octave / 2}) {
          const auto first = std::lower_bound(taken.begin(), taken.end(), mark);
          const std::uint64_t next = mark == octave ? octave + octave / 2 : octave * 2;
          if (first != taken.end() && *first < next) wanted.insert(*first);
        }
      }
      std::set<std::uint64_t> kept;
      for (const auto& e : fs::recursive_directory_iterator(dir.path())) {
        if (e.is_regular_file()) kept.insert(std::stoull(e.path().filename().string()));
      }
      ASSERT_EQ(kept, wanted) << at;
      std::uint64_t size = 0;  // in proportion to the positions
      for (const std::uint64_t seq : kept) size += seq;
      ASSERT_LE(size, at * 11 / 2) << at;
      last_size = kept.size();
    }
    EXPECT_LE(last_size, 16U);
  }
}

TEST(SnapshotFiles, after_the_newest_position_are_of_another_log_and_go) {
  const TempDir dir;
  SnapshotFiles files(dir.path(), true);
  for (const std::uint64_t at : {2'000'000U, 4'000'000U, 8'000'000U, 3'000'000U}) {
    ASSERT_TRUE(files.put(SkuId{7}, Head{.seq = Seq{at}}, Sale()));
  }
  std::set<std::string> kept;
  for (const auto& e : fs::recursive_directory_iterator(dir.path())) {
    if (e.is_regular_file()) kept.insert(e.path().filename().string());
  }
  EXPECT_EQ(kept, (std::set<std::string>{"00000000000002000000", "00000000000003000000"}));
}

}  // namespace
}  // namespace fairsale::testing
