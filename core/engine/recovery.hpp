// Folding a SKU's log into its state: at start, and in the audit tools.
#pragma once

#include <functional>
#include <vector>

#include "core/engine/observer.hpp"
#include "core/log/event_log.hpp"

namespace fairsale {

enum class FoldFrom {
  snapshot,  // the newest usable snapshot, if any
  start,     // position 1: what an audit wants
};

struct Folded {
  Sale sale;
  Head head;  // of the last block that was folded whole
  Seq from;   // position of the snapshot that it started from; 0 when none
};

// Folds the log of `sku` up to its recorded head, or to `until` if that is earlier. Every block is
// checked whole and against the one before it. The observer is seeded at the start and sees each
// decision; pass nullptr for none. Fails, naming SKU and position, at the first damage.
Result<Folded> fold(const EventLog& log, const SkuHead& sku, FoldFrom from, SaleObserver* observer,
                    Seq until = Seq{~0ULL});

// Passes on, in order, the blocks that follow `from` up to the one that holds position `last` (at
// most the recorded head's), each checked whole and against the one before it; `visit` may fail,
// which ends it. Returns the head of the last block that ends at or before `last`. Fails, naming
// SKU and position, at the first damage, and when the chain does not lead to the recorded head.
Result<Head> follow(const EventLog& log, const SkuHead& sku, const Head& from, Seq last,
                    const std::function<Result<void>(const BlockView&)>& visit);

// Passes everything on to several observers, in order.
class Observers final : public SaleObserver {
 public:
  explicit Observers(std::vector<SaleObserver*> all) : all_(std::move(all)) {}

  void seed(SkuId sku, const Sale& sale) override {
    for (auto* o : all_) o->seed(sku, sale);
  }
  void on_decision(SkuId sku, const Sale& sale, const Decision& d) override {
    for (auto* o : all_) o->on_decision(sku, sale, d);
  }
  void on_commit(SkuId sku, const Sale& sale) override {
    for (auto* o : all_) o->on_commit(sku, sale);
  }

 private:
  std::vector<SaleObserver*> all_;
};

// The DecisionSink that hands a sale's decisions to an observer (or to nobody).
class ObserverSink final : public DecisionSink {
 public:
  ObserverSink(SkuId sku, const Sale& sale, SaleObserver* observer)
      : sku_(sku), sale_(sale), observer_(observer) {}

  void on(const Decision& d) override {
    if (observer_ != nullptr) observer_->on_decision(sku_, sale_, d);
  }

 private:
  SkuId sku_;
  const Sale& sale_;
  SaleObserver* observer_;
};

}  // namespace fairsale
