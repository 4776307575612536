#include "projections/line.hpp"

#include <bit>

namespace fairsale {

// ---- The set ----

void RankedSet::insert(std::uint32_t n, std::uint32_t weight) {
  while (words_.size() <= n / kWord) {
    words_.push_back(0);
    weights_.push_back(0);
  }
  while (blocks_.size() <= n / kBlock) {
    blocks_.push_back(0);
    block_weights_.push_back(0);
  }
  while (regions_.size() <= n / kRegion) {
    regions_.push_back(0);
    region_weights_.push_back(0);
  }
  weights_[n / kWord] += weight;
  block_weights_[n / kBlock] += weight;
  region_weights_[n / kRegion] += weight;
  words_[n / kWord] |= std::uint64_t{1} << n % kWord;
  ++blocks_[n / kBlock];
  ++regions_[n / kRegion];
  ++size_;
}

void RankedSet::erase(std::uint32_t n, std::uint32_t weight) {
  FAIRSALE_INVARIANT(contains(n), "only a member can be taken out");
  weights_[n / kWord] -= weight;
  block_weights_[n / kBlock] -= weight;
  region_weights_[n / kRegion] -= weight;
  words_[n / kWord] &= ~(std::uint64_t{1} << n % kWord);
  --blocks_[n / kBlock];
  --regions_[n / kRegion];
  --size_;
}

bool RankedSet::contains(std::uint32_t n) const {
  return n / kWord < words_.size() && (words_[n / kWord] >> n % kWord & 1) != 0;
}

std::uint32_t RankedSet::rank(std::uint32_t n) const {
  if (n / kWord >= words_.size()) return size_;
  std::uint32_t below = 0;
  for (std::uint32_t r = 0; r < n / kRegion; ++r) below += regions_[r];
  for (std::uint32_t b = n / kRegion * (kRegion / kBlock); b < n / kBlock; ++b) below += blocks_[b];
  for (std::uint32_t w = n / kBlock * (kBlock / kWord); w < n / kWord; ++w) {
    below += static_cast<std::uint32_t>(std::popcount(words_[w]));
  }
  const std::uint64_t low = (std::uint64_t{1} << n % kWord) - 1;
  return below + static_cast<std::uint32_t>(std::popcount(words_[n / kWord] & low));
}

std::uint32_t RankedSet::next(std::uint32_t n) const {
  while (n / kWord < words_.size()) {
    if (n % kRegion == 0 && regions_[n / kRegion] == 0) {
      n += kRegion;
    } else if (n % kBlock == 0 && blocks_[n / kBlock] == 0) {
      n += kBlock;
    } else if (const std::uint64_t rest = words_[n / kWord] >> n % kWord; rest != 0) {
      return n + static_cast<std::uint32_t>(std::countr_zero(rest));
    } else {
      n += kWord - n % kWord;
    }
  }
  return kNone;
}

// ---- The line ----

Seq LineProjection::cursor(SkuId sku) const {
  const auto found = skus_.find(sku.value);
  return found == skus_.end() ? Seq{0} : found->second.cursor;
}

const LineProjection::Line* LineProjection::find(SkuId sku) const {
  const auto found = skus_.find(sku.value);
  return found == skus_.end() ? nullptr : found->second.line.get();
}

LineProjection::Line& LineProjection::line_of(PerSku& sku) {
  if (!sku.line) sku.line = std::make_unique<Line>();
  return *sku.line;
}

std::optional<std::uint32_t> LineProjection::place(SkuId sku, PurchaseIndex purchase) const {
  const Line* line = find(sku);
  if (line == nullptr || !line->waiting.contains(purchase.value)) return std::nullopt;
  return line->waiting.rank(purchase.value) + 1;
}

std::uint64_t LineProjection::units_ahead(SkuId sku, const Sale& sale,
                                          PurchaseIndex purchase) const {
  const Line* line = find(sku);
  if (line == nullptr) return 0;
  return line->waiting.weight_below(purchase.value, [&](std::uint32_t i) {
    return std::uint64_t{sale.purchase(PurchaseIndex{i}).quantity};
  });
}

std::vector<PurchaseIndex> LineProjection::head(SkuId sku, std::size_t limit) const {
  std::vector<PurchaseIndex> out;
  const Line* line = find(sku);
  if (line == nullptr) return out;
  for (std::uint32_t i = line->waiting.next(line->first);
       i != RankedSet::kNone && out.size() < limit; i = line->waiting.next(i + 1)) {
    out.push_back(PurchaseIndex{i});
  }
  return out;
}

void LineProjection::seed(SkuId sku, const Sale& sale) {
  PerSku fresh{.cursor = sale.seq(), .line = nullptr};
  for (std::uint32_t i = 0; i < sale.purchases(); ++i) {
    const Purchase& p = sale.purchase(PurchaseIndex{i});
    if (p.status == PurchaseStatus::waiting) line_of(fresh).waiting.insert(i, p.quantity);
  }
  skus_[sku.value] = std::move(fresh);
}

void LineProjection::on_decision(SkuId sku, const Sale& sale, const Decision& d) {
  switch (d.kind) {
    case DecisionKind::waiting:
      // Who joins has just come, so theirs is the newest purchase.
      line_of(skus_[sku.value])
          .waiting.insert(static_cast<std::uint32_t>(sale.purchases() - 1), d.quantity.value);
      return;
    case DecisionKind::offered:
    case DecisionKind::released:
    case DecisionKind::cancelled: break;
    default: return;
  }
  Line* line = skus_[sku.value].line.get();
  if (line == nullptr) return;  // a cancelled hold
  // Mostly it is the first of the line who leaves it.
  line->first = line->waiting.next(line->first);
  if (line->first == RankedSet::kNone) {
    line->first = static_cast<std::uint32_t>(sale.purchases());
    return;
  }
  std::uint32_t index = line->first;
  if (sale.purchase(PurchaseIndex{index}).seq != d.purchase) {
    index = sale.find_purchase(d.purchase)->value;
  }
  // A cancelled hold is no longer in line, and one cancelled in line still is.
  if (line->waiting.contains(index)) line->waiting.erase(index, d.quantity.value);
}

void LineProjection::on_commit(SkuId sku, const Sale& sale) {
  skus_[sku.value].cursor = sale.seq();
}

Digest LineProjection::digest(SkuId id) const {
  DigestWriter w;
  w.text(name());
  w.number(version());
  w.number(cursor(id).value);
  if (const Line* line = find(id); line != nullptr) {
    for (const PurchaseIndex p : head(id, line->waiting.size())) w.number(p.value);
  }
  return w.finish();
}

}  // namespace fairsale
