// The store in normal use, and its failures at run time.
#include "core/log/rocks_log.hpp"

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/file_system.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <thread>

#include "tests/log/support.hpp"

namespace fairsale::testing {
namespace {

namespace fs = std::filesystem;

TEST(RocksLog, gives_back_what_was_committed_before_and_after_a_restart) {
  TempDir dir;
  Chain a("a");
  Chain b("b");
  for (int round = 0; round < 3; ++round) {
    RecoveryReport report;
    const auto log = open_log(dir / "data", &report);
    ASSERT_TRUE(log);
    EXPECT_TRUE(report.notes.empty());
    commit(*log, {a.block(3), b.block(2)});
    commit(*log, {a.block(4), a.block(1)});
    const auto blocks = read_all(*log, a.sku());
    ASSERT_EQ(blocks.size(), a.blocks().size());
    for (std::size_t i = 0; i < blocks.size(); ++i) EXPECT_EQ(blocks[i], *a.blocks()[i]);
    EXPECT_EQ(read_all(*log, b.sku()).size(), b.blocks().size());
    const auto heads = log->heads();
    ASSERT_TRUE(heads);
    ASSERT_EQ(heads->size(), 2U);
    EXPECT_LT((*heads)[0].sku, (*heads)[1].sku);
    for (const SkuHead& h : *heads) {
      EXPECT_EQ(h.head, h.sku == a.sku() ? a.head() : b.head());
    }
  }
}

TEST(RocksLog, reads_from_any_position) {
  TempDir dir;
  Chain a("a");
  Chain b("b");
  const auto log = open_log(dir / "data");
  for (unsigned n : {3U, 1U, 5U}) commit(*log, {a.block(n), b.block(2)});
  const std::vector<std::size_t> blocks_from = {3, 3, 3, 3, 2, 1, 1, 1, 1, 1, 0, 0};
  for (std::size_t from = 0; from < blocks_from.size(); ++from) {
    EXPECT_EQ(read_all(*log, a.sku(), Seq{from}).size(), blocks_from[from]) << from;
  }
  EXPECT_TRUE(read_all(*log, sku_id("nobody")).empty());
  int seen = 0;
  EXPECT_TRUE(log->read(a.sku(), Seq{1}, [&seen](const BlockView&) { return ++seen < 2; }));
  EXPECT_EQ(seen, 2);
}

TEST(RocksLog, refuses_blocks_that_do_not_continue_the_log_and_stays_alive) {
  TempDir dir;
  Chain a("a");
  const auto log = open_log(dir / "data");
  const BlockWrite first = a.block();
  const BlockWrite second = a.block();
  const auto early = log->append(std::vector{second});
  ASSERT_FALSE(early);
  EXPECT_EQ(early.error().fault, Fault::invalid);
  commit(*log, {first});
  EXPECT_FALSE(log->append(std::vector{first}));
  EXPECT_FALSE(log->append({}));
  commit(*log, {second});
  EXPECT_EQ(read_all(*log, a.sku()).size(), 2U);
}

TEST(RocksLog, takes_commits_of_different_skus_from_several_threads) {
  TempDir dir;
  constexpr int kThreads = 4;
  constexpr int kCommits = 40;
  std::vector<std::unique_ptr<Chain>> chains;
  for (int i = 0; i < kThreads; ++i) chains.push_back(std::make_unique<Chain>(std::to_string(i)));
  {
    const auto log = open_log(dir / "data");
    std::vector<std::thread> threads;
    for (auto& chain : chains) {
      threads.emplace_back([&log, &chain] {
        for (int i = 0; i < kCommits; ++i) commit(*log, {chain->block(2)});
      });
    }
    for (auto& t : threads) t.join();
    log->settle();
  }
  RecoveryReport report;
  const auto log = open_log(dir / "data", &report);
  EXPECT_TRUE(report.notes.empty());
  for (const auto& chain : chains) {
    EXPECT_EQ(read_all(*log, chain->sku()).size(), std::size_t{kCommits});
  }
}

// A processor of a cluster may have to take back what no other one has.
TEST(RocksLog, is_shortened_to_heads_that_it_had_and_goes_on_from_there) {
  TempDir dir;
  Chain a("a");
  Chain b("b");
  Chain c("c");
  Head a_kept;
  {
    const auto log = open_log(dir / "data");
    commit(*log, {a.block(3), c.block(1)});
    a_kept = a.head();
    commit(*log, {a.block(2), b.block(4)});
    commit(*log, {a.block(1)});
    const Head within{Seq{4}, a.head().time, a.head().digest};
    for (const SkuHead& wrong : {SkuHead{a.sku(), within}, SkuHead{b.sku(), a_kept}}) {
      const auto refused = log->shorten(std::vector{SkuHead{c.sku(), Head{}}, wrong});
      ASSERT_FALSE(refused);
      EXPECT_EQ(refused.error().fault, Fault::invalid);
    }
    EXPECT_EQ(read_all(*log, a.sku()).size(), 3U);
    EXPECT_EQ(read_all(*log, c.sku()).size(), 1U);
    ASSERT_TRUE(log->shorten(std::vector{SkuHead{a.sku(), a_kept}, SkuHead{b.sku(), Head{}}}));
    EXPECT_EQ(read_all(*log, a.sku()).size(), 1U);
    EXPECT_TRUE(read_all(*log, b.sku()).empty());
  }
  {
    // It opens as if it had never had more, and other blocks take the place of those.
    RecoveryReport report;
    const auto log = open_log(dir / "data", &report);
    ASSERT_TRUE(log);
    EXPECT_TRUE(report.notes.empty());
    EXPECT_EQ(log->heads()->size(), 2U);
    EXPECT_EQ(log->last_blocks()->size(), 2U);
    a.go_back(a_kept);
    commit(*log, {a.block(5)});
    Chain again("b");
    commit(*log, {again.block(2)});
  }
  const auto log = open_log(dir / "data");
  ASSERT_TRUE(log);
  const auto blocks = read_all(*log, a.sku());
  ASSERT_EQ(blocks.size(), 2U);
  EXPECT_EQ(blocks[1], *a.blocks().back());
  EXPECT_EQ(read_all(*log, b.sku()).size(), 1U);
  EXPECT_EQ(read_all(*log, c.sku()).size(), 1U);
}

// More than the write buffer holds, so that tables are written and write-ahead logs change.
TEST(RocksLog, stays_whole_when_its_write_buffers_have_been_flushed) {
  TempDir dir;
  Chain a("a");
  std::size_t total = 0;
  for (int round = 0; round < 2; ++round) {
    RecoveryReport report;
    const auto log = open_log(dir / "data", &report);
    EXPECT_TRUE(report.notes.empty());
    while (total < std::size_t(round + 1) * (100 << 20)) {
      std::vector<BlockWrite> blocks;
      for (int i = 0; i < 40; ++i) {
        blocks.push_back(a.block(4000));
        total += blocks.back().bytes.size();
      }
      commit(*log, std::move(blocks));
    }
  }
  EXPECT_FALSE(log_files(dir / "data", ".sst").empty());
  const auto log = open_log(dir / "data");
  std::uint64_t count = 0;
  EXPECT_TRUE(log->read(a.sku(), Seq{1}, [&count](const BlockView& b) {
    count += b.header().count;
    return true;
  }));
  EXPECT_EQ(count, a.head().seq.value);
}

TEST(DataDirectory, is_open_in_one_process_only) {
  TempDir dir;
  const auto log = open_log(dir / "data");
  const Error e = refusal(dir / "data");
  EXPECT_EQ(e.fault, Fault::busy);
  EXPECT_NE(e.message.find("another process"), std::string::npos) << e.message;
}

TEST(DataDirectory, of_a_newer_version_is_refused) {
  TempDir dir;
  open_log(dir / "data").reset();
  const std::string_view newer = "fairsale data 2\n";
  write_file(dir / "data/VERSION", std::as_bytes(std::span(newer.data(), newer.size())));
  for (const OpenMode mode : {OpenMode::read_write, OpenMode::read_only}) {
    const Error e = refusal(dir / "data", mode);
    EXPECT_EQ(e.fault, Fault::unsupported);
    EXPECT_NE(e.message.find("newer fairsale"), std::string::npos) << e.message;
  }
}

TEST(DataDirectory, with_other_files_is_left_alone) {
  TempDir dir;
  fs::create_directory(dir / "data");
  write_file(dir / "data/letters.txt", {});
  EXPECT_EQ(refusal(dir / "data").fault, Fault::invalid);
  EXPECT_EQ(refusal(dir / "data", OpenMode::read_only).fault, Fault::not_found);
  EXPECT_FALSE(fs::exists(dir / "data/VERSION"));
}

TEST(DataDirectory, half_created_is_completed) {
  TempDir dir;
  fs::create_directory(dir / "data");
  write_file(dir / "data/LOCK", {});
  write_file(dir / "data/VERSION.new", {});
  EXPECT_TRUE(open_log(dir / "data"));
}

TEST(DataDirectory, whose_store_was_half_created_is_completed) {
  TempDir dir;
  ASSERT_TRUE(open_log(dir / "data"));
  {
    // As when the first start is killed between CURRENT and the last column family.
    const std::string log = (dir / "data" / "log").string();
    std::vector<std::string> names;
    ASSERT_TRUE(rocksdb::DB::ListColumnFamilies({}, log, &names).ok());
    std::vector<rocksdb::ColumnFamilyDescriptor> all;
    for (const auto& name : names) all.emplace_back(name, rocksdb::ColumnFamilyOptions());
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* raw = nullptr;
    ASSERT_TRUE(rocksdb::DB::Open({}, log, all, &handles, &raw).ok());
    const std::unique_ptr<rocksdb::DB> db(raw);
    for (auto* handle : handles) {
      if (handle->GetName() == "heads") {
        ASSERT_TRUE(db->DropColumnFamily(handle).ok());
      }
      ASSERT_TRUE(db->DestroyColumnFamilyHandle(handle).ok());
    }
  }
  Chain a("a");
  const auto log = open_log(dir / "data");
  ASSERT_TRUE(log);
  commit(*log, {a.block(3)});
  EXPECT_EQ(read_all(*log, a.sku()).size(), 1U);
}

TEST(DataDirectory, without_its_version_is_refused) {
  TempDir dir;
  open_log(dir / "data").reset();
  fs::remove(dir / "data/VERSION");
  EXPECT_EQ(refusal(dir / "data").fault, Fault::damaged);
  EXPECT_EQ(refusal(dir / "data", OpenMode::read_only).fault, Fault::damaged);
}

TEST(SecondReader, sees_what_a_writer_commits_beside_it) {
  TempDir dir;
  EXPECT_EQ(refusal(dir / "data", OpenMode::read_only).fault, Fault::not_found);
  Chain a("a");
  Chain b("b");
  const auto writer = open_log(dir / "data");
  commit(*writer, {a.block()});
  RecoveryReport report;
  auto reader = open_rocks_log({.directory = dir / "data", .mode = OpenMode::read_only}, report);
  ASSERT_TRUE(reader) << reader.error().message;
  EXPECT_EQ(read_all(**reader, a.sku()).size(), 1U);
  for (int i = 0; i < 3; ++i) {
    commit(*writer, {a.block(), b.block()});
    EXPECT_EQ(read_all(**reader, a.sku()).size(), a.blocks().size() - 1);
    reader = open_rocks_log({.directory = dir / "data", .mode = OpenMode::read_only}, report);
    ASSERT_TRUE(reader) << reader.error().message;
    EXPECT_EQ(read_all(**reader, a.sku()).size(), a.blocks().size());
    EXPECT_EQ(read_all(**reader, b.sku()).size(), b.blocks().size());
    const auto heads = (*reader)->heads();
    ASSERT_TRUE(heads);
    EXPECT_EQ(heads->size(), 2U);
  }
  EXPECT_EQ((*reader)->append(std::vector{a.block()}).error().fault, Fault::invalid);
  EXPECT_EQ((*reader)->put_snapshot(a.sku(), a.head(), Sale()).error().fault, Fault::invalid);
}

TEST(SecondReader, tells_what_is_durable_from_what_is_provisional) {
  TempDir dir;
  Chain a("a");
  Chain b("b");
  Chain c("c");
  auto writer = open_log(dir / "data");
  commit(*writer, {a.block()});
  commit(*writer, {a.block(), c.block()});
  const Bytes acked = read_file(dir / "data" / "ACKED");
  const Head a_then = a.head();
  for (int i = 0; i < 40; ++i) commit(*writer, {a.block(1), b.block(1)});

  const auto durable = [&](const std::filesystem::path& data) {
    std::map<std::uint64_t, Head> by_sku;
    RecoveryReport report;
    const auto reader = open_rocks_log({.directory = data, .mode = OpenMode::read_only}, report);
    EXPECT_TRUE(reader) << reader.error().message;
    const auto heads = (*reader)->heads();
    EXPECT_TRUE(heads);
    for (const SkuHead& h : *heads) {
      const Chain& chain = h.sku == a.sku() ? a : h.sku == b.sku() ? b : c;
      EXPECT_EQ(h.head, chain.head());
    }
    const auto known = (*reader)->durable_heads();
    EXPECT_TRUE(known);
    EXPECT_EQ(known->size(), heads->size());
    for (const SkuHead& h : *known) by_sku[h.sku.value] = h.head;
    return by_sku;
  };
  auto now = durable(dir / "data");
  EXPECT_EQ(now[a.sku().value], a.head());
  EXPECT_EQ(now[b.sku().value], b.head());
  EXPECT_EQ(now[c.sku().value], c.head());

  // As if all but the first two commits were still under way, then as if the process had been
  // killed.
  write_file(dir / "data" / "ACKED", acked);
  for (const char* moment : {"beside the writer", "at rest", "without ACKED"}) {
    SCOPED_TRACE(moment);
    if (moment == std::string_view("at rest")) {
      writer.reset();
      write_file(dir / "data" / "ACKED", acked);
    }
    const bool unknown = moment == std::string_view("without ACKED");
    if (unknown) std::filesystem::remove(dir / "data" / "ACKED");
    now = durable(dir / "data");
    EXPECT_EQ(now[a.sku().value], unknown ? a.head() : a_then);
    EXPECT_EQ(now[b.sku().value], unknown ? b.head() : Head{});
    EXPECT_EQ(now[c.sku().value], c.head());
  }
  // The next opening for writing takes over what is whole.
  write_file(dir / "data" / "ACKED", acked);
  writer = open_log(dir / "data");
  EXPECT_EQ(durable(dir / "data")[b.sku().value], b.head());
}

// Lets the writing of RocksDB's write-ahead log fail on demand.
class FailingFiles : public rocksdb::FileSystemWrapper {
 public:
  FailingFiles() : FileSystemWrapper(rocksdb::FileSystem::Default()) {}

  const char* Name() const override { return "FailingFiles"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* out,
                                    rocksdb::IODebugContext* dbg) override {
    auto s = target()->NewWritableFile(name, options, out, dbg);
    if (s.ok() && name.ends_with(".log")) out->reset(new File(std::move(*out), *this));
    return s;
  }

  std::atomic<bool> fail_sync{false};
  std::atomic<bool> fail_append{false};

 private:
  class File : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(std::unique_ptr<rocksdb::FSWritableFile>&& file, FailingFiles& owner)
        : FSWritableFileOwnerWrapper(std::move(file)), owner_(owner) {}

    using FSWritableFileOwnerWrapper::Append;
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* dbg) override {
      if (!owner_.fail_append) return FSWritableFileOwnerWrapper::Append(data, options, dbg);
      // Half of it arrives.
      const rocksdb::Slice half(data.data(), data.size() / 2);
      FSWritableFileOwnerWrapper::Append(half, options, dbg).PermitUncheckedError();
      return rocksdb::IOStatus::NoSpace("injected");
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* dbg) override {
      if (owner_.fail_sync) return rocksdb::IOStatus::IOError("injected");
      return FSWritableFileOwnerWrapper::Sync(options, dbg);
    }

   private:
    FailingFiles& owner_;
  };
};

struct FailingLog {
  explicit FailingLog(const fs::path& path) {
    RecoveryReport report;
    auto opened = open_rocks_log({.directory = path, .env = env.get()}, report);
    EXPECT_TRUE(opened) << opened.error().message;
    log = std::move(*opened);
  }

  std::shared_ptr<FailingFiles> files = std::make_shared<FailingFiles>();
  std::unique_ptr<rocksdb::Env> env = rocksdb::NewCompositeEnv(files);
  std::unique_ptr<EventLog> log;
};

TEST(DeadLog, never_acknowledges_again_after_a_failed_sync) {
  TempDir dir;
  Chain a("a");
  Chain b("b");
  {
    FailingLog failing(dir / "data");
    commit(*failing.log, {a.block()});
    failing.files->fail_sync = true;
    const BlockWrite lost = a.block();
    const auto first = failing.log->append(std::vector{lost});
    ASSERT_FALSE(first);
    EXPECT_EQ(first.error().fault, Fault::io);
    // The disk works again; the log must not.
    failing.files->fail_sync = false;
    for (int i = 0; i < 3; ++i) {
      const auto later = failing.log->append(std::vector{b.block()});
      ASSERT_FALSE(later);
      EXPECT_NE(later.error().message.find("earlier failure"), std::string::npos)
          << later.error().message;
    }
  }
  // A restart finds what was acknowledged, and may find the commit whose fate was unknown.
  const auto log = open_log(dir / "data");
  ASSERT_TRUE(log);
  EXPECT_GE(read_all(*log, a.sku()).size(), 1U);
  EXPECT_TRUE(read_all(*log, b.sku()).empty());
}

TEST(DeadLog, after_a_half_written_commit_restarts_without_it) {
  TempDir dir;
  Chain a("a");
  {
    FailingLog failing(dir / "data");
    commit(*failing.log, {a.block()});
    failing.files->fail_append = true;
    const auto full = failing.log->append(std::vector{a.block(100)});
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().fault, Fault::full) << full.error().message;
    failing.files->fail_append = false;
    EXPECT_FALSE(failing.log->append(std::vector{a.block()}));
  }
  // RocksDB has not mended anything by itself, which it would by flushing to a table.
  EXPECT_TRUE(log_files(dir / "data", ".sst").empty());
  RecoveryReport report;
  const auto log = open_log(dir / "data", &report);
  ASSERT_TRUE(log);
  EXPECT_EQ(read_all(*log, a.sku()).size(), 1U);
}

// A file system of its own for a data directory.
struct SmallDisk {
  explicit SmallDisk(const fs::path& p) : path(p) { fs::create_directory(p); }
  ~SmallDisk() { ::umount2(path.c_str(), MNT_DETACH); }

  bool mount(const char* size, unsigned long flags = 0) const {
    return ::mount("tmpfs", path.c_str(), "tmpfs", flags, size) == 0;
  }
  void fill() const {
    std::ofstream filler(path / "filler");
    while (filler << "a restart frees some space by itself" << std::flush) {
    }
  }

  fs::path path;
};

class FullDisk : public ::testing::TestWithParam<const char*> {};

// On the smaller disk the write-ahead log meets the end of the space, on the larger one the tables
// may as well.
INSTANTIATE_TEST_SUITE_P(, FullDisk, ::testing::Values("size=6m", "size=100m"),
                         [](const auto& p) { return std::string(p.param + 5); });

TEST_P(FullDisk, is_said_to_be_full_and_loses_nothing) {
  TempDir dir;
  const SmallDisk disk(dir / "disk");
  if (!disk.mount(GetParam())) {
    GTEST_SKIP() << "cannot mount a small file system here: " << std::strerror(errno);
  }
  Chain a("a");
  std::size_t acknowledged = 0;
  {
    const auto log = open_log(disk.path / "data");
    ASSERT_TRUE(log);
    Result<void> last;
    while (last && acknowledged < 2000) {
      last = log->append(std::vector{a.block(4000)});
      if (last) ++acknowledged;
    }
    ASSERT_FALSE(last);
    EXPECT_EQ(last.error().fault, Fault::full) << last.error().message;
    EXPECT_NE(last.error().message.find("free some space"), std::string::npos);
    EXPECT_FALSE(log->append(std::vector{a.block()}));
  }
  EXPECT_GT(acknowledged, 0U);
  disk.fill();
  EXPECT_EQ(refusal(disk.path / "data").fault, Fault::full);
  fs::remove(disk.path / "filler");
  ASSERT_TRUE(disk.mount("size=400m", MS_REMOUNT));
  const auto log = open_log(disk.path / "data");
  ASSERT_TRUE(log);
  EXPECT_GE(read_all(*log, a.sku()).size(), acknowledged);
}

// Runs in a process of its own, which is killed: see below.
TEST(KilledWriter, DISABLED_commits_until_it_is_killed) {
  const char* data = std::getenv("FAIRSALE_TEST_DATA");
  ASSERT_NE(data, nullptr);
  const auto log = open_log(data);
  ASSERT_TRUE(log);
  Chain a("a");
  for (;;) {
    commit(*log, {a.block(50)});
    const std::uint64_t seq = a.head().seq.value;
    if (::write(STDOUT_FILENO, &seq, sizeof seq) != sizeof seq) return;
  }
}

TEST(KilledWriter, leaves_everything_acknowledged) {
  TempDir dir;
  int pipe_ends[2];
  ASSERT_EQ(::pipe(pipe_ends), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(pipe_ends[1], STDOUT_FILENO);
    ::setenv("FAIRSALE_TEST_DATA", (dir / "data").c_str(), 1);
    ::execl("/proc/self/exe", "rocks_log_test", "--gtest_also_run_disabled_tests",
            "--gtest_brief=1", "--gtest_filter=KilledWriter.DISABLED_commits_until_it_is_killed",
            nullptr);
    ::_exit(127);
  }
  ASSERT_GT(child, 0);
  ::close(pipe_ends[1]);
  // GoogleTest's own words come first; acknowledgements are told from them by their first zero.
  std::string said;
  char buffer[256];
  const auto last_acknowledged = [&said] {
    const auto first = said.find(std::string("\x32\0\0\0\0\0\0\0", 8));
    if (first == std::string::npos) return std::uint64_t{0};
    const std::size_t whole = (said.size() - first) / 8 * 8;
    std::uint64_t seq = 0;
    std::memcpy(&seq, said.data() + first + whole - 8, 8);
    return seq;
  };
  while (last_acknowledged() < 2000) {
    const ssize_t n = ::read(pipe_ends[0], buffer, sizeof buffer);
    ASSERT_GT(n, 0) << said;
    said.append(buffer, static_cast<std::size_t>(n));
  }
  ::kill(child, SIGKILL);
  for (ssize_t n; (n = ::read(pipe_ends[0], buffer, sizeof buffer)) > 0;) {
    said.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(pipe_ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ASSERT_TRUE(WIFSIGNALED(status));

  const auto log = open_log(dir / "data");
  ASSERT_TRUE(log);
  std::uint64_t end = 0;
  EXPECT_TRUE(log->read(sku_id("a"), Seq{1}, [&end](const BlockView& b) {
    end = b.last().value;
    return true;
  }));
  EXPECT_GE(end, last_acknowledged());
}

}  // namespace
}  // namespace fairsale::testing
