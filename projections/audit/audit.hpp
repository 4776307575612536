// The audit of a store: every sale from its first event on, against itself, against its snapshots
// and stored projections, and against heads that were kept elsewhere.
//
// What is checked of each sale:
//   block       every block is whole (CRC, digest), follows the one before it without a gap, is
//               chained to it and not earlier; the last one is what the recorded head says, and
//               nothing lies behind it; its bytes are the only ones of its events (EventDecoder)
//   name        the sale lies under its own SKU's id
//   invariant   after each event free, held and sold add up and no limit is passed; at snapshots
//               and at the end everything is recounted (Sale::check)
//   snapshot    each stored snapshot is whole, of a position in this log, and its bytes are those
//               of the state that the events lead to
//   projection  each row of each current stored projection is what the log makes it, none is
//   missing
//               or too much, and their number and digest are as claimed
//   saved_head  at each saved position the chain has the saved digest, and the state too if saved
// and, when asked for, that it was fair (fairness.hpp).
//
// It goes as far as the log is known to be durable. What a running server has written behind that
// is provisional, no evidence yet, and left out; unless a saved head vouches that it was
// acknowledged.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/snapshot_files.hpp"
#include "projections/audit/fairness.hpp"
#include "projections/audit/saved_heads.hpp"
#include "projections/stored/store.hpp"

namespace fairsale::audit {

enum class Check : std::uint8_t { block, name, invariant, snapshot, projection, saved_head };

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

// Of counts that differ: what the decisions add up to, and what the sale says.
Divergence counts_differ(Seq, const Counters& decided, const Counters& sale);

struct SaleReport {
  static constexpr std::size_t kMostDivergences = 100;

  std::size_t number = 0;  // of its task
  SkuId id;
  std::string sku;        // empty when its first events cannot be read and nobody named it
  Head head;              // as far as it has been checked
  Digest state;           // of the sale there; zeros when a block was left half folded
  Timestamp first;        // time of the first event
  Seq provisional;        // where the log ends, when that lies behind what was audited; else 0
  bool complete = false;  // followed to its end, as far as it was to be audited
  std::uint64_t events = 0;
  std::uint64_t blocks = 0;
  Phase phase = Phase::none;
  Counters counters;
  std::uint64_t purchases = 0;
  std::uint64_t customers = 0;
  std::uint64_t snapshots = 0;       // compared
  std::uint64_t projections = 0;     // compared
  std::uint64_t saved_heads = 0;     // compared
  std::uint64_t not_compared = 0;    // of all these, behind what was audited
  std::uint64_t snapshots_gone = 0;  // removed by a running server meanwhile
  double seconds = 0;

  std::vector<Divergence> divergences;  // by position as they were met; the first of them
  std::uint64_t divergences_found = 0;
  std::optional<Error> failure;  // the log could not be read for a reason other than damage
  std::optional<FairnessReport> fairness;

  bool sound() const { return divergences_found == 0 && !failure; }
  bool unfair() const { return fairness && !fairness->fair(); }  // a promise was broken
  bool fair() const { return fairness && fairness->fair() && complete; }
  bool troubled() const { return !sound() || unfair(); }
};

struct SaleTask {
  SkuHead head;     // as recorded; seq 0 when the store has none
  Head durable;     // as it is known to be durable; seq 0 when nothing is
  Seq last_block;   // where its last block begins by the blocks' own keys; 0 when it has none
  std::string sku;  // if somebody named it
  std::vector<SavedHead> saved;
  std::vector<SnapshotName> snapshots;
};

struct AuditOptions {
  bool fairness = false;
  const ProjectionStore* projections = nullptr;        // to compare, as opened before the log
  unsigned jobs = 1;                                   // threads; each audits one sale at a time
  std::function<void(std::uint64_t events)> progress;  // called from all of them
  // Asked after each block and before each sale; once it says no, reports are broken off and are
  // failures, and no further ones are begun.
  std::function<bool()> go_on;
};

// Audits one sale. Holds its state in memory, and for the fairness check as much again; when that
// is more than there is, the report is a failure.
SaleReport audit_sale(const EventLog&, const SnapshotFiles&, const SaleTask&, const AuditOptions&);

struct StoreTasks {
  std::vector<std::string> skus;                 // only these; all when empty
  std::vector<SavedHead> saved;                  // of any sales
  std::vector<SnapshotName> snapshots;           // as listed before the log was opened, see below
  const ProjectionStore* projections = nullptr;  // likewise
};

struct Plan {
  std::vector<SaleTask> tasks;
  // Damage that keeps the store from telling which blocks it has. Whose they are shows when the
  // sales are audited, unless no sale needs them.
  std::optional<Error> damage;
};

// What there is to audit: every sale that has a head, a block, a snapshot, a stored projection or a
// saved head. A server may go on writing; for snapshots that are listed and projections that are
// opened before the log is, the log as opened reaches all their positions. Fails with not_found
// when a named sale is in none of them.
Result<Plan> plan_audit(const EventLog&, const StoreTasks&);

// Audits all of them, `jobs` at a time, the longest first, and passes each report on when it is
// ready, one after the other. Fails only when there is no memory left to pass them on.
Result<void> audit_store(const EventLog&, const SnapshotFiles&, const std::vector<SaleTask>&,
                         const AuditOptions&, const std::function<void(SaleReport&&)>& done);

}  // namespace fairsale::audit
