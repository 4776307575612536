// What the table files of a RocksDB database hold, without its write-ahead log. RocksDB takes a
// MANIFEST that was cut off for a shorter one, and replays the write-ahead log on top of tables
// that then lack what came between; only who compares the two finds out.
#pragma once

#include <rocksdb/db.h>

#include <cstdint>
#include <filesystem>
#include <vector>

#include "core/log/result.hpp"

namespace fairsale {

struct Tables {
  std::uint64_t sequence = 0;   // the newest that they may hold
  std::uint64_t first_wal = 0;  // number of the first log file that is still needed
};

// Opens the database for that, with its own options and column families. Changes nothing.
Result<Tables> look_at_tables(const std::filesystem::path& directory, rocksdb::DBOptions,
                              const std::vector<rocksdb::ColumnFamilyDescriptor>&);

}  // namespace fairsale
