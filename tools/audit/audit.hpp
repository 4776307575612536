// The audit of a store: every sale from its first event on, against itself, against its snapshots
// and against heads that were kept elsewhere.
//
// What is checked of each sale:
//   block       every block is whole (CRC, digest), follows the one before it without a gap, is
//               chained to it and not earlier; the last one is what the recorded head says, and
//               nothing lies behind it
//   canonical   the decoded events, encoded again, give the stored bytes
//   name        the sale lies under its own SKU's id
//   invariant   after each event free, held and sold add up and no limit is passed; at snapshots
//               and at the end everything is recounted (Sale::check)
//   snapshot    each stored snapshot is whole, of a position in this log, and its bytes are those
//               of the state that the events lead to
//   saved_head  at each saved position the chain has the saved digest, and the state too
// and, when asked for, that it was fair (fairness.hpp).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/snapshot_files.hpp"
#include "tools/audit/fairness.hpp"
#include "tools/audit/saved_heads.hpp"

namespace fairsale::audit {

enum class Check : std::uint8_t { block, canonical, name, invariant, snapshot, saved_head };

std::string_view name_of(Check);

// Something that does not check out. A block is vouched for by the one after it, by the recorded
// head, a snapshot or a saved head. So where the log breaks, the damage may lie before the position
// where it shows, but not before `from`.
struct Divergence {
  Check check = Check::block;
  Seq seq;   // where it shows
  Seq from;  // the first position that may be concerned
  std::string expected;
  std::string found;
};

struct SaleReport {
  SkuId id;
  std::string sku;  // empty when its first events cannot be read and nobody named it
  Head head;        // as far as it has been checked
  Digest state;     // of the sale there; zeros when a block was left half folded
  Timestamp first;  // time of the first event
  std::uint64_t events = 0;
  std::uint64_t blocks = 0;
  Phase phase = Phase::none;
  Counters counters;
  std::uint64_t purchases = 0;
  std::uint64_t customers = 0;
  std::uint64_t snapshots = 0;       // compared
  std::uint64_t saved_heads = 0;     // compared
  std::uint64_t not_compared = 0;    // snapshots and saved heads behind the first bad block
  std::uint64_t snapshots_gone = 0;  // removed by a running server meanwhile
  double seconds = 0;

  std::vector<Divergence> divergences;  // by position as they were met; the first of them
  std::optional<Error> failure;         // the log could not be read for a reason other than damage
  std::optional<FairnessReport> fairness;

  bool sound() const { return divergences.empty() && !failure; }
  bool fair() const { return !fairness || fairness->fair(); }
};

struct SaleTask {
  SkuHead head;     // as recorded; seq 0 when the store has none
  Seq last_block;   // where its last block begins by the blocks' own keys; 0 when it has none
  std::string sku;  // if somebody named it
  std::vector<SavedHead> saved;
  std::vector<SnapshotName> snapshots;
};

struct AuditOptions {
  bool fairness = false;
  unsigned jobs = 1;                                   // threads; each audits one sale at a time
  std::function<void(std::uint64_t events)> progress;  // called from all of them
};

// Audits one sale. Holds its state in memory, and for the fairness check as much again.
SaleReport audit_sale(const EventLog&, const SnapshotFiles&, const SaleTask&, const AuditOptions&);

struct StoreTasks {
  std::vector<std::string> skus;        // only these; all when empty
  std::vector<SavedHead> saved;         // of any sales
  std::vector<SnapshotName> snapshots;  // as listed before the log was opened, see below
};

struct Plan {
  std::vector<SaleTask> tasks;
  // Damage that keeps the store from telling which blocks it has. Whose they are shows when the
  // sales are audited, unless no sale needs them.
  std::optional<Error> damage;
};

// What there is to audit: every sale that has a head, a block, a snapshot or a saved head. A server
// may go on writing; for snapshots that are listed before the log is opened, the log as opened
// reaches all their positions. Fails with not_found when a named sale is in none of them.
Result<Plan> plan_audit(const EventLog&, const StoreTasks&);

// Audits all of them, `jobs` at a time, the longest first; reports in the order of the tasks.
std::vector<SaleReport> audit_store(const EventLog&, const SnapshotFiles&,
                                    const std::vector<SaleTask>&, const AuditOptions&);

}  // namespace fairsale::audit
