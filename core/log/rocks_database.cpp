#include "core/log/rocks_database.hpp"

#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/listener.h>
#include <rocksdb/table.h>

#include "core/log/data_directory.hpp"
#include "core/log/rocks_common.hpp"

namespace fairsale {

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

// What reached the disk before a failed write or sync is not known, so RocksDB must not resume by
// itself; it would when a full disk has space again.
class NeverResume : public rocksdb::EventListener {
 public:
  void OnErrorRecoveryBegin(rocksdb::BackgroundErrorReason, rocksdb::Status,
                            bool* auto_recovery) override {
    *auto_recovery = false;
  }
};

rocksdb::ColumnFamilyOptions family_options(std::size_t write_buffer) {
  rocksdb::ColumnFamilyOptions c;
  c.write_buffer_size = write_buffer;
  c.max_write_buffer_number = 3;
  // One compression at all levels, so that files that do not overlap move down without a rewrite.
  c.compression = rocksdb::kLZ4Compression;
  rocksdb::BlockBasedTableOptions t;
  t.block_cache = rocksdb::NewLRUCache(16 * kMiB);
  t.block_size = std::size_t{16} * 1024;
  // A long log is read ahead of the fold, in steps that grow; a short one, of which there may be a
  // hundred thousand, is not.
  t.max_auto_readahead_size = kMiB;
  c.table_factory.reset(rocksdb::NewBlockBasedTableFactory(t));
  return c;
}

}  // namespace

tl::unexpected<Error> rocks_failure(std::string_view what, const rocksdb::Status& s) {
  if (s.IsNoSpace()) {
    return fail(Fault::full, fmt::format("{}: no space left on the disk ({}); free some space and "
                                         "start again",
                                         what, s.ToString()));
  }
  const bool damaged = s.IsCorruption();
  return fail(damaged ? Fault::damaged : Fault::io,
              fmt::format("{}: RocksDB says: {}", what, s.ToString()));
}

rocksdb::DBOptions database_options(rocksdb::Env* env) {
  rocksdb::DBOptions d;
  if (env != nullptr) d.env = env;
  d.paranoid_checks = true;
  // The default drops synced commits silently after one flipped bit. What a crash tears is cut off
  // by recover() before RocksDB looks; whatever RocksDB still finds is damage.
  d.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  // Old bytes in a reused file could pass for a tail.
  d.recycle_log_file_num = 0;
  // Each of these weakens what a returned write means, or how a damaged log is found out.
  d.unordered_write = false;
  d.enable_pipelined_write = false;
  d.two_write_queues = false;
  d.manual_wal_flush = false;
  d.wal_compression = rocksdb::kNoCompression;
  d.track_and_verify_wals_in_manifest = false;
  d.max_bgerror_resume_count = 0;
  d.listeners.push_back(std::make_shared<NeverResume>());
  set_common_options(d);
  // Bounds recovery: this much may have to be replayed.
  d.max_total_wal_size = 128 * kMiB;
  d.max_background_jobs = 2;
  d.max_open_files = 512;
  d.stats_dump_period_sec = 0;
  d.stats_persist_period_sec = 0;
  d.skip_stats_update_on_db_open = true;
  return d;
}

std::vector<rocksdb::ColumnFamilyDescriptor> families(std::size_t write_buffer) {
  return {{rocksdb::kDefaultColumnFamilyName, family_options(write_buffer)},
          {"heads", family_options(write_buffer / 8)}};
}

Result<Tables> look_at_tables(const std::filesystem::path& directory, rocksdb::Env* env) {
  auto tables = look_at_tables(directory, database_options(env), families());
  if (!tables) tables.error().message += fmt::format(". {}", kDamageAdvice);
  return tables;
}

Result<Tables> look_at_tables(const std::filesystem::path& directory, rocksdb::DBOptions d,
                              const std::vector<rocksdb::ColumnFamilyDescriptor>& all) {
  // An empty directory in place of that of the write-ahead log; nothing is written to either.
  auto no_wal = ScratchDirectory::create();
  if (!no_wal) return tl::unexpected(no_wal.error());
  d.wal_dir = no_wal->path().string();
  rocksdb::DB* opened = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  const rocksdb::Status s =
      rocksdb::DB::OpenForReadOnly(d, directory.string(), all, &handles, &opened);
  if (!s.ok()) return rocks_failure(fmt::format("cannot open {}", directory.string()), s);
  const std::unique_ptr<rocksdb::DB> db(opened);
  for (rocksdb::ColumnFamilyHandle* h : handles) db->DestroyColumnFamilyHandle(h);
  Tables t{.sequence = db->GetLatestSequenceNumber()};
  if (!db->GetIntProperty(rocksdb::DB::Properties::kMinLogNumberToKeep, &t.first_wal)) {
    return fail(Fault::io, fmt::format("RocksDB does not tell which log files of {} it needs",
                                       directory.string()));
  }
  return t;
}

}  // namespace fairsale
