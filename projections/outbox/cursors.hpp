// How far each consumer of the outbox has come: a RocksDB database of its own, DATA/outbox.
//
// A cursor only follows what a consumer has taken for good. It is not synced: after a power failure
// some messages are given again, and their ids tell. That a consumer is known is synced. Deleting
// the database gives all messages again to consumers that read from the beginning, and none of the
// past to those that began later.
//
// keys, numbers big-endian
//   V                       "fairsale outbox 1"
//   K name                  a consumer that is known; no value
//   C name 0x00 sku:u64     its cursor there: position:u64 number:u32
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "core/domain/types.hpp"
#include "core/log/result.hpp"

namespace rocksdb {
class Env;
}

namespace fairsale {

// The last message that was taken: its position, and its number among those of that position.
struct Cursor {
  Seq position;
  std::uint32_t number = 0;

  // Behind all messages up to the position.
  static Cursor past(Seq position) { return {position, 0xffff'ffff}; }

  friend auto operator<=>(const Cursor&, const Cursor&) = default;
};

// Thread-safe. Names of consumers are not empty and hold no zero byte.
class CursorStore {
 public:
  // Creates it when it is not there. Fails with unsupported, damaged, busy, full or io. `env` is
  // what RocksDB does its I/O through, for tests.
  static Result<std::unique_ptr<CursorStore>> open(const std::filesystem::path& directory,
                                                   rocksdb::Env* env = nullptr);
  ~CursorStore();
  CursorStore(const CursorStore&) = delete;
  CursorStore& operator=(const CursorStore&) = delete;

  Result<bool> knows(std::string_view consumer) const;
  Result<void> remember(std::string_view consumer);
  // And all its cursors.
  Result<void> forget(std::string_view consumer);

  // Of a SKU of which it has taken nothing: at its beginning.
  Result<Cursor> cursor(std::string_view consumer, SkuId) const;
  Result<void> put(std::string_view consumer, SkuId, Cursor);

 private:
  struct Impl;
  explicit CursorStore(std::unique_ptr<Impl>);

  std::unique_ptr<Impl> impl_;
};

// DATA/outbox.
std::filesystem::path outbox_directory(const std::filesystem::path& data);

}  // namespace fairsale
