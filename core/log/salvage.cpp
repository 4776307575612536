#include "core/log/salvage.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <system_error>

#include "core/log/acked.hpp"
#include "core/log/copy_log.hpp"
#include "core/log/data_directory.hpp"
#include "core/log/files.hpp"
#include "core/log/rocks_database.hpp"
#include "core/log/rocks_log.hpp"
#include "core/log/wal_scan.hpp"

namespace fairsale {

namespace fs = std::filesystem;

namespace {

// Removes a directory at the end, whatever happens.
struct Temporary {
  explicit Temporary(fs::path p) : path(std::move(p)) {}
  Temporary(const Temporary&) = delete;
  Temporary& operator=(const Temporary&) = delete;
  ~Temporary() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
  fs::path path;
};

// Tables never change, so a link will do; all else is copied, since RocksDB writes to it.
Result<void> copy_database(const fs::path& from, const fs::path& to) {
  std::error_code ec;
  fs::create_directories(to, ec);
  if (ec) return system_failure("create", to, ec.value());
  fs::directory_iterator file(from, ec);
  for (; !ec && file != fs::directory_iterator(); file.increment(ec)) {
    std::error_code failed;
    if (!file->is_regular_file(failed)) continue;
    const fs::path target = to / file->path().filename();
    if (file->path().extension() == ".sst") {
      fs::create_hard_link(file->path(), target, failed);
      if (!failed) continue;
    }
    fs::copy_file(file->path(), target, failed);
    if (failed) return system_failure("copy", file->path(), failed.value());
  }
  if (ec) return system_failure("list", from, ec.value());
  return {};
}

// What is wrong with the write-ahead log, for the report.
void note_wal_damage(const fs::path& directory, SalvageReport& report) {
  auto& notes = report.notes;
  // When the tables do not tell which files are needed, all are looked at.
  const auto tables = look_at_tables(directory, nullptr);
  const auto scan = scan_wals(directory, tables ? tables->first_wal : 0);
  if (!scan) {
    notes.push_back(scan.error().message);
    report.more_may_be_lost = true;
  } else if (scan->damage) {
    report.more_may_be_lost = true;
    const WalDamage& d = *scan->damage;
    notes.push_back(fmt::format("{} is damaged at offset {}: {}", d.file.filename().string(),
                                d.offset, d.what));
  }
}

// Opens the copy in whatever state it is; has RocksDB rebuild its list of files when it must.
Result<Database> open_copy(const fs::path& directory, std::vector<std::string>& notes) {
  rocksdb::DBOptions d = database_options(nullptr);
  d.paranoid_checks = false;
  // Whatever is legible is taken: which of it counts, the chain of each SKU tells.
  d.wal_recovery_mode = rocksdb::WALRecoveryMode::kSkipAnyCorruptedRecords;
  d.create_missing_column_families = true;
  Database db;
  const auto open = [&](auto* handles, auto* out) {
    return rocksdb::DB::Open(d, directory.string(), families(), handles, out);
  };
  rocksdb::Status s = Database::open(db, open);
  if (s.ok()) return db;
  notes.push_back(
      fmt::format("RocksDB does not open the store ({}); its list of files was made "
                  "anew from the files themselves",
                  s.ToString()));
  s = rocksdb::RepairDB(directory.string(), d, families());
  if (s.ok()) {
    d.create_if_missing = true;  // when not one file is left
    s = Database::open(db, open);
  }
  if (s.ok()) return db;
  auto e = rocks_failure("nothing can be read from the store", s);
  e.value().message += ". Restore a backup.";
  return e;
}

class Salvage {
 public:
  Salvage(Database& database, EventLog& out, const std::function<void(std::uint64_t)>& kept,
          SalvageReport& report)
      : db_(database), append_(out), kept_(kept), report_(report), notes_(report.notes) {}

  Result<std::vector<Salvaged>> run(const std::optional<Acked>& acked) {
    find_heads();
    find_blocks();
    if (acked) {
      for (const AckedHead& h : acked->heads) entry(h.sku).acked = h.seq;
    }
    // Commits are acknowledged in their order, so when the newest was, all were.
    const bool all_acked = acked && acked->sequence >= db_.db->GetLatestSequenceNumber();
    if (acked && acked->sequence > db_.db->GetLatestSequenceNumber()) {
      report_.more_may_be_lost = true;
      notes_.push_back(fmt::format(
          "the last {} entries that were acknowledged are gone, and of which sales they were is "
          "known of no more than {}",
          acked->sequence - db_.db->GetLatestSequenceNumber(), acked->heads.size()));
    }
    std::vector<Salvaged> all;
    for (auto& [id, s] : skus_) {
      if (auto ok = keep(s); !ok) return tl::unexpected(ok.error());
      if (s.acked && (!s.known || *s.acked > *s.known)) s.known = s.acked;
      if (all_acked) s.acked = s.known;
      if (s.why.empty() && s.known && *s.known > s.kept.seq) {
        s.why = "the blocks behind it are gone";
      }
      all.push_back(std::move(s));
    }
    if (auto ok = append_.finish(); !ok) return tl::unexpected(ok.error());
    return all;
  }

 private:
  Salvaged& entry(SkuId sku) {
    Salvaged& s = skus_[sku.value];
    s.sku = sku;
    return s;
  }

  // What is on record, as far as it is legible.
  void find_heads() {
    const std::unique_ptr<rocksdb::Iterator> it(
        db_.db->NewIterator(rocksdb::ReadOptions(), db_.heads));
    for (it->SeekToFirst(); it->Valid(); it->Next()) {
      if (it->key().size() != 8) continue;
      const SkuId sku{get_be64(it->key().data())};
      if (const auto r = decode_head(sku, it->value().ToStringView())) {
        entry(sku).known = r->head.seq;
      }
    }
    if (!it->status().ok()) {
      notes_.push_back(
          fmt::format("not all heads are legible ({}): how far some sales went is not "
                      "known",
                      it->status().ToString()));
    }
  }

  // SKUs whose heads are gone still have blocks.
  void find_blocks() {
    const std::unique_ptr<rocksdb::Iterator> it(
        db_.db->NewIterator(rocksdb::ReadOptions(), db_.blocks));
    std::uint64_t next = 0;
    for (;;) {
      it->Seek(slice(block_key(SkuId{next}, Seq{0})));
      std::optional<BlockKey> key;
      while (it->Valid() && !(key = parse_key(it->key().ToStringView()))) it->Next();
      if (key) {
        entry(key->sku);
        next = key->sku.value;
      } else if (it->status().ok()) {
        return;
      } else {
        // Behind what is illegible, the heads tell where to go on.
        notes_.push_back(
            fmt::format("not all blocks are legible ({}): there may be sales of which "
                        "nothing is left",
                        it->status().ToString()));
        const auto known = skus_.upper_bound(next);
        if (known == skus_.end()) return;
        next = known->first;
        continue;
      }
      if (next++ == ~std::uint64_t{0}) return;
    }
  }

  Result<void> keep(Salvaged& s) {
    rocksdb::ReadOptions ro;
    ro.fill_cache = false;
    const Key lower = block_key(s.sku, Seq{0});
    const Key upper = block_key(s.sku, Seq{~std::uint64_t{0}});
    const rocksdb::Slice upper_slice = slice(upper);
    ro.iterate_upper_bound = &upper_slice;
    const std::unique_ptr<rocksdb::Iterator> it(db_.db->NewIterator(ro, db_.blocks));
    for (it->Seek(slice(lower)); it->Valid(); it->Next()) {
      const auto view = BlockView::parse(bytes_of(it->value()));
      if (!view) {
        s.why = fmt::format("position {}: {}", s.kept.seq.value + 1, view.error().message);
        return {};
      }
      if (auto wrong = fault_of(s, *view, it->key().ToStringView()); !wrong.empty()) {
        s.why = fmt::format("position {}: {}", s.kept.seq.value + 1, wrong);
        return {};
      }
      if (auto ok = append_.add(*view); !ok) return ok;
      s.kept = {view->last(), view->header().time, view->digest()};
      if (!s.known || s.kept.seq > *s.known) s.known = s.kept.seq;
      if (kept_) kept_(view->header().count);
    }
    if (!it->status().ok()) {
      s.why = fmt::format("position {}: RocksDB says: {}", s.kept.seq.value + 1,
                          it->status().ToString());
    }
    return {};
  }

  // Why the block cannot follow what was kept; empty when it can.
  static std::string fault_of(Salvaged& s, const BlockView& block, std::string_view key) {
    const auto parsed = parse_key(key);
    if (!parsed || parsed->first != block.header().first || block.header().sku != s.sku) {
      return "the block under its key is another's";
    }
    if (auto ok = block.follows(s.kept); !ok) return ok.error().message;
    const auto legible = block.for_each([&](Seq, const Event& e) {
      const auto* scheduled = std::get_if<SaleScheduled>(&e);
      if (scheduled != nullptr && s.name.empty()) s.name = scheduled->sku.view();
    });
    return legible ? "" : legible.error().message;
  }

  Database& db_;
  BatchedAppend append_;
  const std::function<void(std::uint64_t)>& kept_;
  SalvageReport& report_;
  std::vector<std::string>& notes_;
  std::map<std::uint64_t, Salvaged> skus_;
};

}  // namespace

Result<SalvageReport> salvage(const fs::path& from, const fs::path& to,
                              const std::function<void(std::uint64_t)>& kept) {
  std::error_code ec;
  if (fs::exists(to, ec)) {
    return fail(Fault::invalid, fmt::format("{} exists already; move it away", to.string()));
  }
  if (!fs::is_directory(from / "log", ec)) {
    return fail(Fault::not_found,
                fmt::format("{} holds no log: there is nothing to repair", from.string()));
  }
  SalvageReport report;
  const fs::path work = to.string() + ".work";
  if (fs::exists(work, ec)) {
    return fail(Fault::invalid, fmt::format("{} is in the way; move it away", work.string()));
  }
  const Temporary copy(work);
  if (auto ok = copy_database(from / "log", copy.path); !ok) return tl::unexpected(ok.error());
  note_wal_damage(copy.path, report);
  auto database = open_copy(copy.path, report.notes);
  if (!database) return tl::unexpected(database.error());
  auto acked = AckedFile::read(from / "ACKED");
  if (!acked || !*acked) {
    report.notes.push_back("ACKED is missing or damaged: what was acknowledged last is not known");
  }
  RecoveryReport fresh;
  auto out = open_rocks_log({.directory = to}, fresh);
  if (!out) return tl::unexpected(out.error());
  auto skus = Salvage(*database, **out, kept, report).run(acked ? *acked : std::nullopt);
  if (!skus) return tl::unexpected(skus.error());
  (*out)->settle();
  report.skus = std::move(*skus);
  return report;
}

}  // namespace fairsale
