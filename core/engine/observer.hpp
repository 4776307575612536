// How what was decided leaves the engine: projections and the outbox observe.
#pragma once

#include "core/domain/sale.hpp"

namespace fairsale {

// Called on the thread that owns the SKU's sequencer (during recovery: on the one that recovers
// it), and only about what is durable. References are valid during the call.
class SaleObserver {
 public:
  virtual ~SaleObserver() = default;

  // Forgets what it knew of the SKU and starts from this state; decisions after sale.seq() follow.
  virtual void seed(SkuId sku, const Sale& sale) = 0;

  // One decision; the sale already reflects it. In log order, each once.
  virtual void on_decision(SkuId sku, const Sale& sale, const Decision& decision) = 0;

  // All decisions up to sale.seq() have been passed on. Once per commit, not per event; of a commit
  // that holds several SKUs or log times, once for each of its blocks, before the next is told of.
  virtual void on_commit(SkuId sku, const Sale& sale) = 0;
};

}  // namespace fairsale
