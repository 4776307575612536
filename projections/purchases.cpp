#include "projections/purchases.hpp"

#include <algorithm>

namespace fairsale {

namespace {

// The first index in [0, n) whose position is not below `purchase`.
template <class Position>
std::size_t lower_bound(std::size_t n, Seq purchase, Position&& position) {
  std::size_t low = 0;
  while (low < n) {
    const std::size_t mid = low + (n - low) / 2;
    if (position(mid) < purchase) {
      low = mid + 1;
    } else {
      n = mid;
    }
  }
  return low;
}

template <class Map>
Seq cursor_of(const Map& skus, SkuId sku) {
  const auto found = skus.find(sku.value);
  return found == skus.end() ? Seq{0} : found->second.cursor;
}

// Whether this decision is the first about a purchase: a hold at once or a place in line.
bool begins_purchase(const Decision& d) {
  return d.kind == DecisionKind::reserved || d.kind == DecisionKind::waiting;
}

DigestWriter begin_digest(const Projection& p, SkuId sku) {
  DigestWriter w;
  w.text(p.name());
  w.number(p.version());
  w.number(p.cursor(sku).value);
  return w;
}

}  // namespace

// ---- Purchases ----

Seq PurchasesProjection::cursor(SkuId sku) const { return cursor_of(skus_, sku); }

PurchasesProjection::Entry* PurchasesProjection::find(PerSku& sku, Seq purchase) {
  const std::size_t i = lower_bound(sku.entries.size(), purchase,
                                    [&](std::size_t k) { return sku.entries[k].purchase; });
  if (i == sku.entries.size() || sku.entries[i].purchase != purchase) return nullptr;
  return &sku.entries[i];
}

std::optional<PurchaseView> PurchasesProjection::find(SkuId sku, Seq purchase) const {
  const auto found = skus_.find(sku.value);
  if (found == skus_.end()) return std::nullopt;
  const auto& entries = found->second.entries;
  const std::size_t i =
      lower_bound(entries.size(), purchase, [&](std::size_t k) { return entries[k].purchase; });
  if (i == entries.size() || entries[i].purchase != purchase) return std::nullopt;
  const Entry& e = entries[i];
  return PurchaseView{.purchase = e.purchase,
                      .until = e.until,
                      .customer = CustomerIndex{e.customer},
                      .quantity = Quantity{e.quantity},
                      .status = e.status,
                      .reason = e.reason};
}

void PurchasesProjection::seed(SkuId sku, const Sale& sale) {
  PerSku fresh;
  fresh.cursor = sale.seq();
  for (std::uint32_t i = 0; i < sale.purchases(); ++i) {
    const Purchase& p = sale.purchase(PurchaseIndex{i});
    if (p.status == PurchaseStatus::refused) continue;
    fresh.entries.push_back({.purchase = p.seq,
                             .until = p.until,
                             .customer = p.customer,
                             .quantity = p.quantity,
                             .status = p.status,
                             .reason = p.reason});
  }
  skus_[sku.value] = std::move(fresh);
}

void PurchasesProjection::on_decision(SkuId id, const Sale&, const Decision& d) {
  PerSku& sku = skus_[id.value];
  if (begins_purchase(d)) {
    const bool reserved = d.kind == DecisionKind::reserved;
    sku.entries.push_back(
        {.purchase = d.purchase,
         .until = d.until,
         .customer = d.customer.value,
         .quantity = static_cast<std::uint16_t>(d.quantity.value),
         .status = reserved ? PurchaseStatus::reserved : PurchaseStatus::waiting});
    return;
  }
  const auto move = [&](PurchaseStatus to, Reason why = Reason::none) {
    Entry* e = find(sku, d.purchase);
    FAIRSALE_INVARIANT(e != nullptr, "a purchase is reserved or waits before anything else");
    e->status = to;
    e->reason = why;
    e->until = d.until;
  };
  switch (d.kind) {
    case DecisionKind::offered: move(PurchaseStatus::offered); break;
    case DecisionKind::expired: move(PurchaseStatus::expired); break;
    case DecisionKind::cancelled: move(PurchaseStatus::cancelled); break;
    case DecisionKind::declined: move(PurchaseStatus::declined); break;
    case DecisionKind::ordered: move(PurchaseStatus::ordered); break;
    case DecisionKind::refunded: move(PurchaseStatus::refunded); break;
    case DecisionKind::released: move(PurchaseStatus::released, d.reason); break;
    default: break;
  }
}

void PurchasesProjection::on_commit(SkuId sku, const Sale& sale) {
  skus_[sku.value].cursor = sale.seq();
}

Digest PurchasesProjection::digest(SkuId sku) const {
  DigestWriter w = begin_digest(*this, sku);
  const auto found = skus_.find(sku.value);
  if (found != skus_.end()) {
    const auto& entries = found->second.entries;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      const Entry& e = entries[i];
      w.number(e.purchase.value);
      w.number(static_cast<std::uint64_t>(e.until.value));
      w.number(e.customer);
      w.number(e.quantity);
      w.number(static_cast<std::uint64_t>(e.status));
      w.number(static_cast<std::uint64_t>(e.reason));
    }
  }
  return w.finish();
}

// ---- Customers ----

Seq CustomersProjection::cursor(SkuId sku) const { return cursor_of(skus_, sku); }

std::vector<Seq> CustomersProjection::find(SkuId id, CustomerIndex customer,
                                           std::size_t limit) const {
  std::vector<Seq> out;
  const auto found = skus_.find(id.value);
  if (found == skus_.end() || customer.value >= found->second.latest.size()) return out;
  const PerSku& sku = found->second;
  for (std::uint32_t i = sku.latest[customer.value]; i != kNoIndex && out.size() < limit;
       i = sku.entries[i].previous) {
    out.push_back(sku.entries[i].purchase);
  }
  return out;
}

void CustomersProjection::enter(PerSku& sku, std::uint32_t customer, Seq purchase) {
  while (sku.latest.size() <= customer) sku.latest.push_back(kNoIndex);
  const auto index = static_cast<std::uint32_t>(sku.entries.size());
  sku.entries.push_back({.purchase = purchase, .previous = sku.latest[customer]});
  sku.latest[customer] = index;
}

void CustomersProjection::seed(SkuId sku, const Sale& sale) {
  PerSku fresh;
  fresh.cursor = sale.seq();
  for (std::uint32_t i = 0; i < sale.purchases(); ++i) {
    const Purchase& p = sale.purchase(PurchaseIndex{i});
    if (p.status != PurchaseStatus::refused) enter(fresh, p.customer, p.seq);
  }
  skus_[sku.value] = std::move(fresh);
}

void CustomersProjection::on_decision(SkuId sku, const Sale&, const Decision& d) {
  if (begins_purchase(d)) enter(skus_[sku.value], d.customer.value, d.purchase);
}

void CustomersProjection::on_commit(SkuId sku, const Sale& sale) {
  skus_[sku.value].cursor = sale.seq();
}

Digest CustomersProjection::digest(SkuId id) const {
  DigestWriter w = begin_digest(*this, id);
  const auto found = skus_.find(id.value);
  if (found != skus_.end()) {
    const PerSku& sku = found->second;
    for (std::uint32_t c = 0; c < sku.latest.size(); ++c) {
      if (sku.latest[c] == kNoIndex) continue;
      w.number(c);
      for (const Seq purchase : find(id, CustomerIndex{c}, sku.entries.size())) {
        w.number(purchase.value);
      }
    }
  }
  return w.finish();
}

// ---- The line ----

Seq LineProjection::cursor(SkuId sku) const { return cursor_of(skus_, sku); }

std::optional<std::size_t> LineProjection::index_of(const PerSku& sku, Seq purchase) {
  const std::size_t i =
      lower_bound(sku.joined.size(), purchase, [&](std::size_t k) { return sku.joined[k]; });
  if (i == sku.joined.size() || sku.joined[i] != purchase) return std::nullopt;
  return i;
}

// How many of the first n who joined still wait.
std::uint32_t LineProjection::count_to(const PerSku& sku, std::size_t n) {
  std::uint32_t sum = 0;
  for (; n > 0; n -= n & (~n + 1)) sum += sku.count[n];
  return sum;
}

bool LineProjection::waits(const PerSku& sku, std::size_t index) {
  return count_to(sku, index + 1) != count_to(sku, index);
}

void LineProjection::join(PerSku& sku, Seq purchase) {
  if (sku.count.empty()) sku.count.push_back(0);
  sku.joined.push_back(purchase);
  const std::size_t n = sku.joined.size();
  // The new node covers (n - lowbit(n), n]; all of it but the newcomer is summed already.
  const std::size_t below = n - (n & (~n + 1));
  sku.count.push_back(count_to(sku, n - 1) - count_to(sku, below) + 1);
  ++sku.waiting;
}

void LineProjection::leave(PerSku& sku, Seq purchase) {
  const auto index = index_of(sku, purchase);
  FAIRSALE_INVARIANT(index.has_value(), "only who joined the line can leave it");
  for (std::size_t n = *index + 1; n < sku.count.size(); n += n & (~n + 1)) --sku.count[n];
  --sku.waiting;
  while (sku.first < sku.joined.size() && !waits(sku, sku.first)) ++sku.first;
}

std::optional<std::uint32_t> LineProjection::place(SkuId id, Seq purchase) const {
  const auto found = skus_.find(id.value);
  if (found == skus_.end()) return std::nullopt;
  const PerSku& sku = found->second;
  const auto index = index_of(sku, purchase);
  if (!index || !waits(sku, *index)) return std::nullopt;
  return count_to(sku, *index + 1);
}

std::vector<Seq> LineProjection::head(SkuId id, std::size_t limit) const {
  std::vector<Seq> out;
  const auto found = skus_.find(id.value);
  if (found == skus_.end()) return out;
  const PerSku& sku = found->second;
  for (std::size_t i = sku.first; i < sku.joined.size() && out.size() < limit; ++i) {
    if (waits(sku, i)) out.push_back(sku.joined[i]);
  }
  return out;
}

// The line as it stood is enough: who left it before is of no interest, so a seeded projection
// has fewer entries than a followed one, but the same places.
void LineProjection::seed(SkuId sku, const Sale& sale) {
  PerSku fresh;
  fresh.cursor = sale.seq();
  for (std::uint32_t i = 0; i < sale.purchases(); ++i) {
    const Purchase& p = sale.purchase(PurchaseIndex{i});
    if (p.status == PurchaseStatus::waiting) join(fresh, p.seq);
  }
  skus_[sku.value] = std::move(fresh);
}

void LineProjection::on_decision(SkuId id, const Sale&, const Decision& d) {
  PerSku& sku = skus_[id.value];
  switch (d.kind) {
    case DecisionKind::waiting: join(sku, d.purchase); break;
    case DecisionKind::offered:
    case DecisionKind::released: leave(sku, d.purchase); break;
    case DecisionKind::cancelled:
      // A cancelled hold is no longer in line, and one cancelled in line still is.
      if (const auto i = index_of(sku, d.purchase); i && waits(sku, *i)) leave(sku, d.purchase);
      break;
    default: break;
  }
}

void LineProjection::on_commit(SkuId sku, const Sale& sale) {
  skus_[sku.value].cursor = sale.seq();
}

Digest LineProjection::digest(SkuId id) const {
  DigestWriter w = begin_digest(*this, id);
  const auto found = skus_.find(id.value);
  if (found != skus_.end()) {
    w.number(found->second.waiting);
    for (const Seq purchase : head(id, found->second.waiting)) w.number(purchase.value);
  }
  return w.finish();
}

}  // namespace fairsale
