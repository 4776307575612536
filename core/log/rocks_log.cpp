#include "core/log/rocks_log.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <rocksdb/env.h>
#include <rocksdb/utilities/debug.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <unordered_map>
#include <utility>

#include "core/domain/invariant.hpp"
#include "core/log/acked.hpp"
#include "core/log/commit_check.hpp"
#include "core/log/data_directory.hpp"
#include "core/log/files.hpp"
#include "core/log/head_record.hpp"
#include "core/log/little_endian.hpp"
#include "core/log/rocks_database.hpp"
#include "core/log/snapshot_files.hpp"
#include "core/log/wal_scan.hpp"
#include "core/log/zeroed_wal.hpp"

namespace fairsale {

namespace fs = std::filesystem;

namespace {

Head head_after(const BlockView& b) { return {b.last(), b.header().time, b.digest()}; }

tl::unexpected<Error> with_advice(Error e) {
  if (e.fault == Fault::damaged) e.message += fmt::format(" {}", kDamageAdvice);
  return tl::unexpected(std::move(e));
}

class RocksLog : public EventLog {
 public:
  RocksLog(const RocksLogOptions& options, File lock, AckedFile acked)
      : options_(options),
        lock_(std::move(lock)),
        acked_(std::move(acked)),
        snapshots_(options.directory / "snapshots", true) {}

  RocksLog(const RocksLogOptions& options, ScratchDirectory scratch)
      : options_(options),
        scratch_(std::move(scratch)),
        snapshots_(options.directory / "snapshots", false) {}

  // Opens for writing; `acked` is what the ACKED file says.
  Result<void> open(const std::optional<Acked>& acked, RecoveryReport&);
  // Opens for reading, beside a writer or at rest.
  Result<void> open_secondary(RecoveryReport&);
  rocksdb::Status open_as_secondary(const rocksdb::DBOptions&);

  Result<void> append(std::span<const BlockWrite> blocks) override;
  Result<void> shorten(std::span<const SkuHead>) override;
  Result<void> read(SkuId sku, Seq from,
                    const std::function<bool(const BlockView&)>& visit) const override;
  Result<std::vector<SkuHead>> heads() const override;
  Result<std::vector<SkuHead>> durable_heads() const override;
  Result<std::vector<LastBlock>> last_blocks() const override;
  Result<void> put_snapshot(SkuId sku, const Head& at, const Sale& sale) override;
  Result<std::optional<Snapshot>> snapshot(SkuId sku, Seq at_most) const override;
  void settle() override;

 private:
  bool read_only() const { return !scratch_.path().empty(); }
  fs::path log_directory() const { return options_.directory / "log"; }

  Result<WalScan> judge(const std::optional<Acked>&) const;
  Result<WalScan> judge_beside_a_writer() const;
  Result<void> recover(const std::optional<Acked>&, RecoveryReport&);
  bool has_database() const;
  bool has_families() const;
  tl::unexpected<Error> gone(const Acked&) const;
  Result<fs::path> copy_wals(const std::vector<WalScan::Part>&) const;
  Result<void> keeps(const Acked&) const;
  Result<void> verify(const std::optional<Acked>&);
  Result<void> verify_last_blocks(const std::vector<std::pair<SkuId, HeadRecord>>&) const;
  Result<void> acknowledge(std::uint64_t sequence, std::span<const AckedHead> heads,
                           std::size_t skus);
  Result<std::vector<std::pair<SkuId, HeadRecord>>> head_records() const;
  Result<std::optional<HeadRecord>> head_record(SkuId sku) const;
  Result<Head> head_as_of(SkuId sku, std::uint64_t sequence) const;
  Result<bool> ends_a_block(SkuId sku, Seq seq, const Digest&) const;
  Result<void> take_back(const SkuHead&, rocksdb::WriteBatch&) const;
  std::string describe(SkuId sku) const;
  rocksdb::Status write(rocksdb::WriteBatch&) const;
  std::uint64_t last_sequence_of(const rocksdb::WriteBatch&) const;
  tl::unexpected<Error> die(Error);

  const RocksLogOptions options_;
  File lock_;
  ScratchDirectory scratch_;
  std::unique_ptr<rocksdb::Env> env_;  // outlives the database
  Database database_;

  std::mutex state_mutex_;  // heads_ and death_
  std::unordered_map<std::uint64_t, Head> heads_;
  std::optional<Error> death_;
  std::atomic<bool> dead_{false};

  std::mutex acked_mutex_;  // acked_ and acked_sequence_
  std::optional<AckedFile> acked_;
  std::uint64_t acked_sequence_ = 0;

  std::optional<std::uint64_t> durable_sequence_;  // of a reader: nothing behind it is provisional

  SnapshotFiles snapshots_;
};

std::string names_of(const Acked& a) {
  std::string names;
  for (const AckedHead& h : a.heads) {
    names += fmt::format("{}SKU {:016x} up to position {}", names.empty() ? "" : ", ", h.sku.value,
                         h.seq.value);
  }
  if (a.skus > a.heads.size()) {
    names += fmt::format(" and {} more SKUs", a.skus - a.heads.size());
  }
  return names;
}

std::string name_of(const WalCommit& c) {
  return c.sku ? fmt::format("SKU {:016x}, position {}", c.sku->value, c.first.value)
               : fmt::format("sequence number {}", c.first_sequence);
}

bool RocksLog::has_database() const {
  std::error_code ec;
  return fs::exists(log_directory() / "CURRENT", ec);
}

tl::unexpected<Error> RocksLog::gone(const Acked& acked) const {
  return fail(Fault::damaged,
              fmt::format("{} is missing, but {} were acknowledged. Nothing was changed. {}",
                          (log_directory() / "CURRENT").string(), names_of(acked), kDamageAdvice));
}

// Whether all column families have been created: RocksDB makes them one by one.
bool RocksLog::has_families() const {
  std::vector<std::string> names;
  const rocksdb::Status s = rocksdb::DB::ListColumnFamilies(database_options(options_.env),
                                                            log_directory().string(), &names);
  if (!s.ok()) return true;  // recover() says what is wrong
  for (const auto& family : families()) {
    if (std::find(names.begin(), names.end(), family.name) == names.end()) return false;
  }
  return true;
}

// "<file> is damaged at offset <n>: <what>", and what follows it.
std::string name_of(const WalDamage& d) {
  std::string text =
      fmt::format("{} is damaged at offset {}: {}", d.file.string(), d.offset, d.what);
  if (!d.at_the_end) {
    text += fmt::format(", and what was committed later follows{}",
                        d.later ? fmt::format(" ({})", name_of(*d.later)) : "");
  }
  return text;
}

tl::unexpected<Error> refuse(std::string what, const WalScan& scan) {
  if (scan.last) what += fmt::format(" The last whole commit is of {}.", name_of(*scan.last));
  return fail(Fault::damaged, fmt::format("{} Nothing was changed. {}", what, kDamageAdvice));
}

// Judges the write-ahead log of a store that nobody writes to, before RocksDB sees it. Refuses
// damage, returns as damage only a torn tail that was never acknowledged, and changes nothing.
Result<WalScan> RocksLog::judge(const std::optional<Acked>& acked) const {
  const auto in_tables = look_at_tables(log_directory(), options_.env);
  if (!in_tables) return tl::unexpected(in_tables.error());
  auto scan = scan_wals(log_directory(), in_tables->first_wal);
  if (!scan) return tl::unexpected(scan.error());
  // Every commit goes to the newest log file; what tables say covers it only when there is none.
  const std::uint64_t last = scan->last ? scan->last->last_sequence : in_tables->sequence;
  const std::uint64_t promised = acked ? acked->sequence : 0;

  if (scan->first && scan->first->first_sequence > in_tables->sequence + 1) {
    return refuse(
        fmt::format("{}: commits are missing between the tables (sequence number {}) "
                    "and the write-ahead log (from {}).",
                    log_directory().string(), in_tables->sequence, scan->first->first_sequence),
        *scan);
  }
  if (scan->damage && (!scan->damage->at_the_end || last < promised)) {
    std::string what = name_of(*scan->damage) + ".";
    if (last < promised) {
      what += fmt::format(" Acknowledged before, and now missing: {}.", names_of(*acked));
    }
    return refuse(std::move(what), *scan);
  }
  if (scan->damage && !acked) {
    return refuse(name_of(*scan->damage) +
                      ", and without a whole ACKED file it cannot be told whether that was "
                      "acknowledged.",
                  *scan);
  }
  if (last < promised) {
    return refuse(fmt::format("{} ends at sequence number {}, but {} was acknowledged. "
                              "Acknowledged before, and now missing: {}.",
                              log_directory().string(), last, promised, names_of(*acked)),
                  *scan);
  }
  return scan;
}

// The same beside a writer, whose last write may be half to be seen, and who removes files: only
// damage that stays where it is while the log grows behind it is damage. Returns what was whole.
Result<WalScan> RocksLog::judge_beside_a_writer() const {
  std::optional<WalDamage> before;
  std::uint64_t from = 0;
  for (int i = 0; i < 100; ++i) {
    auto scan = scan_wals(log_directory(), from);
    // The writer removes files that it no longer needs.
    if (!scan && scan.error().fault == Fault::not_found) continue;
    if (!scan) return tl::unexpected(scan.error());
    const auto& damage = scan->damage;
    if (!damage || damage->at_the_end) return scan;
    if (damage->between_files) {
      from = damage->number;
      continue;
    }
    if (before && before->file == damage->file && before->offset == damage->offset) {
      return refuse(name_of(*damage) + ".", *scan);
    }
    before = damage;
  }
  return fail(Fault::busy, fmt::format("{} changes faster than it can be read; try again",
                                       log_directory().string()));
}

// Makes the write-ahead log durable as it is, and cuts off a torn tail that was never acknowledged.
Result<void> RocksLog::recover(const std::optional<Acked>& acked, RecoveryReport& report) {
  const auto scan = judge(acked);
  if (!scan) return tl::unexpected(scan.error());
  // The process before may have left an end, or the cutting off of one, in the system's cache. Were
  // commits to follow in the next file, a power failure that brings back what was there before
  // would look like damage amid the log.
  for (const WalScan::Part& part : scan->parts) {
    const auto file = open_file(part.file, O_RDONLY);
    if (!file) return tl::unexpected(file.error());
    if (auto ok = sync_file(*file, part.file); !ok) return ok;
  }
  if (!scan->damage) return {};
  const WalDamage& d = *scan->damage;
  const auto stem = fmt::format("torn-{}-{}", d.file.stem().string(), d.offset);
  fs::path keep_as = options_.directory / (stem + ".bin");
  for (int i = 1; fs::exists(keep_as) && i < 1000; ++i) {
    keep_as = options_.directory / fmt::format("{}-{}.bin", stem, i);
  }
  if (auto ok = cut_torn_tail(d, keep_as); !ok) return ok;
  report.notes.push_back(
      fmt::format("{}; that write was never acknowledged: its {} bytes were moved to {}, and the "
                  "log goes on from before it",
                  name_of(d), d.size - d.offset, keep_as.string()));
  return {};
}

Result<void> RocksLog::open(const std::optional<Acked>& acked, RecoveryReport& report) {
  const bool exists = has_database();
  if (exists && acked && acked->sequence == 0 && !has_families()) {
    // The first start was cut short before the store was whole; RocksDB completes it below.
  } else if (exists) {
    if (auto ok = recover(acked, report); !ok) return ok;
    if (!acked) {
      report.notes.push_back(
          "ACKED was missing or damaged, so it is not known whether the log once held more; it is "
          "written anew");
    }
  } else if (acked && acked->sequence != 0) {
    return gone(*acked);
  } else {
    // Nothing is acknowledged yet, and that is on record before there is a log that could be torn.
    if (auto ok = acked_->record({}); !ok) return ok;
    if (auto ok = acked_->sync(); !ok) return ok;
  }

  // RocksDB creates its directory, but first complains on standard error that there is none.
  if (auto ok = ensure_directory(log_directory()); !ok) return ok;
  // Names that a killed process left are made durable before more is built on them: with a log
  // file, but without the CURRENT that was before it, RocksDB would refuse to start.
  if (auto ok = sync_directory(log_directory()); !ok) return ok;
  rocksdb::DBOptions d = database_options(options_.env);
  const rocksdb::Env* base = options_.env != nullptr ? options_.env : rocksdb::Env::Default();
  env_ = rocksdb::NewCompositeEnv(with_zeroed_wal(base->GetFileSystem()));
  d.env = env_.get();
  d.create_if_missing = !exists;
  d.create_missing_column_families = true;
  const rocksdb::Status s = Database::open(database_, [&](auto* handles, auto* out) {
    return rocksdb::DB::Open(d, log_directory().string(), families(options_.write_buffer), handles,
                             out);
  });
  if (!s.ok()) {
    auto e = rocks_failure(fmt::format("cannot open {}", log_directory().string()), s);
    if (e.value().fault == Fault::damaged) e.value().message += fmt::format(". {}", kDamageAdvice);
    return e;
  }
  if (!exists) {
    if (auto ok = sync_directory(options_.directory); !ok) return ok;
  }
  if (auto ok = verify(acked); !ok) {
    return with_advice(ok.error());
  }
  return {};
}

// Checks that the opened database holds what was acknowledged.
Result<void> RocksLog::keeps(const Acked& acked) const {
  const std::uint64_t latest = database_.db->GetLatestSequenceNumber();
  if (latest < acked.sequence) {
    return fail(Fault::damaged, fmt::format("the log was recovered up to sequence number {}, but "
                                            "{} was acknowledged: {}.",
                                            latest, acked.sequence, names_of(acked)));
  }
  for (const AckedHead& h : acked.heads) {
    const auto now = head_record(h.sku);
    if (!now) return tl::unexpected(now.error());
    if (*now && (*now)->head.seq == h.seq && (*now)->head.digest == h.digest) continue;
    const auto found = ends_a_block(h.sku, h.seq, h.digest);
    if (!found) return tl::unexpected(found.error());
    if (!*found) {
      return fail(Fault::damaged,
                  fmt::format("{}: position {} was acknowledged with digest {}, but the log has "
                              "no such block.",
                              describe(h.sku), h.seq.value, to_hex(h.digest)));
    }
  }
  return {};
}

// Checks the recovered store against what was acknowledged, and each head against its last block.
Result<void> RocksLog::verify(const std::optional<Acked>& acked) {
  if (acked) {
    if (auto ok = keeps(*acked); !ok) return ok;
  }
  const auto records = head_records();
  if (!records) return tl::unexpected(records.error());
  if (auto ok = verify_last_blocks(*records); !ok) return ok;
  std::vector<AckedHead> newest;
  for (const auto& [sku, r] : *records) {
    heads_.emplace(sku.value, r.head);
    if (newest.size() < kMaxAckedHeads) newest.push_back({sku, r.head.seq, r.head.digest});
  }
  const std::uint64_t latest = database_.db->GetLatestSequenceNumber();
  // What was recovered counts from now on: readers see it.
  if (latest == 0 || (acked && acked->sequence == latest)) {
    acked_sequence_ = latest;
    return {};
  }
  if (auto ok = acknowledge(latest, newest, records->size()); !ok) return ok;
  return acked_->sync();
}

// Walks heads and blocks side by side: each head must be that of the last block of its SKU, and
// each SKU with blocks must have a head. Reads only the first and the last block of a SKU.
Result<void> RocksLog::verify_last_blocks(
    const std::vector<std::pair<SkuId, HeadRecord>>& records) const {
  rocksdb::ReadOptions ro;
  ro.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(database_.db->NewIterator(ro, database_.blocks));
  const auto current = [&it] {
    return it->Valid() ? parse_key(it->key().ToStringView()) : std::nullopt;
  };
  const auto problem = [&](SkuId sku, std::string_view what) {
    if (it->status().ok()) return fail(Fault::damaged, fmt::format("{}: {}.", describe(sku), what));
    return rocks_failure(fmt::format("{}: cannot read its blocks", describe(sku)), it->status());
  };

  it->SeekToFirst();
  for (const auto& [sku, record] : records) {
    if (const auto first = current(); first && first->sku < sku) {
      return problem(first->sku, "it has blocks but no head");
    }
    it->Seek(slice(block_key(sku, record.last_block)));
    const auto last = current();
    if (!last || last->sku != sku || last->first != record.last_block) {
      return problem(sku, fmt::format("the block that its head names, at position {}, is missing",
                                      record.last_block.value));
    }
    const auto view = BlockView::parse(bytes_of(it->value()));
    if (!view) {
      return fail(view.error().fault, fmt::format("{}, position {}: {}.", describe(sku),
                                                  record.last_block.value, view.error().message));
    }
    if (view->header().sku != sku || view->header().first != record.last_block ||
        head_after(*view) != record.head) {
      return problem(sku, fmt::format("its last block, at position {}, does not match the head",
                                      record.last_block.value));
    }
    it->Next();
    if (const auto next = current(); next && next->sku == sku) {
      return problem(sku, fmt::format("a block at position {} lies behind the head, which is at {}",
                                      next->first.value, record.head.seq.value));
    }
  }
  if (!it->status().ok()) return rocks_failure("cannot read the blocks", it->status());
  if (const auto next = current()) return problem(next->sku, "it has blocks but no head");
  if (it->Valid()) return fail(Fault::damaged, "the log holds a key that is not one of a block.");
  return {};
}

// A directory of copies of the write-ahead log files as far as they are whole. A RocksDB secondary
// refuses a tear; and of a file that grows while it is read, it would take zeros for the end of a
// block and go on behind it.
Result<fs::path> RocksLog::copy_wals(const std::vector<WalScan::Part>& parts) const {
  const fs::path directory = scratch_.path() / "wal";
  std::error_code ec;
  fs::remove_all(directory, ec);
  fs::create_directory(directory, ec);
  for (const WalScan::Part& part : parts) {
    if (ec) break;
    const fs::path to = directory / part.file.filename();
    fs::copy_file(part.file, to, ec);
    // One that the writer has removed since is no longer needed.
    if (ec == std::errc::no_such_file_or_directory) {
      ec.clear();
      continue;
    }
    if (!ec) fs::resize_file(to, part.end, ec);
  }
  if (ec) return system_failure("fill", directory, ec.value());
  return directory;
}

rocksdb::Status RocksLog::open_as_secondary(const rocksdb::DBOptions& d) {
  return Database::open(database_, [&](auto* handles, auto* out) {
    return rocksdb::DB::OpenAsSecondary(d, log_directory().string(), scratch_.path().string(),
                                        families(), handles, out);
  });
}

Result<void> RocksLog::open_secondary(RecoveryReport& report) {
  // Read before the log: whatever is on record as acknowledged then must be found.
  const auto acked = AckedFile::read(options_.directory / "ACKED");
  if (!acked) return tl::unexpected(acked.error());
  const bool exists = has_database();
  if (!exists && *acked && (*acked)->sequence != 0) return gone(**acked);
  // Or the first start was cut short before the store was whole.
  if (!exists || (*acked && (*acked)->sequence == 0 && !has_families())) {
    return fail(Fault::not_found, fmt::format("{} holds no log yet", options_.directory.string()));
  }
  rocksdb::DBOptions d = database_options(options_.env);
  d.max_open_files = -1;  // so that files which the writer deletes stay readable
  rocksdb::Status s;
  if (is_taken(options_.directory)) {
    // The writer may put other files in place of those that the opening is about to read, and move
    // commits from the log files to tables after those were copied.
    for (int i = 0; i < 20; ++i) {
      const auto scan = judge_beside_a_writer();
      if (!scan) return tl::unexpected(scan.error());
      const auto wals = copy_wals(scan->parts);
      if (!wals) return tl::unexpected(wals.error());
      d.wal_dir = wals->string();
      database_ = {};
      s = open_as_secondary(d);
      const bool whole = s.ok() && (!scan->last || database_.db->GetLatestSequenceNumber() <=
                                                       scan->last->last_sequence);
      if (whole) break;
      if (!s.ok() && !s.IsPathNotFound() && !s.IsTryAgain() && !s.IsCorruption()) break;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
  } else {
    const auto scan = judge(*acked);
    if (!scan) return tl::unexpected(scan.error());
    if (scan->damage) {
      report.notes.push_back(fmt::format("{}; that write was never acknowledged and is left out",
                                         name_of(*scan->damage)));
    }
    // A secondary reads obsolete files too, whose end may be torn.
    if (scan->damage || scan->obsolete) {
      const auto wals = copy_wals(scan->parts);
      if (!wals) return tl::unexpected(wals.error());
      d.wal_dir = wals->string();
    }
    s = open_as_secondary(d);
  }
  if (!s.ok()) {
    return rocks_failure(fmt::format("cannot open {} for reading", log_directory().string()), s);
  }
  if (*acked) {
    if (auto ok = keeps(**acked); !ok) return with_advice(ok.error());
  }
  // Read again: what was under way when the log was copied has mostly been acknowledged since.
  const auto since = AckedFile::read(options_.directory / "ACKED");
  if (!since) return tl::unexpected(since.error());
  if (*since) durable_sequence_ = (*since)->sequence;
  return {};
}

tl::unexpected<Error> RocksLog::die(Error e) {
  const std::lock_guard lock(state_mutex_);
  if (!death_) {
    death_ = e;
    death_->message =
        fmt::format("the log takes no more commits since an earlier failure: {}", e.message);
    dead_.store(true);
  }
  return tl::unexpected(std::move(e));
}

// RocksDB leaves the sequence number that it gave a batch in the batch's header. The latest of the
// database would not do: another thread's commit may have got further already.
std::uint64_t RocksLog::last_sequence_of(const rocksdb::WriteBatch& batch) const {
  const auto first = get_le<std::uint64_t>(bytes_of(batch.Data()).data());
  const std::uint64_t last = first + batch.Count() - 1;
  FAIRSALE_INVARIANT(first != 0 && last <= database_.db->GetLatestSequenceNumber(),
                     "RocksDB tells a commit's sequence number");
  return last;
}

// Returns after fdatasync.
rocksdb::Status RocksLog::write(rocksdb::WriteBatch& batch) const {
  rocksdb::WriteOptions wo;
  wo.sync = true;
  return database_.db->Write(wo, &batch);
}

// Adds to a batch what makes a SKU's log end at this head.
Result<void> RocksLog::take_back(const SkuHead& to, rocksdb::WriteBatch& batch) const {
  const std::unique_ptr<rocksdb::Iterator> it(
      database_.db->NewIterator(rocksdb::ReadOptions(), database_.blocks));
  const auto of_sku = [&]() -> std::optional<Seq> {
    const auto key = it->Valid() ? parse_key(it->key().ToStringView()) : std::nullopt;
    return key && key->sku == to.sku ? std::optional(key->first) : std::nullopt;
  };
  const HeadKey name = head_key(to.sku);
  const rocksdb::Slice head(name.data(), name.size());
  it->SeekForPrev(slice(block_key(to.sku, to.head.seq)));
  const auto last_block = of_sku();
  if (to.head == Head{}) {
    batch.Delete(database_.heads, head).PermitUncheckedError();
  } else {
    const auto ends = ends_a_block(to.sku, to.head.seq, to.head.digest);
    if (!ends) return tl::unexpected(ends.error());
    if (!*ends || !last_block) {
      return fail(Fault::invalid,
                  fmt::format("{}: no block ends at position {} with digest {}", describe(to.sku),
                              to.head.seq.value, to_hex(to.head.digest)));
    }
    const HeadBytes value = encode_head(to.sku, {to.head, *last_block});
    batch.Put(database_.heads, head, {reinterpret_cast<const char*>(value.data()), value.size()})
        .PermitUncheckedError();
  }
  for (it->Seek(slice(block_key(to.sku, Seq{to.head.seq.value + 1}))); of_sku(); it->Next()) {
    batch.Delete(database_.blocks, it->key()).PermitUncheckedError();
  }
  if (!it->status().ok()) return rocks_failure("cannot read the blocks' keys", it->status());
  return {};
}

Result<void> RocksLog::shorten(std::span<const SkuHead> heads) {
  if (read_only()) return fail(Fault::invalid, "the log is open for reading only");
  if (dead_.load()) {
    const std::lock_guard lock(state_mutex_);
    return tl::unexpected(*death_);
  }
  if (heads.empty()) return {};
  rocksdb::WriteBatch batch;
  std::vector<AckedHead> newest;
  for (const SkuHead& h : heads) {
    if (auto ok = take_back(h, batch); !ok) return ok;
    if (h.head != Head{} && newest.size() < kMaxAckedHeads) {
      newest.push_back({h.sku, h.head.seq, h.head.digest});
    }
  }
  // A start does without them, so they may go first.
  for (const SkuHead& h : heads) {
    if (auto ok = snapshots_.remove_behind(h.sku, h.head.seq); !ok) return ok;
  }
  if (const rocksdb::Status s = write(batch); !s.ok()) {
    return die(rocks_failure("cannot shorten the log", s).value());
  }
  {
    const std::lock_guard lock(state_mutex_);
    for (const SkuHead& h : heads) {
      if (h.head == Head{}) {
        heads_.erase(h.sku.value);
      } else {
        heads_[h.sku.value] = h.head;
      }
    }
  }
  if (auto ok = acknowledge(last_sequence_of(batch), newest, heads.size()); !ok) {
    return die(ok.error());
  }
  return {};
}

Result<void> RocksLog::append(std::span<const BlockWrite> blocks) {
  if (read_only()) return fail(Fault::invalid, "the log is open for reading only");
  {
    const std::lock_guard lock(state_mutex_);
    if (death_) return tl::unexpected(*death_);
    const auto ok = check_commit(blocks, [this](SkuId sku) {
      const auto it = heads_.find(sku.value);
      return it == heads_.end() ? Head{} : it->second;
    });
    if (!ok) return ok;
    // Before the commit: if it fails, the log is dead and heads_ is of no more use.
    for (const BlockWrite& b : blocks) heads_[b.sku.value] = b.after;
  }

  std::size_t size = 64;
  for (const BlockWrite& b : blocks) size += b.bytes.size() + 128;
  rocksdb::WriteBatch batch(size);
  for (const BlockWrite& b : blocks) {
    const Key key = block_key(b.sku, b.first);
    const rocksdb::Slice value(reinterpret_cast<const char*>(b.bytes.data()), b.bytes.size());
    batch.Put(database_.blocks, slice(key), value).PermitUncheckedError();
  }
  for (const BlockWrite& b : blocks) {
    const HeadKey key = head_key(b.sku);
    const HeadBytes value = encode_head(b.sku, {b.after, b.first});
    batch
        .Put(database_.heads, {key.data(), key.size()},
             {reinterpret_cast<const char*>(value.data()), value.size()})
        .PermitUncheckedError();
  }

  if (const rocksdb::Status s = write(batch); !s.ok()) {
    return die(rocks_failure("cannot commit to the log", s).value());
  }
  // A commit that shared a group with a failed one, or came after it, is not to be relied on.
  if (dead_.load()) {
    const std::lock_guard lock(state_mutex_);
    return tl::unexpected(*death_);
  }

  const std::uint64_t last = last_sequence_of(batch);
  std::array<AckedHead, kMaxAckedHeads> newest;
  std::size_t count = 0;
  std::size_t skus = 0;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    // Only a SKU's last block of the commit is its head.
    bool superseded = false;
    for (std::size_t j = i + 1; j < blocks.size() && count < newest.size(); ++j) {
      superseded |= blocks[j].sku == blocks[i].sku;
    }
    if (superseded) continue;
    ++skus;
    if (count < newest.size()) {
      newest[count++] = {blocks[i].sku, blocks[i].after.seq, blocks[i].after.digest};
    }
  }
  if (auto ok = acknowledge(last, std::span(newest).first(count), skus); !ok) {
    return die(ok.error());
  }
  return {};
}

Result<void> RocksLog::acknowledge(std::uint64_t sequence, std::span<const AckedHead> heads,
                                   std::size_t skus) {
  const std::lock_guard lock(acked_mutex_);
  // A later commit that is on record already stands for this one too.
  if (sequence <= acked_sequence_) return {};
  acked_sequence_ = sequence;
  return acked_->record({.sequence = sequence,
                         .skus = static_cast<std::uint32_t>(skus),
                         .heads = {heads.begin(), heads.end()}});
}

void RocksLog::settle() {
  if (read_only()) return;
  const std::lock_guard lock(acked_mutex_);
  if (auto ok = acked_->sync(); !ok) die(ok.error());
}

Result<std::vector<std::pair<SkuId, HeadRecord>>> RocksLog::head_records() const {
  const std::unique_ptr<rocksdb::Iterator> it(
      database_.db->NewIterator(rocksdb::ReadOptions(), database_.heads));
  std::vector<std::pair<SkuId, HeadRecord>> records;
  for (it->SeekToFirst(); it->Valid(); it->Next()) {
    if (it->key().size() != 8) {
      return fail(Fault::damaged, "the heads hold a key that is not a SKU id.");
    }
    const SkuId sku{get_be64(it->key().data())};
    const auto r = decode_head(sku, it->value().ToStringView());
    if (!r) return fail(Fault::damaged, fmt::format("{}: its head is damaged.", describe(sku)));
    records.emplace_back(sku, *r);
  }
  if (!it->status().ok()) return rocks_failure("cannot read the heads", it->status());
  return records;
}

Result<std::optional<HeadRecord>> RocksLog::head_record(SkuId sku) const {
  const HeadKey key = head_key(sku);
  std::string value;
  const rocksdb::Status s =
      database_.db->Get(rocksdb::ReadOptions(), database_.heads, {key.data(), key.size()}, &value);
  if (s.IsNotFound()) return std::nullopt;
  if (!s.ok()) return rocks_failure(fmt::format("{}: cannot read its head", describe(sku)), s);
  const auto r = decode_head(sku, value);
  if (!r) return fail(Fault::damaged, fmt::format("{}: its head is damaged", describe(sku)));
  return r;
}

Result<std::vector<SkuHead>> RocksLog::heads() const {
  const auto records = head_records();
  if (!records) return tl::unexpected(records.error());
  std::vector<SkuHead> heads;
  heads.reserve(records->size());
  for (const auto& [sku, r] : *records) heads.push_back({sku, r.head});
  return heads;
}

Result<std::vector<SkuHead>> RocksLog::durable_heads() const {
  auto all = heads();
  if (!all || !durable_sequence_ || database_.db->GetLatestSequenceNumber() <= *durable_sequence_) {
    return all;
  }
  for (SkuHead& h : *all) {
    const auto durable = head_as_of(h.sku, *durable_sequence_);
    if (!durable) return tl::unexpected(durable.error());
    h.head = *durable;
  }
  return all;
}

// The SKU's head when the commits up to this sequence number had been made; empty when there was
// none yet. Only for a database that nobody writes to through this handle: what is still only in
// the write-ahead log is then in memory with every version of a head.
Result<Head> RocksLog::head_as_of(SkuId sku, std::uint64_t sequence) const {
  const HeadKey key = head_key(sku);
  const rocksdb::Slice name(key.data(), key.size());
  // The versions come newest first, and few are newer than what was acknowledged.
  for (std::size_t most = 16;; most *= 16) {
    std::vector<rocksdb::KeyVersion> versions;
    const rocksdb::Status s = rocksdb::GetAllKeyVersions(database_.db.get(), database_.heads, name,
                                                         name, most, &versions);
    if (!s.ok()) return rocks_failure(fmt::format("{}: cannot read its head", describe(sku)), s);
    for (const rocksdb::KeyVersion& v : versions) {
      if (v.sequence > sequence) continue;
      const auto r = decode_head(sku, v.value);
      if (!r) return fail(Fault::damaged, fmt::format("{}: its head is damaged", describe(sku)));
      return r->head;
    }
    if (versions.size() < most) return Head{};
  }
}

Result<std::vector<LastBlock>> RocksLog::last_blocks() const {
  rocksdb::ReadOptions ro;
  ro.fill_cache = false;
  const std::unique_ptr<rocksdb::Iterator> it(database_.db->NewIterator(ro, database_.blocks));
  std::vector<LastBlock> blocks;
  it->SeekToFirst();
  while (it->Valid()) {
    const auto key = parse_key(it->key().ToStringView());
    if (!key) return fail(Fault::damaged, "the log holds a key that is not one of a block.");
    // From its first block to its last, past all between.
    it->SeekForPrev(slice(block_key(key->sku, Seq{~std::uint64_t{0}})));
    const auto last = it->Valid() ? parse_key(it->key().ToStringView()) : std::nullopt;
    if (!last || last->sku != key->sku) break;
    blocks.push_back({last->sku, last->first});
    it->Next();
  }
  if (!it->status().ok()) return rocks_failure("cannot read the blocks' keys", it->status());
  return blocks;
}

// "SKU sneaker-1 (0123456789abcdef)", or the id alone when the first block does not tell the name.
std::string RocksLog::describe(SkuId sku) const {
  std::string name;
  std::string value;
  const rocksdb::Status s = database_.db->Get(rocksdb::ReadOptions(), database_.blocks,
                                              slice(block_key(sku, Seq{1})), &value);
  if (s.ok()) {
    if (const auto view = BlockView::parse(bytes_of(value))) {
      const auto ignored = view->for_each([&name](Seq, const Event& e) {
        const auto* scheduled = std::get_if<SaleScheduled>(&e);
        if (scheduled != nullptr && name.empty()) name = scheduled->sku.view();
      });
      static_cast<void>(ignored);
    }
  }
  if (name.empty()) return fmt::format("SKU {:016x}", sku.value);
  return fmt::format("SKU {} ({:016x})", name, sku.value);
}

Result<void> RocksLog::read(SkuId sku, Seq from,
                            const std::function<bool(const BlockView&)>& visit) const {
  const auto damaged = [&](Seq at, std::string_view what, Fault fault = Fault::damaged) {
    return fail(fault, fmt::format("{}, position {}: {}", describe(sku), at.value, what));
  };
  // The head is read first, so that every block up to it is there, whatever is appended meanwhile.
  const auto record = head_record(sku);
  if (!record) return tl::unexpected(record.error());
  const Head end = *record ? (*record)->head : Head{};
  if (from.value == 0) from = Seq{1};
  if (from > end.seq) return {};

  rocksdb::ReadOptions ro;
  ro.verify_checksums = true;
  ro.fill_cache = false;
  const Key lower = block_key(sku, Seq{0});
  const Key upper = block_key(sku, Seq{~std::uint64_t{0}});
  const rocksdb::Slice lower_slice = slice(lower);
  const rocksdb::Slice upper_slice = slice(upper);
  ro.iterate_lower_bound = &lower_slice;
  ro.iterate_upper_bound = &upper_slice;
  const std::unique_ptr<rocksdb::Iterator> it(database_.db->NewIterator(ro, database_.blocks));

  // Parses the block under the iterator and checks that it is the one that its key says.
  const auto current = [&](Seq wanted) -> Result<BlockView> {
    if (!it->Valid()) {
      if (it->status().ok()) return damaged(wanted, "the block that holds it is missing");
      const auto e = rocks_failure("cannot be read", it->status());
      return damaged(wanted, e.value().message, e.value().fault);
    }
    const auto key = parse_key(it->key().ToStringView());
    if (!key) return damaged(wanted, "a key is not one of a block");
    auto view = BlockView::parse(bytes_of(it->value()));
    if (!view) return damaged(key->first, view.error().message, view.error().fault);
    if (view->header().sku != sku || view->header().first != key->first) {
      return damaged(key->first,
                     fmt::format("the block under this key is of SKU {:016x}, position {}",
                                 view->header().sku.value, view->header().first.value));
    }
    return view;
  };

  // The head that the first block must follow is what the block before it leaves.
  Head before;
  it->SeekForPrev(slice(block_key(sku, from)));
  if (it->Valid()) {
    const auto key = parse_key(it->key().ToStringView());
    if (key && key->first > Seq{1}) {
      it->Prev();
      const auto view = current(Seq{key->first.value - 1});
      if (!view) return tl::unexpected(view.error());
      before = head_after(*view);
      it->Next();
    }
  }
  for (;;) {
    const auto view = current(Seq{before.seq == Seq{0} ? 1 : before.seq.value + 1});
    if (!view) return tl::unexpected(view.error());
    if (auto ok = view->follows(before); !ok) {
      return damaged(Seq{before.seq.value + 1}, ok.error().message);
    }
    before = head_after(*view);
    if (before.seq > end.seq || (before.seq == end.seq && before != end)) {
      return damaged(
          view->header().first,
          fmt::format("the block does not match the head, which is at {}", end.seq.value));
    }
    if (view->last() >= from && !visit(*view)) return {};
    if (before.seq == end.seq) return {};
    it->Next();
  }
}

// True when a block of the SKU ends at `seq` with this digest.
Result<bool> RocksLog::ends_a_block(SkuId sku, Seq seq, const Digest& digest) const {
  const std::unique_ptr<rocksdb::Iterator> it(
      database_.db->NewIterator(rocksdb::ReadOptions(), database_.blocks));
  it->SeekForPrev(slice(block_key(sku, seq)));
  if (!it->Valid()) {
    if (it->status().ok()) return false;
    return rocks_failure(fmt::format("{}: cannot be read", describe(sku)), it->status());
  }
  const auto view = BlockView::parse(bytes_of(it->value()));
  return view && view->header().sku == sku && view->last() == seq && view->digest() == digest;
}

Result<void> RocksLog::put_snapshot(SkuId sku, const Head& at, const Sale& sale) {
  if (read_only()) return fail(Fault::invalid, "the log is open for reading only");
  return snapshots_.put(sku, at, sale);
}

Result<std::optional<Snapshot>> RocksLog::snapshot(SkuId sku, Seq at_most) const {
  return snapshots_.newest(sku, at_most, [&](const Head& head) {
    return ends_a_block(sku, head.seq, head.digest).value_or(false);
  });
}

Result<std::unique_ptr<EventLog>> open_for_writing(const RocksLogOptions& options,
                                                   RecoveryReport& report) {
  auto lock = take_directory(options.directory);
  if (!lock) return tl::unexpected(lock.error());
  std::optional<Acked> newest;
  auto acked = AckedFile::open(options.directory / "ACKED", newest);
  if (!acked) return tl::unexpected(acked.error());
  auto log = std::make_unique<RocksLog>(options, std::move(*lock), std::move(*acked));
  if (auto ok = log->open(newest, report); !ok) return tl::unexpected(ok.error());
  return log;
}

Result<std::unique_ptr<EventLog>> open_for_reading(const RocksLogOptions& options,
                                                   RecoveryReport& report) {
  if (auto ok = check_directory(options.directory); !ok) return tl::unexpected(ok.error());
  auto scratch = ScratchDirectory::create();
  if (!scratch) return tl::unexpected(scratch.error());
  auto log = std::make_unique<RocksLog>(options, std::move(*scratch));
  if (auto ok = log->open_secondary(report); !ok) return tl::unexpected(ok.error());
  return log;
}

}  // namespace

Result<std::unique_ptr<EventLog>> open_rocks_log(const RocksLogOptions& options,
                                                 RecoveryReport& report) {
  report.notes.clear();
  return options.mode == OpenMode::read_write ? open_for_writing(options, report)
                                              : open_for_reading(options, report);
}

void advise_on_abort() {
  std::signal(SIGABRT, [](int) {
    constexpr std::string_view kWhen =
        "The process ended itself. If what is said above is an assertion of RocksDB's, a table is "
        "damaged: of the projections, which may be deleted, or of the log. ";
    for (const std::string_view part : {kWhen, kDamageAdvice, std::string_view("\n")}) {
      // Nothing can be done about a failure here.
      if (::write(STDERR_FILENO, part.data(), part.size()) < 0) return;
    }
  });
}

}  // namespace fairsale
