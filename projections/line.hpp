// Who stands where in line. The sale knows who waits and whose turn comes; the place of one among
// all who wait is counted here.
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "core/domain/segmented.hpp"
#include "projections/projection.hpp"

namespace fairsale {

// A set of numbers that can count its members below any number: a bitmap with the counts of its
// blocks and of blocks of blocks (G. Jacobson, "Space-efficient static trees and graphs", 1989,
// with counts that are kept up to date). It takes about a bit for each number up to the largest.
class RankedSet {
 public:
  static constexpr std::uint32_t kNone = 0xffff'ffff;

  // With what it weighs, up to 65,535; taken out with the same.
  void insert(std::uint32_t, std::uint32_t weight = 1);
  void erase(std::uint32_t, std::uint32_t weight = 1);
  bool contains(std::uint32_t) const;
  // How many members are below `n`. O(largest / 65,536).
  std::uint32_t rank(std::uint32_t n) const;
  // What the members below `n` weigh together; `weight_of` a member is asked for at most 63 of
  // them. As rank() otherwise.
  template <class WeightOf>
  std::uint64_t weight_below(std::uint32_t n, WeightOf&& weight_of) const {
    std::uint64_t below = 0;
    const std::uint32_t word =
        static_cast<std::uint32_t>(std::min<std::size_t>(n / kWord, weights_.size()));
    std::uint32_t w = 0;
    for (std::uint32_t r = 0; w + kRegion / kWord <= word; w += kRegion / kWord) {
      below += region_weights_[r++];
    }
    for (std::uint32_t b = w / (kBlock / kWord); w + kBlock / kWord <= word; w += kBlock / kWord) {
      below += block_weights_[b++];
    }
    for (; w < word; ++w) below += weights_[w];
    for (std::uint32_t i = next(word * kWord); i < n; i = next(i + 1)) below += weight_of(i);
    return below;
  }
  // The smallest member that is not below `n`, or kNone.
  std::uint32_t next(std::uint32_t n) const;
  std::uint32_t size() const { return size_; }

 private:
  static constexpr std::uint32_t kWord = 64;
  static constexpr std::uint32_t kBlock = 1024;  // numbers
  static constexpr std::uint32_t kRegion = 65'536;

  Segmented<std::uint64_t> words_;
  Segmented<std::uint16_t> blocks_;
  Segmented<std::uint32_t> regions_;
  Segmented<std::uint32_t> weights_;  // of words
  Segmented<std::uint32_t> block_weights_;
  Segmented<std::uint64_t> region_weights_;
  std::uint32_t size_ = 0;
};

class LineProjection final : public Projection {
 public:
  std::string_view name() const override { return "line"; }
  std::uint32_t version() const override { return 2; }
  Seq cursor(SkuId sku) const override;
  Digest digest(SkuId sku) const override;

  // The place in line from 1, or nothing when the purchase does not wait.
  std::optional<std::uint32_t> place(SkuId sku, PurchaseIndex purchase) const;
  // The units that those who stand before this purchase want, which waits.
  std::uint64_t units_ahead(SkuId sku, const Sale& sale, PurchaseIndex purchase) const;
  // The first `limit` who wait, in order.
  std::vector<PurchaseIndex> head(SkuId sku, std::size_t limit) const;

  void seed(SkuId sku, const Sale& sale) override;
  void on_decision(SkuId sku, const Sale& sale, const Decision& d) override;
  void on_commit(SkuId sku, const Sale& sale) override;

 private:
  struct Line {
    RankedSet waiting;        // purchase indices, whose order is that of joining
    std::uint32_t first = 0;  // nobody before this one waits
  };
  struct PerSku {
    Seq cursor;
    std::unique_ptr<Line> line;  // none as long as nobody has waited: most sales are quiet
  };

  const Line* find(SkuId sku) const;
  static Line& line_of(PerSku&);

  std::unordered_map<std::uint64_t, PerSku> skus_;
};

}  // namespace fairsale
