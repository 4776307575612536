// An EventLog in memory whose disk fails, with the promises of the real one: what was acknowledged
// is found again or missed aloud, and a torn end that nobody was promised goes by itself.
//
// It outlives the simulated processes: append() and the like are what a process calls; between two
// processes, crash() decides what the disk has kept, and open() judges that as RocksLog does
// (docs/log-format.md, Recovery), knowing nothing of what crash() did.
//
// The disk holds a write-ahead log, a record per commit, whose front part has moved into tables.
// Records are checked on opening, tables only where they are read. ACKED is what was acknowledged
// last; it is durable once settle() was called, and after a power cut it may be behind.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/head_record.hpp"
#include "tests/sim/chance.hpp"

namespace fairsale::sim {

// Thrown through the product at the point where its process dies.
struct Died {};

// Hears what is asked of the log, and may judge it.
class LogListener {
 public:
  virtual void committing(std::span<const BlockWrite>) = 0;
  virtual void committed() = 0;  // the commit that was announced last is acknowledged
  virtual void snapshot_put(SkuId, const Head&, const Sale&, const Digest& state) = 0;

 protected:
  ~LogListener() = default;
};

// What befalls an append.
enum class Blow : std::uint8_t {
  none,
  full,             // ENOSPC
  sync_error,       // fdatasync fails
  die_before_sync,  // nothing is known of the bytes
  die_after_sync,   // durable, but not on record as acknowledged
  die_after_ack,    // durable and on record, but the caller has not heard
};

// What a crash may do beside losing what was not synced.
struct Harm {
  bool power = false;   // otherwise only the process died
  bool rot = false;     // damage to what was acknowledged
  bool acked = false;   // loss of ACKED
  bool astray = false;  // the write under way may have landed elsewhere
};

// What is to be found after a crash.
struct Outcome {
  bool opens = true;   // otherwise open() refuses, and opens after repair()
  bool found = false;  // the commit whose caller never heard of it is in the log
  // A damaged block that opening does not look at: folding over it is refused.
  struct Rotten {
    SkuId sku;
    Seq last;
  };
  std::optional<Rotten> rotten;
  std::string what;  // in words, for the trace
};

// The record of the commit that was acknowledged last.
struct Acked {
  std::uint64_t sequence = 0;
  std::vector<std::pair<SkuId, Head>> heads;

  friend bool operator==(const Acked&, const Acked&) = default;
};

class FaultyLog final : public EventLog {
 public:
  explicit FaultyLog(LogListener& listener) : listener_(listener) {}

  // ---- The disk's side ----

  void strike_next_append(Blow b) { blow_ = b; }
  void fail_next_snapshot() { snapshot_fails_ = true; }
  Outcome crash(const Harm&, Chance&);
  // Starts a process: judges what is there, cuts off a torn end, refuses damage.
  Result<void> open();
  // Puts back what crash() damaged, as from a backup.
  void repair();
  // Moves all records into tables.
  void flush();
  // Damages, loses or exchanges some snapshot of the SKU.
  void spoil_snapshot(SkuId, Chance&);
  // A snapshot that the log knows nothing of.
  void plant_snapshot(SkuId, const Head&, const Sale&);
  // The bytes of the SKU's blocks are these, one after another.
  bool holds(SkuId, std::span<const std::byte>) const;
  // An append has failed, so that no other may succeed before the process has ended.
  bool failed() const { return dead_.has_value(); }
  // What is on record as acknowledged is so durably.
  bool settled() const { return !cached_ || (synced_acked_ && *synced_acked_ == *cached_); }

  // ---- The product's side ----

  Result<void> append(std::span<const BlockWrite> blocks) override;
  Result<void> read(SkuId sku, Seq from,
                    const std::function<bool(const BlockView&)>& visit) const override;
  Result<std::vector<SkuHead>> heads() const override;
  Result<std::vector<LastBlock>> last_blocks() const override;
  Result<void> put_snapshot(SkuId sku, const Head& at, const Sale& sale) override;
  Result<std::optional<Snapshot>> snapshot(SkuId sku, Seq at_most) const override;
  void settle() override { synced_acked_ = cached_; }

 private:
  using Bytes = std::vector<std::byte>;

  struct Place {
    Seq first;
    Seq last;
    std::size_t offset = 0;
    std::size_t size = 0;
  };
  struct StoredSnapshot {
    Head head;
    Digest state;
    Bytes bytes;
  };
  struct PerSku {
    std::vector<Place> blocks;
    HeadRecord head;
    std::size_t in_tables = 0;  // blocks
    HeadRecord table_head;
    std::vector<StoredSnapshot> snapshots;  // by position
  };
  struct Backup {
    Bytes wal;
    std::map<SkuId, PerSku> skus;
    std::optional<Acked> cached;
  };

  void write_record(std::span<const BlockWrite>);
  std::optional<std::size_t> record_at(std::size_t offset, std::uint64_t& sequence) const;
  bool a_record_after(std::size_t offset) const;
  std::vector<std::size_t> records() const;
  void enter(std::size_t offset);
  bool lose_in_flight(const Harm&, Chance&, Outcome&);
  void rot(Chance&, Outcome&);
  bool rot_in_tables(Chance&, Outcome&);
  Result<void> verify() const;
  bool ends_a_block(SkuId, const Head&) const;
  std::span<const std::byte> bytes_at(const Place& p) const {
    return std::span(wal_).subspan(p.offset, p.size);
  }

  LogListener& listener_;
  Blow blow_ = Blow::none;
  bool snapshot_fails_ = false;
  std::optional<Error> dead_;

  Bytes wal_;                             // as the operating system has it
  std::optional<std::size_t> in_flight_;  // where a commit begins of which nothing is known
  bool unheard_ = false;                  // the last commit is durable and its caller has not heard
  std::uint64_t sequence_ = 0;            // commits
  std::size_t tables_ = 0;                // how much of wal_ is in tables
  std::uint64_t tables_sequence_ = 0;
  std::map<SkuId, PerSku> skus_;
  std::optional<Acked> cached_ = Acked{};  // as the operating system has it
  std::optional<Acked> synced_acked_ = Acked{};
  std::optional<Backup> backup_;
};

}  // namespace fairsale::sim
