// The RocksDB database of the log: how it is opened, and its failures as errors. Internal to the
// log.
#pragma once

#include <rocksdb/db.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/log/head_record.hpp"
#include "core/log/result.hpp"
#include "core/log/tables.hpp"

namespace fairsale {

inline rocksdb::Slice slice(const Key& key) { return {key.data(), key.size()}; }

inline std::span<const std::byte> bytes_of(const rocksdb::Slice& s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

// `what` could not be done; whether that is damage, a full disk or another failure.
tl::unexpected<Error> rocks_failure(std::string_view what, const rocksdb::Status&);

// `env` is what the I/O goes through; null for the system.
rocksdb::DBOptions database_options(rocksdb::Env* env);

// The column families, in the order of Database's handles. `write_buffer` is that of the blocks;
// heads have an eighth.
std::vector<rocksdb::ColumnFamilyDescriptor> families(std::size_t write_buffer = std::size_t{64}
                                                                                 << 20);

// What has reached the log's table files (tables.hpp).
Result<Tables> look_at_tables(const std::filesystem::path& directory, rocksdb::Env* env);

// An open database and its column families, closed in the right order.
struct Database {
  std::unique_ptr<rocksdb::DB> db;
  rocksdb::ColumnFamilyHandle* blocks = nullptr;
  rocksdb::ColumnFamilyHandle* heads = nullptr;

  Database() = default;
  Database(Database&& other) noexcept { *this = std::move(other); }
  Database& operator=(Database&& other) noexcept {
    std::swap(db, other.db);
    std::swap(blocks, other.blocks);
    std::swap(heads, other.heads);
    return *this;
  }
  ~Database() {
    if (!db) return;
    db->DestroyColumnFamilyHandle(blocks);
    db->DestroyColumnFamilyHandle(heads);
    db->Close().PermitUncheckedError();
  }

  // `open` calls one of RocksDB's ways to open.
  template <class Open>
  static rocksdb::Status open(Database& out, Open&& open) {
    rocksdb::DB* db = nullptr;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    const rocksdb::Status s = open(&handles, &db);
    if (!s.ok()) return s;
    out.db.reset(db);
    out.blocks = handles[0];
    out.heads = handles[1];
    return s;
  }
};

}  // namespace fairsale
