// Plants tamperings in copies of a store, as somebody with access to its files would, and expects
// the audit to find each and to name it: the right SKU, and no position behind the damage.
//
// All chance comes from one seed, which is printed. To repeat a case that failed:
//   FAIRSALE_TAMPER_SEED=<seed> FAIRSALE_TAMPER_ROUND=<round> tools_tamper_test
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rocksdb/db.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <functional>
#include <map>
#include <random>
#include <regex>
#include <set>

#include "core/log/block_format.hpp"
#include "core/log/head_record.hpp"
#include "projections/audit/audit.hpp"
#include "tests/engine/shop.hpp"
#include "tests/log/support.hpp"
#include "tools/rebuild/rebuild.hpp"

namespace fairsale::audit {
namespace {

namespace fs = std::filesystem;
using fairsale::testing::Bytes;
using fairsale::testing::TempDir;

constexpr unsigned kSales = 40;
constexpr unsigned kBlocks = 12;
constexpr unsigned kRounds = 28;  // of a tampering for each sale
constexpr unsigned kFlips = 100;  // of a byte in a file, a store each

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

std::uint64_t seed() { return from_environment("FAIRSALE_TAMPER_SEED", 20'261'124); }

using Chance = std::mt19937_64;

std::size_t below(Chance& chance, std::size_t n) {
  return std::uniform_int_distribution<std::size_t>(0, n - 1)(chance);
}

std::string string_of(std::span<const std::byte> b) {
  return {reinterpret_cast<const char*>(b.data()), b.size()};
}
std::string key_of(SkuId sku, Seq first) {
  const Key k = block_key(sku, first);
  return {k.data(), k.size()};
}
std::string key_of(SkuId sku) {
  const HeadKey k = head_key(sku);
  return {k.data(), k.size()};
}

// A sale as it was written.
struct Original {
  std::string sku;
  SkuId id;
  std::vector<Bytes> blocks;
  std::vector<Head> heads;  // after each block
  std::vector<SavedHead> saved;
  std::vector<Seq> snapshots;

  Seq first(std::size_t block) const {
    return Seq{block == 0 ? 1 : heads[block - 1].seq.value + 1};
  }
};

// The store that all rounds start from: sales with attempts, payments, cancellations and time that
// passes; two snapshots each, and the stored projections; and one more sale whose commit is the
// last, since ACKED keeps that.
class Good {
 public:
  static const Good& store() {
    static const Good good;
    return good;
  }

  fs::path path() const { return directory_ / "data"; }
  const std::vector<Original>& sales() const { return sales_; }
  std::vector<SavedHead> saved() const {
    std::vector<SavedHead> all;
    for (const Original& s : sales_) all.insert(all.end(), s.saved.begin(), s.saved.end());
    return all;
  }

 private:
  Good() {
    commit();
    project();
  }

  void commit() {
    const auto log = fairsale::testing::open_log(path());
    Chance chance(7);
    for (unsigned i = 0; i < kSales; ++i) make_sale(*log, fmt::format("sale-{:02}", i), chance);
    fairsale::testing::Chain last("the-last-to-commit");
    fairsale::testing::commit(*log, {last.block(3)});
    log->settle();
  }

  void project() {
    const auto built = cli::rebuild_at_rest(
        path(), {.projections = {kStoredProjections.begin(), kStoredProjections.end()},
                 .force = false,
                 .drop_old = true,
                 .progress = [](double) { return true; }});
    EXPECT_TRUE(built) << built.error().message;
  }

  void make_sale(EventLog& log, const std::string& sku, Chance& chance) {
    Original o{
        .sku = sku, .id = sku_id(sku), .blocks = {}, .heads = {}, .saved = {}, .snapshots = {}};
    struct Ignore final : DecisionSink {
      void on(const Decision&) override {}
    } ignore;
    Sale sale;
    Head head;
    BlockBuilder builder;
    for (unsigned b = 0; b < kBlocks; ++b) {
      const Timestamp now{test::kOpening.value + b * 9'000};
      const Seq first{head.seq.value + 1};
      builder.begin(o.id, head, now, Epoch{1});
      const std::size_t events = 2 + below(chance, 7);
      for (std::size_t i = 0; i < events; ++i) {
        const Seq seq{first.value + i};
        const Event event = seq == Seq{1} ? Event{test::scheduled(sku, 8)} : any_event(seq, chance);
        builder.add(event);
        sale.apply(seq, now, event, ignore);
      }
      const auto bytes = builder.finish(head);
      fairsale::testing::commit(log, {BlockWrite{o.id, first, head, bytes}});
      o.blocks.emplace_back(bytes.begin(), bytes.end());
      o.heads.push_back(head);
      if (b % 3 == 2) o.saved.push_back({sku, head.seq, head.digest, state_digest(sale)});
      if (b == 5 || b == 10) {
        EXPECT_TRUE(log.put_snapshot(o.id, head, sale));
        o.snapshots.push_back(head.seq);
      }
    }
    sales_.push_back(std::move(o));
  }

  static Event any_event(Seq seq, Chance& chance) {
    const Seq earlier{1 + below(chance, seq.value)};
    switch (below(chance, 6)) {
      case 0:
        return PaymentReceived{.purchase = earlier,
                               .reference = *PaymentReference::from("pay-1"),
                               .amount = test::terms(1).price};
      case 1: return PurchaseCancelled{.purchase = earlier, .by = Role::shop};
      default:
        return test::attempt(fmt::format("customer-{}", below(chance, 30)),
                             fmt::format("key-{}", below(chance, 3)));
    }
  }

  TempDir directory_;
  std::vector<Original> sales_;
};

// The RocksDB of a store's projections, opened as anybody can.
class RawProjections {
 public:
  explicit RawProjections(const fs::path& data) {
    rocksdb::Options options;
    options.info_log_level = rocksdb::FATAL_LEVEL;
    options.avoid_flush_during_recovery = true;
    options.avoid_flush_during_shutdown = true;
    rocksdb::DB* db = nullptr;
    const auto s = rocksdb::DB::Open(options, projections_directory(data).string(), &db);
    if (!s.ok()) throw std::runtime_error(s.ToString());
    db_.reset(db);
  }

  struct Row {
    std::string key;
    std::string value;
  };
  // Those of a kind ('R': rows, 'M': what a generation has of the SKU), of all projections.
  std::vector<Row> rows(char kind, SkuId sku) {
    std::vector<Row> all;
    const std::string id = key_of(sku);
    const std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator({}));
    for (it->Seek(std::string(1, kind)); it->Valid(); it->Next()) {
      if (it->key()[0] != kind) break;
      if (it->key().ToString().substr(kBeforeSku, id.size()) != id) continue;
      all.push_back({it->key().ToString(), it->value().ToString()});
    }
    return all;
  }
  Row any(char kind, SkuId sku, Chance& chance) {
    const auto all = rows(kind, sku);
    return all.at(below(chance, all.size()));
  }
  void put(const Row& r) { EXPECT_TRUE(db_->Put({}, r.key, r.value).ok()); }
  void remove(const Row& r) { EXPECT_TRUE(db_->Delete({}, r.key).ok()); }
  void forget(SkuId sku) {
    for (const char kind : {'R', 'M'}) {
      for (const Row& r : rows(kind, sku)) remove(r);
    }
  }

 private:
  static constexpr std::size_t kBeforeSku = 6;  // kind, projection, generation

  std::unique_ptr<rocksdb::DB> db_;
};

// A store's RocksDB, opened as anybody can.
class Raw {
 public:
  explicit Raw(const fs::path& data) : data_(data) {
    rocksdb::DBOptions options;
    options.info_log_level = rocksdb::FATAL_LEVEL;
    options.avoid_flush_during_recovery = true;  // syncs would take most of the test's time
    options.avoid_flush_during_shutdown = true;
    std::vector<rocksdb::ColumnFamilyHandle*> handles;
    rocksdb::DB* db = nullptr;
    const auto s =
        rocksdb::DB::Open(options, (data / "log").string(),
                          {{rocksdb::kDefaultColumnFamilyName, {}}, {"heads", {}}}, &handles, &db);
    if (!s.ok()) throw std::runtime_error(s.ToString());
    db_.reset(db);
    blocks_ = handles[0];
    heads_ = handles[1];
  }
  ~Raw() {
    db_->DestroyColumnFamilyHandle(blocks_);
    db_->DestroyColumnFamilyHandle(heads_);
    db_->Close().PermitUncheckedError();
  }

  void put_block(SkuId sku, Seq first, std::span<const std::byte> bytes) {
    must(db_->Put({}, blocks_, key_of(sku, first), string_of(bytes)));
  }
  void remove_block(SkuId sku, Seq first) { must(db_->Delete({}, blocks_, key_of(sku, first))); }
  void put_head(SkuId sku, const HeadRecord& r) {
    must(db_->Put({}, heads_, key_of(sku), string_of(encode_head(sku, r))));
  }
  void put_head_bytes(SkuId sku, const std::string& bytes) {
    must(db_->Put({}, heads_, key_of(sku), bytes));
  }
  void remove_head(SkuId sku) { must(db_->Delete({}, heads_, key_of(sku))); }
  RawProjections& projections() {
    if (!projections_) projections_.emplace(data_);
    return *projections_;
  }
  void flush() { must(db_->Flush({}, std::vector<rocksdb::ColumnFamilyHandle*>{blocks_, heads_})); }
  // Each table file and how many bytes of data blocks it begins with.
  std::map<std::string, std::uint64_t> tables() {
    rocksdb::TablePropertiesCollection all;
    must(db_->GetPropertiesOfAllTables(blocks_, &all));
    std::map<std::string, std::uint64_t> sizes;
    for (const auto& [name, p] : all) sizes[name] = p->data_size;
    return sizes;
  }

 private:
  static void must(const rocksdb::Status& s) {
    if (!s.ok()) throw std::runtime_error(s.ToString());
  }

  fs::path data_;
  std::optional<RawProjections> projections_;
  std::unique_ptr<rocksdb::DB> db_;
  rocksdb::ColumnFamilyHandle* blocks_ = nullptr;
  rocksdb::ColumnFamilyHandle* heads_ = nullptr;
};

// ---- Forging ----

struct Decoded {
  BlockHeader header;
  std::vector<Event> events;
};

Decoded decode(std::span<const std::byte> bytes) {
  const auto view = BlockView::parse(bytes);
  EXPECT_TRUE(view);
  Decoded d{view->header(), {}};
  EXPECT_TRUE(view->for_each([&d](Seq, const Event& e) { d.events.push_back(e); }));
  return d;
}

// Seals the events again, following `before`: digest and CRC are right.
Bytes seal(const Decoded& d, const Head& before, Head& after) {
  BlockBuilder builder;
  builder.begin(d.header.sku, {before.seq, Timestamp{0}, before.digest}, d.header.time,
                d.header.epoch);
  for (const Event& e : d.events) EXPECT_TRUE(builder.add(e));
  const auto bytes = builder.finish(after);
  return {bytes.begin(), bytes.end()};
}

void repair_crc(Bytes& block) {
  const std::size_t n = block.size() - block_format::kCrcSize;
  put_le(block.data() + n, crc32c(std::span(block).first(n)));
}

// Makes one of the events another one.
void alter(Decoded& d, Chance& chance) {
  Event& e = d.events[below(chance, d.events.size())];
  if (auto* attempt = std::get_if<PurchaseAttempted>(&e)) {
    if (below(chance, 2) == 0) {
      attempt->customer = *CustomerId::from(fmt::format("friend-{}", below(chance, 1000)));
    } else {
      attempt->key.bytes[below(chance, 16)] ^= 1;
    }
  } else if (auto* payment = std::get_if<PaymentReceived>(&e)) {
    payment->amount.amount.value += 1;
  } else if (auto* cancelled = std::get_if<PurchaseCancelled>(&e)) {
    cancelled->by = Role::op;
  } else if (auto* scheduled = std::get_if<SaleScheduled>(&e)) {
    scheduled->terms.line_limit += 1;
  }
}

fs::path snapshot_path(const fs::path& data, SkuId sku, Seq seq) {
  return data / "snapshots" / fmt::format("{:016x}", sku.value) / fmt::format("{:020}", seq.value);
}

constexpr std::size_t kSnapshotHeader = 108;

void reseal_snapshot(Bytes& file) {
  const Digest d = sha256(std::span(file).subspan(kSnapshotHeader));
  std::copy(d.bytes.begin(), d.bytes.end(), file.begin() + 64);
  put_le(file.data() + 96, std::uint64_t{file.size() - kSnapshotHeader});
  put_le(file.data() + 104, crc32c(std::span(file).first(104)));
}

// ---- What may be done to a sale ----

enum class Shows {
  always,        // the store itself gives it away
  with_a_head,   // consistent in itself: only a saved head shows it
  with_outside,  // a snapshot shows it as well as a saved head
};

struct Planted {
  std::string what;
  Seq seq;          // the first position concerned: `from` may be no later
  Seq shows_first;  // the audit names a position from this
  Seq shows_last;   // to this
  Shows shows = Shows::always;
  bool without_snapshots = false;  // they were taken away, and vouch for nothing
};

Seq after(Seq s, std::uint64_t n = 1) { return Seq{s.value + n}; }

// The last position before `seq` for which something outside the log vouches.
Seq vouched(const Original& o, const Planted& p, bool with_heads) {
  Seq last;
  const auto see = [&](Seq s) {
    if (s < p.seq) last = std::max(last, s);
  };
  if (!p.without_snapshots) {
    for (const Seq s : o.snapshots) see(s);
  }
  if (with_heads) {
    for (const SavedHead& h : o.saved) see(h.position);
  }
  return last;
}

// Removes what lies beside the log and could tell of another history.
void remove_witnesses(Raw& raw, const fs::path& data, const Original& o) {
  fs::remove_all(data / "snapshots" / fmt::format("{:016x}", o.id.value));
  raw.projections().forget(o.id);
}

// Rewrites the history from block `from` on so that it is consistent in itself.
void rewrite(Raw& raw, const Original& o, std::size_t from,
             const std::function<void(Decoded&)>& edit) {
  Head head = from == 0 ? Head{} : o.heads[from - 1];
  for (std::size_t b = from; b < o.blocks.size(); ++b) {
    Decoded d = decode(o.blocks[b]);
    if (b == from) edit(d);
    Head after;
    raw.put_block(o.id, o.first(b), seal(d, head, after));
    head = after;
  }
  raw.put_head(o.id, {head, o.first(o.blocks.size() - 1)});
}

using Tamper = std::function<Planted(Raw&, const fs::path&, const Original&, Chance&)>;

const std::vector<Tamper>& tampers() {
  static const std::vector<Tamper> all{
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, o.blocks.size());
        Bytes bytes = o.blocks[b];
        const std::size_t bit = below(chance, bytes.size() * 8);
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        raw.put_block(o.id, o.first(b), bytes);
        return {fmt::format("bit {} of block {} flipped", bit, b), o.first(b), o.first(b),
                o.first(b)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t a = below(chance, o.blocks.size() - 1);
        const std::size_t b = a + 1 + below(chance, o.blocks.size() - 1 - a);
        raw.put_block(o.id, o.first(a), o.blocks[b]);
        raw.put_block(o.id, o.first(b), o.blocks[a]);
        return {fmt::format("blocks {} and {} swapped", a, b), o.first(a), o.first(a), o.first(a)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, o.blocks.size());
        raw.remove_block(o.id, o.first(b));
        return {fmt::format("block {} removed", b), o.first(b), o.first(b), o.first(b)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, o.blocks.size());
        // Under a key of its own, between this block and the next or behind the last.
        raw.put_block(o.id, Seq{o.first(b).value + 1}, o.blocks[b]);
        const Seq next = after(o.heads[b].seq);
        return {fmt::format("block {} duplicated", b), next, next, next};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        // The copy claims the place behind itself, with all its checksums right.
        const std::size_t b = below(chance, o.blocks.size());
        Decoded d = decode(o.blocks[b]);
        Head end;
        const Seq next = after(o.heads[b].seq);
        raw.put_block(o.id, next, seal(d, o.heads[b], end));
        // It follows well; what comes after it does not, or what vouches for the one it replaced.
        return {fmt::format("block {} appended to itself", b), next, next, after(end.seq)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t a = below(chance, o.blocks.size() - 2);
        for (std::size_t i = 0; i < 3; ++i) {
          raw.put_block(o.id, o.first(a + i), o.blocks[a + (i + 1) % 3]);
        }
        return {fmt::format("blocks {} to {} put in another order", a, a + 2), o.first(a),
                o.first(a), o.first(a)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, o.blocks.size());
        Bytes bytes = o.blocks[b];
        const std::size_t at =
            block_format::kHeaderSize + below(chance, bytes.size() - block_format::kOverhead);
        bytes[at] ^= std::byte{1};
        repair_crc(bytes);
        raw.put_block(o.id, o.first(b), bytes);
        return {fmt::format("byte {} of block {} changed, CRC recomputed", at, b), o.first(b),
                o.first(b), o.first(b)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, o.blocks.size());
        Decoded d = decode(o.blocks[b]);
        alter(d, chance);
        Head end;
        raw.put_block(o.id, o.first(b), seal(d, b == 0 ? Head{} : o.heads[b - 1], end));
        // The block after it shows it, or what was saved of its end.
        return {fmt::format("block {} re-encoded, digest and CRC recomputed", b), o.first(b),
                b + 1 == o.blocks.size() ? o.first(b) : o.heads[b].seq, after(o.heads[b].seq)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, o.blocks.size());
        const Original& other = Good::store().sales()[below(chance, kSales)];
        if (other.id == o.id) {
          raw.remove_head(o.id);
          return {"head removed", Seq{1}, Seq{1}, Seq{1}};
        }
        raw.put_block(o.id, o.first(b), other.blocks[b]);
        return {fmt::format("block {} replaced with one of {}", b, other.sku), o.first(b),
                o.first(b), o.first(b)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = 1 + below(chance, o.blocks.size() - 1);
        rewrite(raw, o, b, [](Decoded& d) { d.header.time.value -= 10'000; });
        return {fmt::format("block {} dated back, all after it chained anew", b), o.first(b),
                o.first(b), o.first(b)};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance&) -> Planted {
        raw.remove_head(o.id);
        return {"head removed", Seq{1}, Seq{1}, Seq{1}};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, o.blocks.size() - 1);
        raw.put_head(o.id, {o.heads[b], o.first(b)});
        const Seq next = after(o.heads[b].seq);
        return {fmt::format("head set back to block {}", b), next, next, next};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        HeadRecord r{o.heads.back(), o.first(o.blocks.size() - 1)};
        r.head.digest.bytes[below(chance, 32)] ^= std::byte{1};
        raw.put_head(o.id, r);
        return {"head's digest changed", o.heads.back().seq, o.first(o.blocks.size() - 1),
                o.first(o.blocks.size() - 1)};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, 6);  // a snapshot is taken after it
        rewrite(raw, o, b, [&](Decoded& d) { alter(d, chance); });
        static_cast<void>(data);
        return {fmt::format("history rewritten from block {} on", b), o.first(b), o.heads[b].seq,
                o.snapshots[0], Shows::with_outside};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = below(chance, o.blocks.size());
        rewrite(raw, o, b, [&](Decoded& d) { alter(d, chance); });
        remove_witnesses(raw, data, o);
        const Seq saved = o.saved[b / 3].position;  // one after each third block
        return {
            fmt::format("history rewritten from block {} on, snapshots and projections removed", b),
            o.first(b),
            saved,
            saved,
            Shows::with_a_head,
            true};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        const std::size_t b = 1 + below(chance, o.blocks.size() - 1);
        for (std::size_t i = b; i < o.blocks.size(); ++i) raw.remove_block(o.id, o.first(i));
        raw.put_head(o.id, {o.heads[b - 1], o.first(b - 1)});
        remove_witnesses(raw, data, o);
        return {fmt::format("tail cut off from block {} on", b),
                o.first(b),
                o.first(b),
                o.first(b),
                Shows::with_a_head,
                true};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        static_cast<void>(raw);
        const Seq seq = o.snapshots[below(chance, o.snapshots.size())];
        const fs::path path = snapshot_path(data, o.id, seq);
        const std::size_t bit = below(chance, fs::file_size(path) * 8);
        fairsale::testing::flip_bit(path, bit / 8, bit % 8);
        return {fmt::format("bit {} of the snapshot of {} flipped", bit, seq.value), seq, seq, seq};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        static_cast<void>(raw);
        const Seq seq = o.snapshots[below(chance, o.snapshots.size())];
        const fs::path path = snapshot_path(data, o.id, seq);
        Bytes file = fairsale::testing::read_file(path);
        const std::size_t at = kSnapshotHeader + below(chance, file.size() - kSnapshotHeader);
        file[at] ^= std::byte{1};
        reseal_snapshot(file);
        fairsale::testing::write_file(path, file);
        return {fmt::format("byte {} of the snapshot of {} edited, digest and CRC recomputed", at,
                            seq.value),
                seq, seq, seq};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        static_cast<void>(raw);
        const Seq seq = o.snapshots[below(chance, o.snapshots.size())];
        const fs::path path = snapshot_path(data, o.id, seq);
        Bytes file = fairsale::testing::read_file(path);
        if (below(chance, 2) == 0) {
          file.resize(below(chance, file.size()));
        } else {
          file.resize(file.size() + 1 + below(chance, 50));
        }
        fairsale::testing::write_file(path, file);
        return {fmt::format("the snapshot of {} made {} bytes long", seq.value, file.size()), seq,
                seq, seq};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        static_cast<void>(raw);
        static_cast<void>(chance);
        // The older state under the newer position, as if it had been taken there.
        const Bytes old = fairsale::testing::read_file(snapshot_path(data, o.id, o.snapshots[0]));
        const fs::path path = snapshot_path(data, o.id, o.snapshots[1]);
        Bytes file = fairsale::testing::read_file(path);
        file.resize(kSnapshotHeader);
        file.insert(file.end(), old.begin() + kSnapshotHeader, old.end());
        reseal_snapshot(file);
        fairsale::testing::write_file(path, file);
        return {"an older state put into the newest snapshot", o.snapshots[1], o.snapshots[1],
                o.snapshots[1]};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        static_cast<void>(raw);
        const Seq seq = o.snapshots[below(chance, o.snapshots.size())];
        const fs::path path = snapshot_path(data, o.id, seq);
        Bytes file = fairsale::testing::read_file(path);
        file[32 + below(chance, 32)] ^= std::byte{1};  // of the head that it was taken at
        reseal_snapshot(file);
        fairsale::testing::write_file(path, file);
        return {fmt::format("the head in the snapshot of {} edited", seq.value), seq, seq, seq};
      },
      [](Raw& raw, const fs::path& data, const Original& o, Chance& chance) -> Planted {
        static_cast<void>(raw);
        const Seq seq = o.snapshots[below(chance, o.snapshots.size())];
        const Original& other = Good::store().sales()[below(chance, kSales)];
        const Seq far = after(seq, 100);
        const fs::path path = snapshot_path(data, o.id, far);
        fs::copy_file(snapshot_path(Good::store().path(), other.id, other.snapshots[0]), path);
        return {fmt::format("a snapshot of {} put beside", other.sku), far, far, far};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        auto row = raw.projections().any('R', o.id, chance);
        row.value.at(below(chance, row.value.size())) ^= 1;
        raw.projections().put(row);
        const Seq end = o.heads.back().seq;
        return {"a row of a projection edited", end, end, end};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        raw.projections().remove(raw.projections().any('R', o.id, chance));
        const Seq end = o.heads.back().seq;
        return {"a row of a projection removed", end, end, end};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        auto row = raw.projections().any('R', o.id, chance);
        row.key += 'x';
        raw.projections().put(row);
        const Seq end = o.heads.back().seq;
        return {"a row put into a projection", end, end, end};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        auto claim = raw.projections().any('M', o.id, chance);
        constexpr std::size_t kPosition = 8;  // then the number of rows and their digest
        claim.value.at(kPosition + below(chance, claim.value.size() - kPosition)) ^= 1;
        raw.projections().put(claim);
        const Seq end = o.heads.back().seq;
        return {"what a projection claims to have edited", end, end, end};
      },
      [](Raw& raw, const fs::path&, const Original& o, Chance& chance) -> Planted {
        // One position short it is within a block; or far behind the end of the log.
        auto claim = raw.projections().any('M', o.id, chance);
        const Seq end = o.heads.back().seq;
        const bool beyond = below(chance, 2) == 0;
        const Seq at = beyond ? after(end) : Seq{end.value - 1};
        put_le(reinterpret_cast<std::byte*>(claim.value.data()),
               beyond ? after(end, 500).value : at.value);
        raw.projections().put(claim);
        return {fmt::format("a projection made to claim another position, {}",
                            beyond ? "behind the end" : "short of the end"),
                at, at, at};
      },
  };
  return all;
}

// ---- Looking ----

struct Audit {
  std::optional<Error> refused;
  std::optional<Error> damage;
  std::map<std::uint64_t, SaleReport> sales;
};

Audit audit(const fs::path& data, std::vector<SavedHead> saved) {
  Audit out;
  const SnapshotFiles files(data / "snapshots", false);
  const auto projections = ProjectionStore::open_view(projections_directory(data));
  EXPECT_TRUE(projections) << projections.error().message;
  const StoreTasks wanted{.skus = {},
                          .saved = std::move(saved),
                          .snapshots = files.all(),
                          .projections = projections->get()};
  RecoveryReport recovery;
  const auto log = open_rocks_log({.directory = data, .mode = OpenMode::read_only}, recovery);
  if (!log) {
    out.refused = log.error();
    return out;
  }
  const auto plan = plan_audit(**log, wanted);
  if (!plan) {
    out.refused = plan.error();
    return out;
  }
  out.damage = plan->damage;
  EXPECT_TRUE(
      audit_store(**log, files, plan->tasks,
                  {.fairness = true, .projections = projections->get(), .jobs = 1, .progress = {}},
                  [&out](SaleReport&& r) { out.sales.emplace(r.id.value, std::move(r)); }));
  return out;
}

std::string describe(const SaleReport& r) {
  std::string s = fmt::format("{} ({} events)", r.sku, r.events);
  for (const Divergence& d : r.divergences) {
    s += fmt::format("\n    seq {} (from {}) {}: expected {}; found {}", d.seq.value, d.from.value,
                     name_of(d.check), d.expected, d.found);
  }
  return s;
}

std::string copy(const TempDir& to) {
  const fs::path data = to / "data";
  fairsale::testing::copy_tree(Good::store().path(), data);
  return data;
}

TEST(Tampering, TheStoreThatAllStartFromIsSound) {
  TempDir directory;
  const Audit a = audit(Good::store().path(), Good::store().saved());
  ASSERT_FALSE(a.refused) << a.refused->message;
  EXPECT_EQ(a.sales.size(), kSales + 1);
  for (const auto& [id, r] : a.sales) {
    EXPECT_TRUE(r.sound()) << describe(r);
    EXPECT_TRUE(r.fair());
    if (r.sku == "the-last-to-commit") continue;
    EXPECT_EQ(r.snapshots, 2U);
    EXPECT_EQ(r.saved_heads, 4U);
    EXPECT_EQ(r.projections, kStoredProjections.size());
  }
}

// Where it shows is where this kind of tampering must show; and what is doubted begins no later
// than the damage, and behind all that was vouched for.
void expect_named(const Divergence& d, const Planted& p, Seq vouched_for) {
  EXPECT_GE(d.seq, p.shows_first);
  EXPECT_LE(d.seq, p.shows_last);
  EXPECT_LE(d.from, p.seq);
  EXPECT_GT(d.from, vouched_for);
}

// Sales that are tampered with one by one, in the same store, so that what happened to one must not
// be laid to another.
TEST(Tampering, ThroughTheDatabaseIsFoundAndNamed) {
  fmt::print("seed {}\n", seed());
  const std::uint64_t only = from_environment("FAIRSALE_TAMPER_ROUND", ~std::uint64_t{0});
  std::map<std::string, unsigned> kinds;
  unsigned planted = 0;
  unsigned only_by_head = 0;
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    if (only != ~std::uint64_t{0} && round != only) continue;
    Chance chance(seed() * 1000 + round);
    TempDir directory;
    const fs::path data = copy(directory);
    std::map<std::uint64_t, Planted> plants;
    {
      Raw raw(data);
      for (const Original& o : Good::store().sales()) {
        if (below(chance, kSales) == 0) continue;  // this one stays as it is
        const Tamper& tamper = tampers()[below(chance, tampers().size())];
        plants.emplace(o.id.value, tamper(raw, data, o, chance));
      }
    }
    // It names the commit before all this, at which the heads were what they should be.
    fs::remove(data / "ACKED");
    const Audit blind = audit(data, {});
    const Audit seeing = audit(data, Good::store().saved());
    ASSERT_FALSE(blind.refused) << blind.refused->message;
    ASSERT_FALSE(seeing.refused) << seeing.refused->message;
    for (const Original& o : Good::store().sales()) {
      const SaleReport& without = blind.sales.at(o.id.value);
      const SaleReport& with = seeing.sales.at(o.id.value);
      const auto plant = plants.find(o.id.value);
      SCOPED_TRACE(fmt::format(
          "repeat with FAIRSALE_TAMPER_SEED={} FAIRSALE_TAMPER_ROUND={}: {}: {}\n  {}\n  with "
          "heads: {}",
          seed(), round, o.sku, plant == plants.end() ? "untouched" : plant->second.what,
          describe(without), describe(with)));
      if (plant == plants.end()) {
        EXPECT_TRUE(without.sound());
        EXPECT_TRUE(with.sound());
        continue;
      }
      ++planted;
      const Planted& p = plant->second;
      ++kinds[std::regex_replace(p.what, std::regex("[0-9]+|sale-"), "#")];
      ASSERT_FALSE(with.divergences.empty());
      expect_named(with.divergences[0], p, vouched(o, p, true));
      EXPECT_EQ(with.sku, o.sku);
      if (p.shows == Shows::with_a_head) {
        ++only_by_head;
        EXPECT_TRUE(without.sound());
        EXPECT_EQ(with.divergences[0].check, Check::saved_head);
      } else {
        ASSERT_FALSE(without.divergences.empty());
        expect_named(without.divergences[0], p, vouched(o, p, false));
      }
    }
    if (::testing::Test::HasFailure()) break;
  }
  for (const auto& [what, n] : kinds) fmt::print("{:5}  {}\n", n, what);
  fmt::print("{} planted, {} of them to be seen by a saved head only\n", planted, only_by_head);
  if (only == ~std::uint64_t{0}) {
    EXPECT_GE(planted, 1000U);
  }
}

// Bytes of files, below what RocksDB itself checks. Opening refuses most of it, and says where.
TEST(Tampering, OfFilesIsFoundAndNamed) {
  fmt::print("seed {}\n", seed());
  unsigned refused = 0;
  unsigned found = 0;
  TempDir flushed;
  const fs::path tables = copy(flushed);
  std::map<std::string, std::uint64_t> sizes;
  {
    Raw raw(tables);
    raw.flush();
    sizes = raw.tables();
  }
  ASSERT_FALSE(sizes.empty());
  TempDir unflushed;
  const fs::path logs = copy(unflushed);
  const std::regex names("SKU [^ ]*|position [0-9]+");
  for (unsigned n = 0; n < kFlips; ++n) {
    Chance chance(seed() * 1000 + 500 + n);
    const bool table = n % 2 == 0;
    const fs::path& data = table ? tables : logs;
    fs::path file;
    std::size_t size = 0;
    if (table) {
      const auto& [name, bytes] =
          *std::next(sizes.begin(), static_cast<long>(below(chance, sizes.size())));
      file = data / "log" / fs::path(name).filename();
      size = bytes;
    } else {
      file = fairsale::testing::log_files(data, ".log").back();
      size = fs::file_size(file);
    }
    const std::size_t at = below(chance, size);
    const auto bit = static_cast<unsigned>(below(chance, 8));
    fairsale::testing::flip_bit(file, at, bit);
    SCOPED_TRACE(fmt::format("repeat with FAIRSALE_TAMPER_SEED={}: flip {}: {} byte {} of {}",
                             seed(), n, file.filename().string(), at, size));
    const Audit a = audit(data, {});
    fairsale::testing::flip_bit(file, at, bit);  // as it was: reading changes nothing
    if (a.refused) {
      ++refused;
      EXPECT_EQ(a.refused->fault, Fault::damaged) << a.refused->message;
      EXPECT_TRUE(std::regex_search(a.refused->message, names)) << a.refused->message;
      continue;
    }
    bool named = false;
    for (const auto& [id, r] : a.sales) named |= !r.divergences.empty();
    EXPECT_TRUE(named);
    ++found;
  }
  fmt::print("{} refused on opening, {} found by the audit\n", refused, found);
}

// As long as the database has not forgotten it, the head as of the last acknowledged commit shows
// what was done since behind the log's back.
TEST(Tampering, AfterTheLastCommitIsShownByWhatWasAcknowledged) {
  for (const bool same_length : {false, true}) {
    TempDir directory;
    const fs::path data = copy(directory);
    const Original& o = Good::store().sales()[7];
    Chance chance(seed());
    {
      Raw raw(data);
      if (same_length) {
        rewrite(raw, o, 8, [&](Decoded& d) { alter(d, chance); });
      } else {
        for (std::size_t b = 8; b < o.blocks.size(); ++b) raw.remove_block(o.id, o.first(b));
        raw.put_head(o.id, {o.heads[7], o.first(7)});
      }
      remove_witnesses(raw, data, o);
    }
    const SaleReport r = audit(data, {}).sales.at(o.id.value);
    ASSERT_EQ(r.divergences_found, 1U) << describe(r);
    EXPECT_NE(r.divergences[0].expected.find("the acknowledged head"), std::string::npos);
    EXPECT_EQ(r.divergences[0].seq, after(same_length ? o.heads.back().seq : o.heads[7].seq));
    EXPECT_EQ(r.provisional, Seq{0});
  }
}

// A head's own record is what all else is found by; without it the store is refused as a whole.
TEST(Tampering, OfAHeadsRecordIsRefusedByName) {
  TempDir directory;
  const fs::path data = copy(directory);
  const Original& o = Good::store().sales()[3];
  {
    Raw raw(data);
    auto bytes = string_of(encode_head(o.id, {o.heads.back(), o.first(o.blocks.size() - 1)}));
    bytes[5] ^= 1;
    raw.put_head_bytes(o.id, bytes);
  }
  const Audit a = audit(data, {});
  ASSERT_TRUE(a.refused);
  EXPECT_EQ(a.refused->fault, Fault::damaged);
  EXPECT_NE(a.refused->message.find(o.sku), std::string::npos) << a.refused->message;
}

// What was acknowledged last is kept in ACKED too.
TEST(Tampering, OfTheLastCommitIsRefusedByName) {
  TempDir directory;
  const fs::path data = copy(directory);
  const SkuId last = sku_id("the-last-to-commit");
  {
    Raw raw(data);
    raw.remove_block(last, Seq{1});
    raw.remove_head(last);
  }
  const Audit a = audit(data, {});
  ASSERT_TRUE(a.refused);
  EXPECT_NE(a.refused->message.find(fmt::format("{:016x}", last.value)), std::string::npos)
      << a.refused->message;
}

TEST(Tampering, RowsOfASaleThatNeverWasAreFound) {
  TempDir directory;
  const fs::path data = copy(directory);
  const SkuId nobody = sku_id("nobody");
  {
    Raw raw(data);
    auto row = raw.projections().rows('R', Good::store().sales()[0].id).at(0);
    row.key.replace(row.key.size() - 8, 8, key_of(nobody));
    raw.projections().put(row);
  }
  const SaleReport r = audit(data, {}).sales.at(nobody.value);
  ASSERT_EQ(r.divergences.size(), 1U) << describe(r);
  EXPECT_EQ(r.divergences[0].check, Check::projection);
}

TEST(Tampering, AWholeSaleTakenAwayIsMissedByWhatIsLeftOfIt) {
  TempDir directory;
  const fs::path data = copy(directory);
  const Original& o = Good::store().sales()[5];
  {
    Raw raw(data);
    for (std::size_t b = 0; b < o.blocks.size(); ++b) raw.remove_block(o.id, o.first(b));
    raw.remove_head(o.id);
  }
  EXPECT_FALSE(audit(data, {}).sales.at(o.id.value).sound());
  {
    Raw raw(data);
    remove_witnesses(raw, data, o);
  }
  EXPECT_EQ(audit(data, {}).sales.count(o.id.value), 0U);
  const Audit a = audit(data, Good::store().saved());
  const SaleReport& r = a.sales.at(o.id.value);
  ASSERT_EQ(r.divergences.size(), 4U);
  EXPECT_EQ(r.divergences[0].seq, Seq{1});
  EXPECT_EQ(r.divergences[0].check, Check::saved_head);
  EXPECT_EQ(r.sku, o.sku);
}

}  // namespace
}  // namespace fairsale::audit
