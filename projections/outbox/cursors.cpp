#include "projections/outbox/cursors.hpp"

#include <fmt/format.h>
#include <rocksdb/db.h>

#include <string>

#include "core/domain/invariant.hpp"
#include "core/log/little_endian.hpp"
#include "core/log/rocks_database.hpp"

namespace fairsale {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kFormatKey = "V";
constexpr std::string_view kFormat = "fairsale outbox 1";
constexpr std::size_t kCursorBytes = 12;

rocksdb::Slice slice(std::string_view s) { return {s.data(), s.size()}; }

std::string known_key(std::string_view consumer) { return "K" + std::string(consumer); }

std::string cursor_prefix(std::string_view consumer) {
  FAIRSALE_INVARIANT(!consumer.empty() && consumer.find('\0') == std::string_view::npos,
                     "a consumer has a name without zero bytes");
  std::string key = "C";
  key += consumer;
  key += '\0';
  return key;
}

std::string cursor_key(std::string_view consumer, SkuId sku) {
  std::string key = cursor_prefix(consumer);
  append_be(key, sku.value);
  return key;
}

}  // namespace

struct CursorStore::Impl {
  std::unique_ptr<rocksdb::DB> db;
};

CursorStore::CursorStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
CursorStore::~CursorStore() = default;

Result<std::unique_ptr<CursorStore>> CursorStore::open(const fs::path& directory,
                                                       rocksdb::Env* env) {
  rocksdb::Options o;
  o.create_if_missing = true;
  if (env != nullptr) o.env = env;
  o.info_log_level = rocksdb::FATAL_LEVEL;
  o.write_buffer_size = std::size_t{4} << 20;
  o.max_total_wal_size = std::size_t{16} << 20;
  o.keep_log_file_num = 1;
  o.max_open_files = 64;
  rocksdb::DB* db = nullptr;
  rocksdb::Status s = rocksdb::DB::Open(o, directory.string(), &db);
  if (s.IsCorruption()) {
    return fail(Fault::damaged,
                fmt::format("{} is damaged. Move it away: NATS and webhooks with \"past\" are then "
                            "given all messages again, and other webhooks what comes from now on",
                            directory.string()));
  }
  if (!s.ok()) return rocks_failure(fmt::format("{} cannot be opened", directory.string()), s);
  auto impl = std::make_unique<Impl>();
  impl->db.reset(db);
  std::string format;
  s = db->Get({}, slice(kFormatKey), &format);
  if (s.IsNotFound()) {
    format = kFormat;
    s = db->Put({}, slice(kFormatKey), slice(kFormat));
  }
  if (!s.ok()) return rocks_failure(fmt::format("{} cannot be read", directory.string()), s);
  if (format != kFormat) {
    return fail(Fault::unsupported, fmt::format("{} was written by a newer fairsale; use that one",
                                                directory.string()));
  }
  return std::unique_ptr<CursorStore>(new CursorStore(std::move(impl)));
}

Result<bool> CursorStore::knows(std::string_view consumer) const {
  std::string value;
  const auto s = impl_->db->Get({}, slice(known_key(consumer)), &value);
  if (s.IsNotFound()) return false;
  if (!s.ok()) return rocks_failure("the outbox's cursors cannot be read", s);
  return true;
}

Result<void> CursorStore::remember(std::string_view consumer) {
  // Synced, and the cursors before it with it: one that a power failure made unknown would begin
  // anew behind what was said in between.
  rocksdb::WriteOptions durable;
  durable.sync = true;
  const auto s = impl_->db->Put(durable, slice(known_key(consumer)), {});
  if (!s.ok()) return rocks_failure("the outbox's cursors cannot be written", s);
  return {};
}

Result<void> CursorStore::forget(std::string_view consumer) {
  const std::string from = cursor_prefix(consumer);
  std::string to = from;
  to.back() = 1;
  rocksdb::WriteBatch batch;
  batch.Delete(slice(known_key(consumer))).PermitUncheckedError();
  batch.DeleteRange(slice(from), slice(to)).PermitUncheckedError();
  const auto s = impl_->db->Write({}, &batch);
  if (!s.ok()) return rocks_failure("the outbox's cursors cannot be written", s);
  return {};
}

Result<Cursor> CursorStore::cursor(std::string_view consumer, SkuId sku) const {
  std::string value;
  const auto s = impl_->db->Get({}, slice(cursor_key(consumer, sku)), &value);
  if (s.IsNotFound()) return Cursor{};
  if (!s.ok()) return rocks_failure("the outbox's cursors cannot be read", s);
  if (value.size() != kCursorBytes) {
    return fail(
        Fault::damaged,
        fmt::format("the outbox's cursor of {} for SKU {:016x} is illegible", consumer, sku.value));
  }
  return Cursor{Seq{get_be64(value.data())}, get_be32(value.data() + 8)};
}

Result<void> CursorStore::put(std::string_view consumer, SkuId sku, Cursor c) {
  std::string value;
  append_be(value, c.position.value);
  append_be(value, c.number);
  const auto s = impl_->db->Put({}, slice(cursor_key(consumer, sku)), slice(value));
  if (!s.ok()) return rocks_failure("the outbox's cursors cannot be written", s);
  return {};
}

fs::path outbox_directory(const fs::path& data) { return data / "outbox"; }

}  // namespace fairsale
