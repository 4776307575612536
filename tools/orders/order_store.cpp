#include "tools/orders/order_store.hpp"

#include <fmt/format.h>
#include <rocksdb/db.h>
#include <unistd.h>

#include <cereal/archives/portable_binary.hpp>
#include <cereal/types/string.hpp>
#include <map>
#include <sstream>
#include <system_error>

#include "core/log/rocks_database.hpp"

namespace fairsale::orders {

namespace fs = std::filesystem;

namespace {

// Keys: 'V' the format; 'C' purchase '/' id: a case; 'O' and the same: it is open; 'D' id: a dead
// letter; 'S' source: its cursor. A purchase holds no '/'.
constexpr std::string_view kFormatKey = "V";
constexpr std::string_view kFormat = "fairsale orders 1";
constexpr std::size_t kMaxDeadContent = 4'096;

rocksdb::Slice slice(std::string_view s) { return {s.data(), s.size()}; }

std::string key_of(char table, const Case& c) {
  return fmt::format("{}{}/{}", table, c.purchase, c.id);
}

template <class Archive>
void archive(Archive& a, Case& c, std::uint8_t& state) {
  a(c.id, c.purchase, c.reference, c.amount, c.currency, c.quantity, state, c.why, c.trouble,
    c.tries, c.refused);
}

std::string encode(const Case& c) {
  std::ostringstream out;
  Case copy = c;
  auto state = static_cast<std::uint8_t>(c.state);
  cereal::PortableBinaryOutputArchive a(out);
  archive(a, copy, state);
  return out.str();
}

std::optional<Case> decode(std::string_view bytes) {
  try {
    std::istringstream in{std::string(bytes)};
    cereal::PortableBinaryInputArchive a(in);
    Case c;
    std::uint8_t state = 0;
    archive(a, c, state);
    const auto known = state_of(state);
    if (!known) return std::nullopt;
    c.state = *known;
    return c;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

// Whether two are the same message, however far either has come.
bool same_payment(const Case& a, const Case& b) {
  return a.reference == b.reference && a.amount == b.amount && a.currency == b.currency &&
         a.quantity == b.quantity;
}

DeadLetter strange(const Case& c, const Case& known) {
  return {fmt::format("{} {}", c.id, c.reference),
          fmt::format("its id is known with payment {} of {} {}: it is of another log",
                      known.reference, known.amount, known.currency),
          fmt::format("{} {} {} {}", c.purchase, c.reference, c.amount, c.currency)};
}

rocksdb::Options options(rocksdb::Env* env) {
  rocksdb::Options o;
  o.create_if_missing = true;
  if (env != nullptr) o.env = env;
  // A torn end is what a power cut leaves of a write that nobody was told of.
  o.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  o.info_log_level = rocksdb::FATAL_LEVEL;
  o.write_buffer_size = std::size_t{8} << 20;
  o.max_total_wal_size = std::size_t{32} << 20;
  o.keep_log_file_num = 1;
  o.max_open_files = 128;
  return o;
}

rocksdb::WriteOptions durable() {
  rocksdb::WriteOptions w;
  w.sync = true;
  return w;
}

}  // namespace

struct OrderStore::Impl {
  std::unique_ptr<rocksdb::DB> db;
  fs::path scratch;  // of a secondary

  ~Impl() {
    db.reset();
    std::error_code ignored;
    if (!scratch.empty()) fs::remove_all(scratch, ignored);
  }

  Result<void> walk(std::string_view prefix,
                    const std::function<Result<bool>(std::string_view key, std::string_view value)>&
                        visit) const {
    const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator({}));
    for (it->Seek(slice(prefix)); it->Valid() && it->key().starts_with(slice(prefix)); it->Next()) {
      auto more = visit(it->key().ToStringView(), it->value().ToStringView());
      if (!more) return tl::unexpected(more.error());
      if (!*more) return {};
    }
    if (!it->status().ok()) return rocks_failure("the orders cannot be read", it->status());
    return {};
  }

  Result<void> walk_cases(std::string_view prefix,
                          const std::function<bool(const Case&)>& visit) const {
    return walk(prefix, [&](std::string_view key, std::string_view value) -> Result<bool> {
      const auto c = decode(value);
      if (!c) {
        return fail(Fault::damaged, fmt::format("the order {} is illegible", key.substr(1)));
      }
      return visit(*c);
    });
  }
};

OrderStore::OrderStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
OrderStore::~OrderStore() = default;

Result<std::unique_ptr<OrderStore>> OrderStore::open(const fs::path& directory, rocksdb::Env* env) {
  std::error_code ec;
  fs::create_directories(directory, ec);
  if (ec) {
    return fail(Fault::io, fmt::format("{} cannot be made: {}", directory.string(), ec.message()));
  }
  auto impl = std::make_unique<Impl>();
  rocksdb::DB* db = nullptr;
  rocksdb::Status s = rocksdb::DB::Open(options(env), directory.string(), &db);
  if (s.IsIOError() && s.ToString().find("LOCK") != std::string::npos) {
    return fail(Fault::busy, fmt::format("{} is in use by another process; give each its own",
                                         directory.string()));
  }
  if (!s.ok()) return rocks_failure(fmt::format("{} cannot be opened", directory.string()), s);
  impl->db.reset(db);
  std::string format;
  s = db->Get({}, slice(kFormatKey), &format);
  if (s.IsNotFound()) {
    format = kFormat;
    s = db->Put(durable(), slice(kFormatKey), slice(kFormat));
  }
  if (!s.ok()) return rocks_failure(fmt::format("{} cannot be read", directory.string()), s);
  if (format != kFormat) {
    return fail(Fault::unsupported, fmt::format("{} was written by a newer fairsale; use that one",
                                                directory.string()));
  }
  return std::unique_ptr<OrderStore>(new OrderStore(std::move(impl)));
}

Result<std::unique_ptr<OrderStore>> OrderStore::look(const fs::path& directory) {
  std::error_code ec;
  if (!fs::exists(directory / "CURRENT", ec)) {
    return fail(Fault::not_found,
                fmt::format("{} holds no orders; give the --store of fairsale-orders run",
                            directory.string()));
  }
  std::string scratch = (fs::temp_directory_path(ec) / "fairsale-orders-XXXXXX").string();
  if (ec || ::mkdtemp(scratch.data()) == nullptr) {
    return fail(Fault::io, "no temporary directory can be made; set TMPDIR");
  }
  auto impl = std::make_unique<Impl>();
  impl->scratch = scratch;
  rocksdb::Options o = options(nullptr);
  o.create_if_missing = false;
  o.max_open_files = -1;
  rocksdb::DB* db = nullptr;
  rocksdb::Status s = rocksdb::DB::OpenAsSecondary(o, directory.string(), scratch, &db);
  if (s.ok()) {
    impl->db.reset(db);
    s = db->TryCatchUpWithPrimary();
  }
  if (!s.ok()) return rocks_failure(fmt::format("{} cannot be read", directory.string()), s);
  return std::unique_ptr<OrderStore>(new OrderStore(std::move(impl)));
}

Result<Taken> OrderStore::take(const Batch& in) {
  Taken taken;
  std::map<std::string, const Case*> keys;  // of this batch
  rocksdb::WriteBatch batch;
  rocksdb::Status s;
  for (const Case& c : in.cases) {
    const std::string key = key_of('C', c);
    std::string value;
    s = impl_->db->Get({}, slice(key), &value);
    if (!s.ok() && !s.IsNotFound()) return rocks_failure("the orders cannot be read", s);
    std::optional<Case> known;
    if (s.ok()) {
      known = decode(value);
      if (!known) return fail(Fault::damaged, fmt::format("the order {} is illegible", c.id));
    } else if (const auto [it, fresh] = keys.emplace(key, &c); !fresh) {
      known = *it->second;
    }
    if (known) {
      if (!same_payment(c, *known)) taken.strange.push_back(strange(c, *known));
      continue;
    }
    batch.Put(slice(key), slice(encode(c))).PermitUncheckedError();
    batch.Put(slice(key_of('O', c)), slice(encode(c))).PermitUncheckedError();
    taken.fresh.push_back(c);
  }
  std::vector<DeadLetter> dead = in.dead;
  dead.insert(dead.end(), taken.strange.begin(), taken.strange.end());
  for (const DeadLetter& d : dead) {
    std::ostringstream out;
    cereal::PortableBinaryOutputArchive a(out);
    a(d.why, d.content.substr(0, kMaxDeadContent));
    batch.Put(slice("D" + d.id), slice(out.str())).PermitUncheckedError();
  }
  if (in.cursor) {
    batch.Put(slice("S" + in.cursor->source), slice(in.cursor->position)).PermitUncheckedError();
  }
  if (batch.Count() == 0) return taken;
  s = impl_->db->Write(durable(), &batch);
  if (!s.ok()) return rocks_failure("the orders cannot be written", s);
  return taken;
}

Result<void> OrderStore::put(const Case& c) {
  const std::string value = encode(c);
  rocksdb::WriteBatch batch;
  batch.Put(slice(key_of('C', c)), slice(value)).PermitUncheckedError();
  if (at_end(c.state)) {
    batch.Delete(slice(key_of('O', c))).PermitUncheckedError();
  } else {
    batch.Put(slice(key_of('O', c)), slice(value)).PermitUncheckedError();
  }
  const auto s = impl_->db->Write(durable(), &batch);
  if (!s.ok()) return rocks_failure("the orders cannot be written", s);
  return {};
}

Result<std::string> OrderStore::cursor(std::string_view source) const {
  std::string value;
  const auto s = impl_->db->Get({}, slice("S" + std::string(source)), &value);
  if (s.IsNotFound()) return std::string{};
  if (!s.ok()) return rocks_failure("the orders cannot be read", s);
  return value;
}

Result<void> OrderStore::each(const std::function<bool(const Case&)>& visit) const {
  return impl_->walk_cases("C", visit);
}

Result<void> OrderStore::each_open(const std::function<bool(const Case&)>& visit) const {
  return impl_->walk_cases("O", visit);
}

Result<void> OrderStore::each_of(std::string_view purchase,
                                 const std::function<bool(const Case&)>& visit) const {
  return impl_->walk_cases(fmt::format("C{}/", purchase), visit);
}

Result<void> OrderStore::each_dead(const std::function<bool(const DeadLetter&)>& visit) const {
  return impl_->walk("D", [&](std::string_view key, std::string_view value) -> Result<bool> {
    DeadLetter d{.id = std::string(key.substr(1))};
    try {
      std::istringstream in{std::string(value)};
      cereal::PortableBinaryInputArchive a(in);
      a(d.why, d.content);
    } catch (const std::exception&) {
      return fail(Fault::damaged, fmt::format("the dead letter {} is illegible", d.id));
    }
    return visit(d);
  });
}

}  // namespace fairsale::orders
