#include "projections/stored/store.hpp"

#include <fmt/format.h>
#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/snapshot.h>
#include <rocksdb/table.h>
#include <rocksdb/write_batch.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/domain/invariant.hpp"
#include "core/log/data_directory.hpp"
#include "core/log/little_endian.hpp"
#include "core/log/rocks_common.hpp"
#include "core/log/tables.hpp"
#include "core/log/wal_scan.hpp"

namespace fairsale {

namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::string_view kFormatKey = "V";
constexpr std::string_view kFormat = "fairsale projections 1";
constexpr std::string_view kFormatFamily = "fairsale projections ";

constexpr std::size_t kGenerationPrefix = 6;               // kind, projection, generation
constexpr std::size_t kSkuPrefix = kGenerationPrefix + 8;  // and SKU
constexpr std::size_t kCoverageBytes = 8 + 8 + 32;

tl::unexpected<Error> rocks_failure(std::string_view what, const rocksdb::Status& s) {
  Fault fault = Fault::io;
  if (s.IsNoSpace()) fault = Fault::full;
  if (s.IsCorruption()) fault = Fault::damaged;
  if (s.IsBusy() || s.IsIncomplete() || s.IsTryAgain()) fault = Fault::busy;
  return fail(fault,
              fmt::format("the store of projections {}: RocksDB says: {}", what, s.ToString()));
}

// Whether a failure that RocksDB passes on says nothing of the files: they are locked, or the
// system does not let them be opened now.
bool of_the_machine(const std::string& text) {
  if (text.find("lock") != std::string::npos) return true;
  for (const int error : {EMFILE, ENFILE, ENOMEM, EACCES, EPERM, EROFS}) {
    if (text.find(std::strerror(error)) != std::string::npos) return true;
  }
  return false;
}

tl::unexpected<Error> illegible(std::string_view what) {
  return fail(Fault::damaged,
              fmt::format("the store of projections holds {} that is not one", what));
}

// Small throughout: the memory belongs to the sales.
rocksdb::Options database_options() {
  rocksdb::Options o;
  o.create_if_missing = true;
  // What a crash tears off is read from the log again.
  o.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
  o.max_background_jobs = 2;
  o.max_open_files = 128;
  o.write_buffer_size = 4 * kMiB;
  o.max_write_buffer_number = 3;
  o.max_total_wal_size = 16 * kMiB;
  o.compression = rocksdb::kLZ4Compression;
  set_common_options(o);
  o.stats_dump_period_sec = 0;
  o.stats_persist_period_sec = 0;
  rocksdb::BlockBasedTableOptions t;
  t.block_cache = rocksdb::NewLRUCache(4 * kMiB);
  t.cache_index_and_filter_blocks = true;
  t.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  o.table_factory.reset(rocksdb::NewBlockBasedTableFactory(t));
  return o;
}

rocksdb::Slice slice(std::string_view s) { return {s.data(), s.size()}; }

std::string prefix_of(char kind, GenerationId g) {
  std::string key;
  key.reserve(kSkuPrefix + 9);
  key += kind;
  key += static_cast<char>(g.projection);
  append_be(key, g.number);
  return key;
}

std::string coverage_key(GenerationId g, SkuId sku) {
  std::string key = prefix_of('M', g);
  append_be(key, sku.value);
  return key;
}

std::string row_key(GenerationId g, SkuId sku, std::string_view key) {
  std::string out = prefix_of('R', g);
  append_be(out, sku.value);
  out += key;
  return out;
}

std::string catalog_key(StoredProjection p) { return {'C', static_cast<char>(p)}; }

// The first key after all that begin with `prefix`, none of which ends in 0xff here.
std::string end_of(std::string prefix) {
  while (!prefix.empty() && static_cast<unsigned char>(prefix.back()) == 0xff) prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(prefix.back() + 1);
  return prefix;
}

template <std::integral T>
void append_number(std::string& out, T v) {
  std::byte raw[sizeof v];
  put_le(raw, v);
  out.append(reinterpret_cast<const char*>(raw), sizeof v);
}

// Numbers and digests from the front of a value.
class Reader {
 public:
  explicit Reader(std::string_view in) : in_(in) {}
  template <std::integral T>
  T number() {
    if (in_.size() < sizeof(T)) {
      good_ = false;
      return 0;
    }
    const T v = get_le<T>(reinterpret_cast<const std::byte*>(in_.data()));
    in_.remove_prefix(sizeof(T));
    return v;
  }
  bool boolean() {
    const auto byte = number<std::uint8_t>();
    if (byte > 1) good_ = false;
    return byte == 1;
  }
  Digest digest() {
    Digest d;
    if (in_.size() < d.bytes.size()) {
      good_ = false;
      return d;
    }
    std::memcpy(d.bytes.data(), in_.data(), d.bytes.size());
    in_.remove_prefix(d.bytes.size());
    return d;
  }
  bool good() const { return good_; }
  bool whole() const { return good_ && in_.empty(); }

 private:
  std::string_view in_;
  bool good_ = true;
};

void append_digest(std::string& out, const Digest& d) {
  out.append(reinterpret_cast<const char*>(d.bytes.data()), d.bytes.size());
}

}  // namespace

std::string encode(const Coverage& c) {
  std::string out;
  out.reserve(kCoverageBytes);
  append_number(out, c.position.value);
  append_number(out, c.rows);
  append_digest(out, c.digest);
  return out;
}

std::optional<Coverage> decode_coverage(std::string_view bytes) {
  Reader in(bytes);
  Coverage c;
  c.position = Seq{in.number<std::uint64_t>()};
  c.rows = in.number<std::uint64_t>();
  c.digest = in.digest();
  if (!in.whole()) return std::nullopt;
  return c;
}

std::string encode(const CatalogEntry& c) {
  std::string out;
  append_number(out, c.version);
  append_number(out, c.next);
  append_number(out, static_cast<std::uint32_t>(c.generations.size()));
  for (const Generation& g : c.generations) {
    append_number(out, g.number);
    append_number(out, static_cast<std::uint8_t>(g.state));
    append_number(out, static_cast<std::uint8_t>(g.force));
  }
  append_number(out, static_cast<std::uint8_t>(c.mismatch.has_value()));
  if (c.mismatch) {
    append_number(out, c.mismatch->generation);
    append_number(out, c.mismatch->sku.value);
    append_number(out, c.mismatch->position.value);
    append_digest(out, c.mismatch->current);
    append_digest(out, c.mismatch->built);
  }
  return out;
}

std::optional<CatalogEntry> decode_catalog(std::string_view bytes) {
  Reader in(bytes);
  CatalogEntry c;
  c.version = in.number<std::uint32_t>();
  c.next = in.number<std::uint32_t>();
  const auto count = in.number<std::uint32_t>();
  unsigned current = 0;
  for (std::uint32_t i = 0; i < count && in.good(); ++i) {
    Generation g;
    g.number = in.number<std::uint32_t>();
    g.state = static_cast<GenerationState>(in.number<std::uint8_t>());
    if (g.state < GenerationState::current || g.state > GenerationState::dropped) {
      return std::nullopt;
    }
    g.force = in.boolean();
    current += g.state == GenerationState::current ? 1 : 0;
    c.generations.push_back(g);
  }
  if (in.boolean()) {
    Mismatch m;
    m.generation = in.number<std::uint32_t>();
    m.sku = SkuId{in.number<std::uint64_t>()};
    m.position = Seq{in.number<std::uint64_t>()};
    m.current = in.digest();
    m.built = in.digest();
    c.mismatch = m;
  }
  if (!in.whole() || current != 1) return std::nullopt;
  return c;
}

std::string_view name_of(GenerationState s) {
  switch (s) {
    case GenerationState::current: return "current";
    case GenerationState::building: return "building";
    case GenerationState::old: return "old";
    case GenerationState::refused: return "refused";
    case GenerationState::dropped: return "dropped";
  }
  return "unknown";
}

const Generation* CatalogEntry::in_state(GenerationState state) const {
  const auto found = std::find_if(generations.begin(), generations.end(),
                                  [&](const Generation& g) { return g.state == state; });
  return found == generations.end() ? nullptr : &*found;
}

std::uint32_t CatalogEntry::current() const {
  const Generation* g = in_state(GenerationState::current);
  FAIRSALE_INVARIANT(g != nullptr, "one generation is current");
  return g->number;
}

fs::path projections_directory(const fs::path& data) { return data / "projections"; }

struct ProjectionStore::Impl {
  ScratchDirectory scratch;  // of a view
  std::unique_ptr<rocksdb::DB> db;

  Result<std::optional<std::string>> get(const rocksdb::ReadOptions& ro,
                                         std::string_view key) const {
    std::string value;
    const rocksdb::Status s = db->Get(ro, slice(key), &value);
    if (s.IsNotFound()) return std::optional<std::string>();
    if (!s.ok()) return rocks_failure("cannot be read", s);
    return std::optional<std::string>(std::move(value));
  }

  Result<std::optional<CatalogEntry>> catalog(const rocksdb::ReadOptions& ro,
                                              StoredProjection p) const {
    const auto bytes = get(ro, catalog_key(p));
    if (!bytes) return tl::unexpected(bytes.error());
    if (!*bytes) return std::optional<CatalogEntry>();
    auto entry = decode_catalog(**bytes);
    if (!entry) return illegible("a catalog entry");
    return entry;
  }

  Result<Coverage> coverage(const rocksdb::ReadOptions& ro, GenerationId g, SkuId sku) const {
    const auto bytes = get(ro, coverage_key(g, sku));
    if (!bytes) return tl::unexpected(bytes.error());
    if (!*bytes) return Coverage{};
    const auto c = decode_coverage(**bytes);
    if (!c) return illegible("a SKU's coverage");
    return *c;
  }

  Result<void> each(const rocksdb::ReadOptions& given, const std::string& from,
                    const std::string& end,
                    const std::function<bool(std::string_view, std::string_view)>& visit) const {
    rocksdb::ReadOptions ro = given;
    const rocksdb::Slice upper = slice(end);
    ro.iterate_upper_bound = &upper;
    const std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(ro));
    for (it->Seek(slice(from)); it->Valid(); it->Next()) {
      if (!visit(it->key().ToStringView(), it->value().ToStringView())) break;
    }
    if (!it->status().ok()) return rocks_failure("cannot be read", it->status());
    return {};
  }

  // What reads of a projection's current generation begin with.
  struct Look {
    GenerationId generation;
    Coverage coverage;
  };
  Result<Look> look(const rocksdb::ReadOptions& ro, StoredProjection p, SkuId sku) const {
    const auto entry = catalog(ro, p);
    if (!entry) return tl::unexpected(entry.error());
    Look l;
    if (!*entry) return l;
    l.generation = {p, (*entry)->current()};
    const auto c = coverage(ro, l.generation, sku);
    if (!c) return tl::unexpected(c.error());
    l.coverage = *c;
    return l;
  }
};

ProjectionStore::ProjectionStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

ProjectionStore::~ProjectionStore() {
  if (impl_->db) impl_->db->Close().PermitUncheckedError();
}

namespace {

Result<void> check_format(rocksdb::DB& db, const fs::path& directory, bool writable) {
  std::string text;
  const rocksdb::Status s = db.Get(rocksdb::ReadOptions(), slice(kFormatKey), &text);
  if (s.IsNotFound()) {
    if (!writable) return fail(Fault::not_found, "the store of projections is empty");
    const rocksdb::Status put = db.Put(rocksdb::WriteOptions(), slice(kFormatKey), slice(kFormat));
    if (!put.ok()) return rocks_failure("cannot be written", put);
    return {};
  }
  if (!s.ok()) return rocks_failure("cannot be read", s);
  if (text == kFormat) return {};
  if (text.starts_with(kFormatFamily)) {
    return fail(
        Fault::unsupported,
        fmt::format("{} says \"{}\": written by a newer fairsale. Use that one, or stop the "
                    "server and delete the directory: it is rebuilt from the log",
                    directory.string(), text));
  }
  return illegible("a format");
}

// Rows that are missing between the tables and the write-ahead log, or within it, would be missed
// by nobody: RocksDB goes on behind the gap. A torn end is no gap.
Result<void> check_gaps(const fs::path& directory, const rocksdb::Options& options) {
  std::error_code ec;
  if (!fs::exists(directory / "CURRENT", ec)) return {};
  rocksdb::DBOptions d(options);
  d.create_if_missing = false;
  const auto tables = look_at_tables(
      directory, d, {{rocksdb::kDefaultColumnFamilyName, rocksdb::ColumnFamilyOptions(options)}});
  if (!tables) return {};  // the opening says what is wrong
  const auto scan = scan_wals(directory, tables->first_wal);
  if (!scan) return tl::unexpected(scan.error());
  const bool before = scan->first && scan->first->first_sequence > tables->sequence + 1;
  if (!before && (!scan->damage || scan->damage->at_the_end)) return {};
  return fail(Fault::damaged, fmt::format("{} lacks something of what was written to it; it is "
                                          "moved aside and rebuilt from the log",
                                          directory.string()));
}

}  // namespace

Result<std::unique_ptr<ProjectionStore>> ProjectionStore::open(const fs::path& directory,
                                                               rocksdb::Env* env) {
  if (auto ok = ensure_directory(directory); !ok) return tl::unexpected(ok.error());
  auto impl = std::make_unique<Impl>();
  rocksdb::Options options = database_options();
  if (env != nullptr) options.env = env;
  if (auto ok = check_gaps(directory, options); !ok) return tl::unexpected(ok.error());
  rocksdb::DB* db = nullptr;
  const rocksdb::Status s = rocksdb::DB::Open(options, directory.string(), &db);
  if (!s.ok()) {
    auto e = rocks_failure(fmt::format("{} cannot be opened", directory.string()), s);
    // Files that are not what they should be come as any kind of failure; only these are others.
    if (!s.IsNoSpace() && !s.IsBusy() && !s.IsLockLimit() && !of_the_machine(s.ToString())) {
      e.value().fault = Fault::damaged;
    }
    return e;
  }
  impl->db.reset(db);
  if (auto ok = check_format(*db, directory, true); !ok) return tl::unexpected(ok.error());
  return std::unique_ptr<ProjectionStore>(new ProjectionStore(std::move(impl)));
}

Result<std::unique_ptr<ProjectionStore>> ProjectionStore::open_view(const fs::path& directory) {
  std::error_code ec;
  if (!fs::exists(directory / "CURRENT", ec)) {
    return fail(Fault::not_found,
                fmt::format("there are no projections in {}", directory.string()));
  }
  auto scratch = ScratchDirectory::create();
  if (!scratch) return tl::unexpected(scratch.error());
  auto impl = std::make_unique<Impl>();
  impl->scratch = std::move(*scratch);
  rocksdb::Options o = database_options();
  o.create_if_missing = false;
  o.max_open_files = -1;  // a secondary must keep what the writer may delete
  rocksdb::DB* db = nullptr;
  // The writer may delete a file between the look at the list of files and the opening of one.
  rocksdb::Status s;
  for (int i = 0; i < 5; ++i) {
    s = rocksdb::DB::OpenAsSecondary(o, directory.string(), impl->scratch.path().string(), &db);
    if (s.ok()) break;
  }
  if (!s.ok()) return rocks_failure(fmt::format("{} cannot be opened", directory.string()), s);
  impl->db.reset(db);
  s = db->TryCatchUpWithPrimary();
  if (!s.ok()) return rocks_failure(fmt::format("{} cannot be read", directory.string()), s);
  if (auto ok = check_format(*db, directory, false); !ok) return tl::unexpected(ok.error());
  return std::unique_ptr<ProjectionStore>(new ProjectionStore(std::move(impl)));
}

Result<std::optional<CatalogEntry>> ProjectionStore::catalog(StoredProjection p) const {
  return impl_->catalog({}, p);
}

Result<void> ProjectionStore::put_catalog(StoredProjection p, const CatalogEntry& entry) {
  rocksdb::WriteOptions wo;
  wo.no_slowdown = true;
  const rocksdb::Status s = impl_->db->Put(wo, slice(catalog_key(p)), slice(encode(entry)));
  if (!s.ok()) return rocks_failure("cannot be written", s);
  return {};
}

Result<Coverage> ProjectionStore::coverage(GenerationId g, SkuId sku) const {
  return impl_->coverage({}, g, sku);
}

Result<void> ProjectionStore::each_coverage(
    GenerationId g, const std::function<bool(SkuId, const Coverage&)>& visit) const {
  const std::string prefix = prefix_of('M', g);
  bool good = true;
  rocksdb::ReadOptions ro;
  ro.fill_cache = false;
  const auto read = impl_->each(ro, prefix, end_of(prefix), [&](auto key, auto value) {
    const auto c = decode_coverage(value);
    good = c && key.size() == kSkuPrefix;
    return good && visit(SkuId{get_be64(key.data() + kGenerationPrefix)}, *c);
  });
  if (!read) return read;
  if (!good) return illegible("a SKU's coverage");
  return {};
}

Result<void> ProjectionStore::each_sku_with_rows(GenerationId g,
                                                 const std::function<void(SkuId)>& visit) const {
  const std::string end = end_of(prefix_of('R', g));
  std::string next = prefix_of('R', g);
  for (std::optional<SkuId> found;; found.reset()) {
    bool good = true;
    const auto read = impl_->each({}, next, end, [&](auto key, auto) {
      good = key.size() >= kSkuPrefix;
      if (good) found = SkuId{get_be64(key.data() + kGenerationPrefix)};
      return false;
    });
    if (!read) return read;
    if (!good) return illegible("a row's key");
    if (!found) return {};
    visit(*found);
    next = end_of(row_key(g, *found, {}));
  }
}

Result<void> ProjectionStore::each_row(GenerationId g, SkuId sku, std::string_view prefix,
                                       std::string_view from, const RowVisitor& visit) const {
  rocksdb::ReadOptions ro;
  ro.fill_cache = false;
  return impl_->each(ro, row_key(g, sku, std::max(prefix, from)), end_of(row_key(g, sku, prefix)),
                     [&](auto key, auto value) { return visit(key.substr(kSkuPrefix), value); });
}

Result<std::optional<std::string>> ProjectionStore::row(GenerationId g, SkuId sku,
                                                        std::string_view key) const {
  return impl_->get({}, row_key(g, sku, key));
}

Result<OrderPage> ProjectionStore::orders(SkuId sku, Seq after, std::size_t limit) const {
  rocksdb::ManagedSnapshot moment(impl_->db.get());
  rocksdb::ReadOptions ro;
  ro.snapshot = moment.snapshot();
  const auto look = impl_->look(ro, StoredProjection::orders, sku);
  if (!look) return tl::unexpected(look.error());
  OrderPage page{.position = look->coverage.position};
  if (page.position.value == 0 || after >= page.position) return page;
  bool good = true;
  const GenerationId g = look->generation;
  const auto read = impl_->each(ro, row_key(g, sku, order_key(Seq{after.value + 1})),
                                end_of(row_key(g, sku, kOrderKeys)), [&](auto key, auto value) {
                                  if (page.orders.size() == limit) {
                                    page.more = true;
                                    return false;
                                  }
                                  const auto order = decode_order(key.substr(kSkuPrefix), value);
                                  good = order.has_value();
                                  if (good) page.orders.push_back({*order, {}});
                                  return good;
                                });
  if (!read) return tl::unexpected(read.error());
  for (OrderEntry& e : page.orders) {
    const std::string key = refund_key(e.order.purchase);
    const auto bytes = impl_->get(ro, row_key(g, sku, key));
    if (!bytes) return tl::unexpected(bytes.error());
    if (!*bytes) continue;
    e.refund = decode_refund(key, **bytes);
    good = good && e.refund.has_value();
  }
  if (!good) return illegible("an order");
  return page;
}

Result<TimelinePage> ProjectionStore::timeline(SkuId sku, std::int64_t after,
                                               std::size_t limit) const {
  rocksdb::ManagedSnapshot moment(impl_->db.get());
  rocksdb::ReadOptions ro;
  ro.snapshot = moment.snapshot();
  const auto look = impl_->look(ro, StoredProjection::timeline, sku);
  if (!look) return tl::unexpected(look.error());
  TimelinePage page{.position = look->coverage.position};
  if (page.position.value == 0) return page;
  bool good = true;
  const GenerationId g = look->generation;
  const auto read = impl_->each(ro, row_key(g, sku, timeline_key(after + 1)),
                                end_of(row_key(g, sku, {})), [&](auto key, auto value) {
                                  if (page.seconds.size() == limit) {
                                    page.more = true;
                                    return false;
                                  }
                                  const auto row = decode_timeline(key.substr(kSkuPrefix), value);
                                  good = row.has_value();
                                  if (good) page.seconds.push_back(*row);
                                  return good;
                                });
  if (!read) return tl::unexpected(read.error());
  if (!good) return illegible("a second");
  return page;
}

Result<MessagePage> ProjectionStore::messages(SkuId sku, Seq after, std::uint32_t number,
                                              std::size_t limit) const {
  rocksdb::ManagedSnapshot moment(impl_->db.get());
  rocksdb::ReadOptions ro;
  ro.snapshot = moment.snapshot();
  const auto look = impl_->look(ro, StoredProjection::outbox, sku);
  if (!look) return tl::unexpected(look.error());
  MessagePage page{.position = look->coverage.position};
  if (after > page.position || page.position.value == 0) return page;
  bool good = true;
  const GenerationId g = look->generation;
  const auto read = impl_->each(ro, row_key(g, sku, message_key(after, number) + '\0'),
                                end_of(row_key(g, sku, {})), [&](auto key, auto value) {
                                  if (page.messages.size() == limit) return false;
                                  const auto row = decode_message(key.substr(kSkuPrefix), value);
                                  good = row.has_value();
                                  if (good) page.messages.push_back(*row);
                                  return good;
                                });
  if (!read) return tl::unexpected(read.error());
  if (!good) return illegible("a message");
  return page;
}

Result<Seq> ProjectionStore::position(StoredProjection p, SkuId sku) const {
  rocksdb::ManagedSnapshot moment(impl_->db.get());
  rocksdb::ReadOptions ro;
  ro.snapshot = moment.snapshot();
  const auto look = impl_->look(ro, p, sku);
  if (!look) return tl::unexpected(look.error());
  return look->coverage.position;
}

Result<void> ProjectionStore::resume() {
  const rocksdb::Status s = impl_->db->Resume();
  if (!s.ok()) return rocks_failure("cannot be written", s);
  return {};
}

// ---- Writing ----

struct ProjectionStore::Batch::Impl {
  explicit Impl(ProjectionStore::Impl& s) : store(s) {}

  ProjectionStore::Impl& store;
  rocksdb::WriteBatch writes;
};

ProjectionStore::Batch::Batch(ProjectionStore& store)
    : impl_(std::make_unique<Impl>(*store.impl_)) {}

ProjectionStore::Batch::~Batch() = default;

Result<ProjectionStore::Batch::Added> ProjectionStore::Batch::add(GenerationId g,
                                                                  const Stretch& s) {
  const auto& store = impl_->store;
  auto have = store.coverage({}, g, s.sku);
  if (!have) return tl::unexpected(have.error());
  Added out{.before = have->position, .after = have->position};
  out.gap = s.from > have->position;
  if (out.gap || s.to <= have->position) return out;

  RowSum sum(have->digest);
  std::optional<Error> error;
  // A row that may be there already is replaced: its hash leaves the sum.
  const auto put = [&](std::string_view key, std::string_view value, bool may_exist) {
    const std::string full = row_key(g, s.sku, key);
    bool fresh = true;
    if (may_exist) {
      const auto before = store.get({}, full);
      if (!before) {
        error = before.error();
        return;
      }
      if (*before) {
        fresh = false;
        sum.remove(row_hash(g.projection, s.sku, key, **before));
      }
    }
    out.rows += fresh ? 1 : 0;
    sum.add(row_hash(g.projection, s.sku, key, value));
    impl_->writes.Put(slice(full), slice(value)).PermitUncheckedError();
  };
  switch (g.projection) {
    case StoredProjection::availability:
      if (!s.json().empty()) put({}, s.json(), true);
      break;
    case StoredProjection::timeline:
      // Only the first second that is new here can have begun before.
      for (bool first = true; const TimelineRow& r : s.seconds) {
        if (r.position <= have->position) continue;
        const StoredRow row = encode(r);
        put(row.key, row.value, std::exchange(first, false));
      }
      break;
    case StoredProjection::orders:
      for (const OrderRow& r : s.orders) {
        if (r.position <= have->position) continue;
        const StoredRow row = encode(r);
        put(row.key, row.value, false);
      }
      for (const RefundRow& r : s.refunds) {
        if (r.position <= have->position) continue;
        const StoredRow row = encode(r);
        put(row.key, row.value, false);
      }
      break;
    case StoredProjection::outbox:
      for (const MessageRow& r : s.messages) {
        if (r.position <= have->position) continue;
        const StoredRow row = encode(r);
        put(row.key, row.value, false);
      }
      break;
  }
  if (error) return tl::unexpected(*error);
  have->position = s.to;
  have->rows += static_cast<std::uint64_t>(out.rows);
  have->digest = sum.digest();
  impl_->writes.Put(slice(coverage_key(g, s.sku)), slice(encode(*have))).PermitUncheckedError();
  out.after = s.to;
  return out;
}

void ProjectionStore::Batch::forget(GenerationId g, SkuId sku) {
  const std::string rows = row_key(g, sku, {});
  impl_->writes.DeleteRange(slice(rows), slice(end_of(rows))).PermitUncheckedError();
  impl_->writes.Delete(slice(coverage_key(g, sku))).PermitUncheckedError();
}

void ProjectionStore::Batch::forget(GenerationId g) {
  for (const char kind : {'M', 'R'}) {
    const std::string prefix = prefix_of(kind, g);
    impl_->writes.DeleteRange(slice(prefix), slice(end_of(prefix))).PermitUncheckedError();
  }
}

std::size_t ProjectionStore::Batch::bytes() const { return impl_->writes.GetDataSize(); }

Result<void> ProjectionStore::Batch::write() {
  if (impl_->writes.Count() == 0) return {};
  const rocksdb::Status s = impl_->store.db->Write(rocksdb::WriteOptions(), &impl_->writes);
  impl_->writes.Clear();
  if (!s.ok()) return rocks_failure("cannot be written", s);
  return {};
}

}  // namespace fairsale
