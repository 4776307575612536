// Shows how far a fold has come.
#pragma once

#include "core/engine/observer.hpp"
#include "tools/store/progress.hpp"

namespace fairsale::cli {

// The observer of one fold after another, whose events together are the total. What a fold need not
// do, since it starts from a snapshot, is taken off the total. `progress` outlives it.
class FoldProgress final : public SaleObserver {
 public:
  explicit FoldProgress(Progress& progress) : progress_(progress) {}

  // Null when nobody looks, so that the fold is not held up.
  SaleObserver* if_visible() { return progress_.visible() ? this : nullptr; }

  void seed(SkuId, const Sale& sale) override {
    at_ = sale.seq();
    progress_.skip(at_.value);
  }
  void on_decision(SkuId, const Sale& sale, const Decision&) override {
    if (sale.seq().value - at_.value >= kStep) report(sale);
  }
  void on_commit(SkuId, const Sale& sale) override { report(sale); }

 private:
  static constexpr std::uint64_t kStep = 4096;

  void report(const Sale& sale) {
    progress_.add(sale.seq().value - at_.value);
    at_ = sale.seq();
  }

  Progress& progress_;
  Seq at_;
};

}  // namespace fairsale::cli
