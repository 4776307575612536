// A sale as it stood at a moment of the past: its log folded up to there, from the nearest snapshot
// before.
//
// The log is the clock: a moment given as a time is that after the last event at or before it, and
// what time alone brought since (an opening, an end, holds that ran out) has no event yet. It is
// told apart as due, since only the next event will decide it: a payment that comes first, say, may
// still be honoured.
#pragma once

#include <optional>
#include <vector>

#include "core/engine/recovery.hpp"
#include "core/explain/tally.hpp"

namespace fairsale::cli {

struct Moment {
  Sale sale;      // as its event at sale.seq() left it; none yet at position 0
  Timestamp now;  // the time that was asked for, else that of the event
  Seq from;       // position of the snapshot that it was folded from; 0 when none
};

// How to fold up to a moment. A snapshot is taken at its word: it vouches for itself by its digest,
// and its position and head must be in the log, but nobody looks whether the log leads to its
// state.
struct Way {
  FoldFrom from = FoldFrom::snapshot;
  SaleObserver* observer = nullptr;  // sees each decision on the way
};

// After the event at `at`. Fails with not_found when the log ends before.
Result<Moment> moment_at(const EventLog&, const SkuHead&, Seq at, const Way& = {});

// After the last event at or before `time`, with `time` as its now.
Result<Moment> moment_at(const EventLog&, const SkuHead&, Timestamp time, const Way& = {});

// The position of the last event at or before `time`; 0 when there is none. Looks at some twenty
// blocks, however long the log.
Result<Seq> position_at(const EventLog&, const SkuHead&, Timestamp time);

// What time has brought by Moment::now and no event has decided yet.
struct Due {
  bool opening = false;
  bool end = false;
  Tally holds;  // whose deadline, grace included, has come
};

struct Standing {
  PurchaseIndex purchase;
  std::uint32_t place = 0;  // in line at the moment; 0 when it does not wait
  bool due = false;         // it holds units and its deadline has come
};

struct Look {
  Due due;
  Tally line;                    // all who wait
  std::vector<Seq> next;         // the first of them, in their order
  std::vector<Standing> chosen;  // whose standing was asked for, in log order
  std::uint32_t left_out = 0;    // purchases that were asked for and are too many to list
};

inline constexpr std::size_t kMaxStandings = 1000;
inline constexpr std::size_t kMaxNext = 10;

// One pass over the purchases; `customer` or `purchase` choose whose standing is told.
Look look_at(const Moment&, std::optional<CustomerIndex> customer, std::optional<Seq> purchase);

}  // namespace fairsale::cli
