// What a store does about damage: a write that a crash cut off goes away by itself, a lost promise
// is refused.
#include <fmt/format.h>
#include <rocksdb/db.h>

#include <array>
#include <cstring>

#include "core/log/acked.hpp"
#include "core/log/block_format.hpp"
#include "core/log/head_record.hpp"
#include "tests/log/support.hpp"

namespace fairsale::testing {
namespace {

namespace fs = std::filesystem;

// A closed store whose five commits are in its write-ahead log, and ACKED as it was before the
// last of them.
struct Recovery : ::testing::Test {
  explicit Recovery(unsigned last_events = 3) {
    {
      const auto log = open_log(data);
      for (int i = 0; i < 4; ++i) commit(*log, {chain.block(3)});
      log->settle();
      size_before_last = wal_bytes();
      acked_before_last = read_file(data / "ACKED");
      commit(*log, {chain.block(last_events)});
    }
    wal = log_files(data, ".log").back();
  }

  std::string fmt_sku() const { return fmt::format("SKU {:016x}", chain.sku().value); }

  // Up to the zeros that an open log keeps ahead.
  std::size_t wal_bytes() const { return content_of(log_files(data, ".log").back()); }

  static std::size_t content_of(const fs::path& file) {
    const Bytes bytes = read_file(file);
    const auto last =
        std::find_if(bytes.rbegin(), bytes.rend(), [](std::byte b) { return b != std::byte{0}; });
    return static_cast<std::size_t>(bytes.rend() - last);
  }

  // As if the last commit had been under way when the power failed.
  void forget_the_last_acknowledgement() { write_file(data / "ACKED", acked_before_last); }

  // Opens, expects one note that says what was cut off, and this many blocks.
  void expect_cut(std::size_t blocks) {
    const std::size_t before = fs::file_size(wal);
    const std::size_t torn = content_of(wal) - size_before_last;
    RecoveryReport report;
    {
      const auto reader = open_rocks_log({data, OpenMode::read_only}, report);
      ASSERT_TRUE(reader) << reader.error().message;
      ASSERT_EQ(report.notes.size(), 1U);
      EXPECT_NE(report.notes[0].find("is left out"), std::string::npos) << report.notes[0];
      EXPECT_EQ(read_all(**reader, chain.sku()).size(), blocks);
      EXPECT_EQ(fs::file_size(wal), before);
    }
    const auto log = open_log(data, &report);
    ASSERT_TRUE(log);
    ASSERT_EQ(report.notes.size(), 1U);
    EXPECT_NE(report.notes[0].find("never acknowledged"), std::string::npos) << report.notes[0];
    const auto found = read_all(*log, chain.sku());
    ASSERT_EQ(found.size(), blocks);
    for (std::size_t i = 0; i < blocks; ++i) EXPECT_EQ(found[i], *chain.blocks()[i]);
    std::size_t kept = 0;
    for (const auto& e : fs::directory_iterator(data)) {
      if (e.path().extension() == ".bin") kept += e.file_size();
    }
    EXPECT_EQ(kept, torn) << "of " << before - size_before_last;
  }

  // Expects a refusal that changes nothing and names these things.
  void expect_refused(std::initializer_list<std::string_view> names) {
    const Bytes before = fs::exists(wal) ? read_file(wal) : Bytes();
    for (const OpenMode mode :
         {OpenMode::read_only, OpenMode::read_write, OpenMode::read_write, OpenMode::read_only}) {
      const Error e = refusal(data, mode);
      EXPECT_EQ(e.fault, Fault::damaged);
      for (const std::string_view name : names) {
        EXPECT_NE(e.message.find(name), std::string::npos) << name << " in: " << e.message;
      }
      EXPECT_NE(e.message.find("Keep a copy"), std::string::npos) << e.message;
    }
    if (!before.empty()) {
      EXPECT_EQ(read_file(wal), before);
    }
  }

  TempDir dir;
  fs::path data = dir / "data";
  Chain chain{"sneaker-1"};
  std::size_t size_before_last = 0;
  Bytes acked_before_last;
  fs::path wal;
};

// The last commit spans several of RocksDB's 32 KiB blocks.
struct LargeRecovery : Recovery {
  LargeRecovery() : Recovery(4000) {}
};

TEST_F(Recovery, an_unacknowledged_commit_that_is_whole_is_kept) {
  forget_the_last_acknowledgement();
  RecoveryReport report;
  const auto log = open_log(data, &report);
  EXPECT_TRUE(report.notes.empty());
  EXPECT_EQ(read_all(*log, chain.sku()).size(), 5U);
}

TEST_F(Recovery, a_torn_unacknowledged_tail_is_cut_off_wherever_it_was_torn) {
  forget_the_last_acknowledgement();
  const fs::path torn = dir / "torn";
  const fs::path original = data;
  const std::size_t size = fs::file_size(wal);
  for (std::size_t end = size_before_last + 1; end < size;
       end += end < size_before_last + 24 ? 1 : 29) {
    copy_tree(original, torn);
    data = torn;
    wal = log_files(torn, ".log").back();
    truncate_file(wal, end);
    expect_cut(4);
    fs::remove_all(torn);
  }
}

TEST_F(Recovery, an_unacknowledged_tail_with_a_wrong_checksum_is_cut_off) {
  forget_the_last_acknowledgement();
  flip_bit(wal, size_before_last + 100);
  expect_cut(4);
}

// As a process that was killed leaves it: the zeros ahead of the end are still there.
TEST_F(Recovery, zeros_behind_the_last_commit_are_its_end) {
  Bytes bytes = read_file(wal);
  bytes.resize(bytes.size() + 70'000);
  write_file(wal, bytes);
  RecoveryReport report;
  {
    const auto reader = open_rocks_log({data, OpenMode::read_only}, report);
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ(read_all(**reader, chain.sku()).size(), 5U);
  }
  const auto log = open_log(data, &report);
  EXPECT_TRUE(report.notes.empty());
  EXPECT_EQ(read_all(*log, chain.sku()).size(), 5U);
}

TEST_F(LargeRecovery, a_commit_of_which_only_zeros_came_is_as_if_it_had_never_begun) {
  forget_the_last_acknowledgement();
  Bytes bytes = read_file(wal);
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size_before_last), bytes.end(),
            std::byte{0});
  write_file(wal, bytes);
  RecoveryReport report;
  const auto log = open_log(data, &report);
  ASSERT_TRUE(log);
  EXPECT_TRUE(report.notes.empty());
  EXPECT_EQ(read_all(*log, chain.sku()).size(), 4U);
}

TEST_F(LargeRecovery, a_commit_of_which_only_zeros_came_is_missed_when_it_was_acknowledged) {
  Bytes bytes = read_file(wal);
  std::fill(bytes.begin() + static_cast<std::ptrdiff_t>(size_before_last), bytes.end(),
            std::byte{0});
  write_file(wal, bytes);
  expect_refused({"acknowledged", fmt_sku(), "position 4012"});
}

TEST_F(Recovery, junk_behind_the_last_commit_is_cut_off) {
  size_before_last = fs::file_size(wal);
  Bytes bytes = read_file(wal);
  std::uint32_t random = 1;
  for (int i = 0; i < 70'000; ++i) {
    random = random * 1664525 + 1013904223;
    bytes.push_back(static_cast<std::byte>(random >> 24));
  }
  write_file(wal, bytes);
  expect_cut(5);
}

// As where the file system gives back what an older file held.
TEST_F(Recovery, an_older_commit_behind_the_last_one_proves_nothing) {
  size_before_last = fs::file_size(wal);
  Bytes bytes = read_file(wal);
  const Bytes older(bytes.begin(), bytes.begin() + bytes.size() / 2);
  bytes.push_back(std::byte{1});
  bytes.insert(bytes.end(), older.begin(), older.end());
  write_file(wal, bytes);
  expect_cut(5);
}

TEST(RecoveryOfANewStore, needs_no_note_and_cuts_off_a_torn_first_commit) {
  TempDir dir;
  const fs::path data = dir / "data";
  open_log(data).reset();
  RecoveryReport report;
  open_log(data, &report).reset();
  EXPECT_TRUE(report.notes.empty());
  const Bytes acked = read_file(data / "ACKED");
  Chain chain("a");
  commit(*open_log(data), {chain.block()});
  const fs::path wal = log_files(data, ".log").back();
  truncate_file(wal, fs::file_size(wal) - 1);
  EXPECT_EQ(refusal(data).fault, Fault::damaged);
  write_file(data / "ACKED", acked);
  const auto log = open_log(data, &report);
  ASSERT_TRUE(log);
  EXPECT_EQ(report.notes.size(), 1U);
  EXPECT_TRUE(read_all(*log, chain.sku()).empty());
  Chain again("a");
  commit(*log, {again.block()});
}

TEST_F(Recovery, goes_on_after_a_cut) {
  forget_the_last_acknowledgement();
  truncate_file(wal, fs::file_size(wal) - 1);
  expect_cut(4);
  Chain again("sneaker-1");
  for (int i = 0; i < 4; ++i) again.block(3);
  {
    const auto log = open_log(data);
    commit(*log, {again.block(7)});
  }
  const auto log = open_log(data);
  EXPECT_EQ(read_all(*log, again.sku()).size(), 5U);
}

// A power failure writes pages in any order: later parts of a torn commit may be there.
TEST_F(LargeRecovery, a_commit_with_a_hole_that_was_not_acknowledged_is_cut_off) {
  forget_the_last_acknowledgement();
  Bytes bytes = read_file(wal);
  ASSERT_GT(bytes.size(), 150'000U);
  std::memset(bytes.data() + 40'960, 0, 4096);
  write_file(wal, bytes);
  expect_cut(4);
}

TEST_F(LargeRecovery, a_commit_with_a_hole_that_was_acknowledged_is_refused) {
  Bytes bytes = read_file(wal);
  std::memset(bytes.data() + 40'960, 0, 4096);
  write_file(wal, bytes);
  expect_refused({fmt_sku()});
}

TEST_F(Recovery, a_flipped_bit_in_the_last_acknowledged_commit_is_refused) {
  flip_bit(wal, size_before_last + 100);
  expect_refused(
      {wal.string(), "offset " + std::to_string(size_before_last), fmt_sku(), "position 15"});
}

TEST_F(Recovery, a_flipped_bit_before_the_end_is_refused_even_without_acked) {
  for (const bool acked : {true, false}) {
    if (!acked) fs::remove(data / "ACKED");
    for (std::size_t at = 3; at < size_before_last; at += 97) {
      flip_bit(wal, at, 5);
      expect_refused({wal.string(), "committed later follows"});
      flip_bit(wal, at, 5);
    }
  }
  EXPECT_EQ(read_all(*open_log(data), chain.sku()).size(), 5U);
}

TEST_F(Recovery, a_torn_end_of_a_file_that_is_not_the_last_is_refused) {
  // A later file was begun when this one was durable, even if nothing in it is legible.
  forget_the_last_acknowledgement();
  truncate_file(wal, fs::file_size(wal) - 1);
  const std::array<std::byte, 5> illegible{std::byte{1}};
  write_file(data / "log/999999.log", illegible);
  expect_refused({wal.string()});
  truncate_file(data / "log/999999.log", 0);
  expect_cut(4);
}

TEST_F(Recovery, a_log_that_ends_before_what_was_acknowledged_is_refused) {
  truncate_file(wal, size_before_last);
  expect_refused({"acknowledged", fmt_sku(), "position 15"});
  truncate_file(wal, 0);
  expect_refused({"acknowledged", "position 15"});
  fs::remove(wal);
  expect_refused({"acknowledged", "position 15"});
}

TEST_F(Recovery, a_log_whose_database_is_gone_is_refused) {
  fs::rename(data / "log", dir / "elsewhere");
  expect_refused({"is missing", "position 15"});
}

TEST_F(Recovery, a_commit_taken_out_of_the_middle_is_refused) {
  // The sizes of the commits tell where the second ends: they are all alike but the first.
  const Bytes bytes = read_file(wal);
  const std::size_t one = fs::file_size(wal) - size_before_last;
  Bytes spliced(bytes.begin(), bytes.end() - static_cast<std::ptrdiff_t>(2 * one));
  spliced.insert(spliced.end(), bytes.end() - static_cast<std::ptrdiff_t>(one), bytes.end());
  write_file(wal, spliced);
  expect_refused({"commits are missing"});
}

TEST_F(Recovery, a_deleted_acked_file_is_noted_and_written_anew) {
  fs::remove(data / "ACKED");
  RecoveryReport report;
  open_log(data, &report).reset();
  ASSERT_EQ(report.notes.size(), 1U);
  EXPECT_NE(report.notes[0].find("ACKED"), std::string::npos);
  std::optional<Acked> acked;
  ASSERT_TRUE(AckedFile::open(data / "ACKED", acked));
  ASSERT_TRUE(acked);
  ASSERT_EQ(acked->heads.size(), 1U);
  EXPECT_EQ(acked->heads[0].seq, chain.head().seq);
  EXPECT_EQ(acked->heads[0].digest, chain.head().digest);
}

TEST_F(Recovery, a_torn_tail_without_acked_is_refused) {
  fs::remove(data / "ACKED");
  truncate_file(wal, fs::file_size(wal) - 1);
  expect_refused({"ACKED"});
}

TEST_F(Recovery, one_damaged_record_of_acked_leaves_the_other) {
  std::optional<Acked> newest;
  ASSERT_TRUE(AckedFile::open(data / "ACKED", newest));
  for (const std::size_t slot : {0U, 4096U}) {
    Bytes bytes = read_file(data / "ACKED");
    bytes[slot + 30] ^= std::byte{1};
    write_file(data / "ACKED", bytes);
    std::optional<Acked> acked;
    ASSERT_TRUE(AckedFile::open(data / "ACKED", acked));
    ASSERT_TRUE(acked);
    EXPECT_GE(acked->sequence + 2, newest->sequence);
    bytes[slot + 30] ^= std::byte{1};
    write_file(data / "ACKED", bytes);
  }
}

TEST_F(Recovery, acked_with_another_digest_is_refused) {
  // Another history of the same length under the same sequence numbers.
  const fs::path other = dir / "other";
  {
    const auto log = open_log(other);
    Chain forged("sneaker-1");
    for (const unsigned events : {3U, 3U, 4U, 2U, 3U}) commit(*log, {forged.block(events)});
  }
  fs::copy_file(other / "ACKED", data / "ACKED", fs::copy_options::overwrite_existing);
  const Error e = refusal(data);
  EXPECT_EQ(e.fault, Fault::damaged);
  EXPECT_NE(e.message.find("sneaker-1"), std::string::npos) << e.message;
}

// RocksDB removes log files that it no longer needs newest first: a crash in between leaves an old
// one without its successor.
TEST_F(Recovery, an_obsolete_log_file_that_was_left_behind_is_passed_over) {
  const Bytes oldest = read_file(wal);
  for (int i = 0; i < 2; ++i) {
    // Opening moves what was in the log file to tables, and begins another.
    const auto log = open_log(data);
    commit(*log, {chain.block(3)});
  }
  ASSERT_FALSE(fs::exists(wal));
  write_file(wal, oldest);
  RecoveryReport report;
  {
    const auto reader = open_rocks_log({data, OpenMode::read_only}, report);
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ(read_all(**reader, chain.sku()).size(), 7U);
  }
  const auto writer = open_log(data, &report);
  ASSERT_TRUE(writer);
  EXPECT_TRUE(report.notes.empty());
  EXPECT_EQ(read_all(*writer, chain.sku()).size(), 7U);
  write_file(wal, oldest);
  const auto beside = open_rocks_log({data, OpenMode::read_only}, report);
  ASSERT_TRUE(beside) << beside.error().message;
  EXPECT_EQ(read_all(**beside, chain.sku()).size(), 7U);
}

// What a failed sync left of it is in tables meanwhile (faults_test, Failures.OfCalls*, seed
// 20261127, run 10 of the soak).
TEST_F(Recovery, a_torn_obsolete_log_file_is_passed_over) {
  Bytes torn = read_file(wal);
  torn[100] ^= std::byte{1};
  {
    const auto log = open_log(data);
    commit(*log, {chain.block(3)});
  }
  write_file(wal, torn);
  RecoveryReport report;
  {
    const auto reader = open_rocks_log({data, OpenMode::read_only}, report);
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ(read_all(**reader, chain.sku()).size(), 6U);
  }
  EXPECT_EQ(read_all(*open_log(data, &report), chain.sku()).size(), 6U);
  EXPECT_TRUE(report.notes.empty());
}

TEST_F(Recovery, damage_is_named_to_a_reader_beside_a_writer_too) {
  const auto writer = open_log(data);
  for (int i = 0; i < 3; ++i) commit(*writer, {chain.block(3)});
  wal = log_files(data, ".log").back();
  flip_bit(wal, 100);
  const Error e = refusal(data, OpenMode::read_only);
  EXPECT_EQ(e.fault, Fault::damaged);
  EXPECT_NE(e.message.find(wal.string()), std::string::npos) << e.message;
  EXPECT_NE(e.message.find("committed later follows (" + fmt_sku()), std::string::npos)
      << e.message;
  flip_bit(wal, 100);
  // The end is the writer's: what it may be about to write is nobody's loss.
  Bytes bytes = read_file(wal);
  const Bytes whole = bytes;
  const std::size_t end = wal_bytes();
  bytes.resize(bytes.size() + 50);
  write_file(wal, bytes);
  RecoveryReport report;
  const auto reader = open_rocks_log({data, OpenMode::read_only}, report);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_EQ(read_all(**reader, chain.sku()).size(), 8U);
  // But not what it has acknowledged.
  write_file(wal, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(end - 1)));
  EXPECT_EQ(refusal(data, OpenMode::read_only).fault, Fault::damaged);
}

// Beyond the write-ahead log: what sits in tables.

void edit_database(const fs::path& data,
                   const std::function<void(rocksdb::DB&, rocksdb::ColumnFamilyHandle& blocks,
                                            rocksdb::ColumnFamilyHandle& heads)>& edit) {
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::DB* db = nullptr;
  const auto s =
      rocksdb::DB::Open(rocksdb::DBOptions(), (data / "log").string(),
                        {{rocksdb::kDefaultColumnFamilyName, {}}, {"heads", {}}}, &handles, &db);
  ASSERT_TRUE(s.ok()) << s.ToString();
  edit(*db, *handles[0], *handles[1]);
  for (auto* h : handles) db->DestroyColumnFamilyHandle(h);
  delete db;
}

std::string key_of(SkuId sku, std::uint64_t first) {
  const Key k = block_key(sku, Seq{first});
  return {k.data(), k.size()};
}

// Three large blocks of each of two SKUs.
struct Tables : ::testing::Test {
  Tables() {
    const auto log = open_log(data);
    for (int i = 0; i < 3; ++i) commit(*log, {a.block(1000), b.block(1000)});
  }

  Error read_error(const Chain& chain) {
    const auto log = open_log(data);
    Error e;
    if (log) read_all(*log, chain.sku(), Seq{1}, &e);
    return e;
  }

  TempDir dir;
  fs::path data = dir / "data";
  Chain a{"boot-1"};
  Chain b{"sneaker-1"};
};

TEST_F(Tables, a_flipped_bit_in_a_table_is_found_and_named) {
  open_log(data).reset();  // the recovery writes the tables
  fs::path largest;
  for (const fs::path& f : log_files(data, ".sst")) {
    if (largest.empty() || fs::file_size(f) > fs::file_size(largest)) largest = f;
  }
  ASSERT_FALSE(largest.empty());
  // Blocks are ordered by SKU id; the second and the fifth of six are in the middle.
  const bool a_first = a.sku() < b.sku();
  const Bytes whole = read_file(largest);
  for (const auto& [offset, chain] : {std::pair(whole.size() / 4, a_first ? &a : &b),
                                      std::pair(whole.size() * 3 / 4, a_first ? &b : &a)}) {
    flip_bit(largest, offset);
    const Error e = read_error(*chain);
    EXPECT_EQ(e.fault, Fault::damaged);
    EXPECT_NE(e.message.find(chain == &a ? "boot-1" : "sneaker-1"), std::string::npos) << e.message;
    EXPECT_NE(e.message.find("position"), std::string::npos) << e.message;
    EXPECT_EQ(read_error(chain == &a ? b : a).message, "");
    write_file(largest, whole);
  }
}

TEST_F(Tables, a_missing_block_is_found_and_named) {
  edit_database(
      data, [&](auto& db, auto& blocks, auto&) { db.Delete({}, &blocks, key_of(a.sku(), 1001)); });
  const Error e = read_error(a);
  EXPECT_EQ(e.fault, Fault::damaged);
  EXPECT_NE(e.message.find("boot-1"), std::string::npos) << e.message;
  EXPECT_NE(e.message.find("position 1001"), std::string::npos) << e.message;
  EXPECT_EQ(read_error(b).message, "");
  // Reading from behind the gap needs the block before it.
  const auto log = open_log(data);
  Error behind;
  read_all(*log, a.sku(), Seq{2500}, &behind);
  EXPECT_EQ(behind.fault, Fault::damaged);
}

TEST_F(Tables, a_block_under_another_key_is_found) {
  edit_database(data, [&](auto& db, auto& blocks, auto&) {
    std::string value;
    db.Get({}, &blocks, key_of(b.sku(), 1001), &value);
    db.Put({}, &blocks, key_of(a.sku(), 1001), value);
  });
  const Error e = read_error(a);
  EXPECT_EQ(e.fault, Fault::damaged);
  EXPECT_NE(e.message.find("under this key"), std::string::npos) << e.message;
}

TEST_F(Tables, a_forged_block_breaks_the_chain) {
  // Well sealed, at the right position, but another history.
  Chain forged("boot-1");
  forged.block(1000);
  BlockBuilder builder;
  Head head = forged.head();
  builder.begin(forged.sku(), head, Timestamp{1'700'000'000'001}, Epoch{1});
  for (unsigned i = 0; i < 1000; ++i) builder.add(attempt(90'000 + i));
  edit_database(data, [&](auto& db, auto& blocks, auto&) {
    const auto bytes = builder.finish(head);
    db.Put({}, &blocks, key_of(a.sku(), 1001),
           {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  });
  const Error e = read_error(a);
  EXPECT_EQ(e.fault, Fault::damaged);
  EXPECT_NE(e.message.find("boot-1"), std::string::npos) << e.message;
}

TEST_F(Tables, heads_and_blocks_that_differ_are_refused_on_opening) {
  const fs::path original = data;
  const auto refused = [&](std::string_view words, const auto& edit) {
    data = dir / "edited";
    copy_tree(original, data);
    fs::remove(data / "ACKED");
    edit_database(data, edit);
    const Error e = refusal(data);
    EXPECT_EQ(e.fault, Fault::damaged);
    EXPECT_NE(e.message.find(words), std::string::npos) << e.message;
    EXPECT_NE(e.message.find("boot-1"), std::string::npos) << e.message;
    fs::remove_all(data);
  };
  refused("at position 2001, is missing",
          [&](auto& db, auto& blocks, auto&) { db.Delete({}, &blocks, key_of(a.sku(), 2001)); });
  refused("no head", [&](auto& db, auto&, auto& heads) {
    const HeadKey k = head_key(a.sku());
    db.Delete({}, &heads, {k.data(), k.size()});
  });
  refused("head is damaged", [&](auto& db, auto&, auto& heads) {
    const HeadKey k = head_key(a.sku());
    const HeadBytes bytes = encode_head(b.sku(), {a.head(), Seq{2001}});
    db.Put({}, &heads, {k.data(), k.size()},
           {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  });
  refused("does not match the head", [&](auto& db, auto&, auto& heads) {
    const HeadKey k = head_key(a.sku());
    Head head = a.head();
    head.digest.bytes[0] ^= std::byte{1};
    const HeadBytes bytes = encode_head(a.sku(), {head, Seq{2001}});
    db.Put({}, &heads, {k.data(), k.size()},
           {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  });
  refused("position 3001 lies behind", [&](auto& db, auto& blocks, auto&) {
    std::string value;
    db.Get({}, &blocks, key_of(a.sku(), 2001), &value);
    db.Put({}, &blocks, key_of(a.sku(), 3001), value);
  });
}

TEST_F(Tables, a_torn_first_commit_after_the_tables_is_cut_off) {
  Bytes acked;
  {
    const auto log = open_log(data);  // everything so far goes to tables
    acked = read_file(data / "ACKED");
    commit(*log, {a.block(5)});
  }
  const fs::path wal = log_files(data, ".log").back();
  truncate_file(wal, fs::file_size(wal) - 3);
  EXPECT_EQ(refusal(data).fault, Fault::damaged);
  write_file(data / "ACKED", acked);
  RecoveryReport report;
  const auto log = open_log(data, &report);
  ASSERT_TRUE(log);
  EXPECT_EQ(report.notes.size(), 1U);
  EXPECT_EQ(read_all(*log, a.sku()).size(), 3U);
}

}  // namespace
}  // namespace fairsale::testing
