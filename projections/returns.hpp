// How fast units come back: what an estimate of the time in line rests on.
//
// Observed per SKU, from decisions and in the log's time: the units of holds that ended, and of
// these the ones that were not paid for (expired, cancelled or declined), and units of orders that
// were refunded and put back. All fade with a half-life of a minute, or of a hold where that is
// longer, so that the present course counts. The rate is the faded sum of what came back, over the
// faded time in which it did. That begins a hold before the first end of one, since holds of a rush
// begin and end together: what came back at once took a hold's time to do so.
//
// The estimate for who needs `units` to come back, those wanted by purchases ahead included, is
// units / rate. Nothing is claimed (no value)
//   - before kLeastReturns purchases have given something back, as faded by then, and kLeastTime
//     has passed since the first,
//   - when more is needed than can be expected to come back from what is held now, given the share
//     of holds that end unpaid: a unit that comes back is held again, so of H units
//     H s + H s^2 + ... = H s / (1 - s) come back in the end.
//
// Its limits: it takes the course to go on as it did; it is rough while the first holds of a rush
// end; it does not see who ahead will give up a place in line; and it begins anew with the server,
// since a snapshot of the sale has no history.
#pragma once

#include <optional>
#include <unordered_map>

#include "core/engine/observer.hpp"

namespace fairsale {

class Returns final : public SaleObserver {
 public:
  static constexpr Duration kLeastHalfLife{60'000};
  static constexpr double kLeastReturns = 5;
  static constexpr Duration kLeastTime{5'000};

  // The time until this many units will have come back, by the course up to sale.time().
  std::optional<Duration> estimate(SkuId sku, const Sale& sale, std::uint64_t units) const;

  void seed(SkuId sku, const Sale& sale) override;
  void on_decision(SkuId sku, const Sale& sale, const Decision& d) override;
  void on_commit(SkuId, const Sale&) override {}

 private:
  // All sums are as of `at`.
  struct Course {
    Timestamp first;  // end of a hold
    Timestamp at;
    Duration half_life;  // this and the next as the terms were then
    Duration hold;
    double purchases = 0;  // that gave something back
    double returned = 0;   // units
    double unpaid = 0;     // units of holds
    double ended = 0;      // likewise, paid ones included
    void fade(Timestamp now);
  };
  struct PerSku {
    Quantity stocked;  // tells a refund that puts units back from one that does not
    std::optional<Course> course;
  };

  std::unordered_map<std::uint64_t, PerSku> skus_;
};

}  // namespace fairsale
