// Folds a SKU's log piece by piece, so that whoever does it can look after something else between
// two pieces. Takes the memory of one more sale for as long as it lives.
#pragma once

#include "core/log/event_log.hpp"
#include "projections/stored/rows.hpp"

namespace fairsale {

class SaleFold {
 public:
  // Starts at the log's first event.
  explicit SaleFold(SkuId sku) : sku_(sku) {}
  // Starts at the newest snapshot at or before `known`, if there is one: for who needs nothing of
  // what comes before.
  static Result<SaleFold> from_snapshot(const EventLog& log, SkuId sku, Seq known);

  struct Piece {
    Stretch stretch;      // what the piece's events changed; from == to when there were none
    bool at_end = false;  // of the log as it was
  };

  // Folds on for about `events` events, in whole blocks. Rows of positions up to `known` are left
  // out. Fails, naming SKU and position, at the first damage.
  Result<Piece> next(const EventLog& log, std::uint64_t events, Seq known = Seq{0});

  SkuId sku() const { return sku_; }
  Seq position() const { return head_.seq; }
  const Sale& sale() const { return sale_; }

 private:
  SkuId sku_;
  Sale sale_;
  Head head_;
};

}  // namespace fairsale
