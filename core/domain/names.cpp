#include "core/domain/decision.hpp"
#include "core/domain/event.hpp"
#include "core/domain/sale.hpp"
#include "core/domain/types.hpp"

namespace fairsale {

std::string_view name_of(Reason r) {
  switch (r) {
    case Reason::none: return "none";
    case Reason::not_started: return "not_started";
    case Reason::paused: return "paused";
    case Reason::ended: return "ended";
    case Reason::closed: return "closed";
    case Reason::sold_out: return "sold_out";
    case Reason::insufficient_stock: return "insufficient_stock";
    case Reason::line_full: return "line_full";
    case Reason::over_limit: return "over_limit";
    case Reason::quantity_invalid: return "quantity_invalid";
    case Reason::key_reused: return "key_reused";
    case Reason::unknown_sale: return "unknown_sale";
    case Reason::unknown_purchase: return "unknown_purchase";
    case Reason::sale_exists: return "sale_exists";
    case Reason::terms_invalid: return "terms_invalid";
    case Reason::not_changeable: return "not_changeable";
    case Reason::stock_committed: return "stock_committed";
    case Reason::not_held: return "not_held";
    case Reason::not_offered: return "not_offered";
    case Reason::already_ordered: return "already_ordered";
    case Reason::already_paid: return "already_paid";
    case Reason::hold_expired: return "hold_expired";
    case Reason::cancelled: return "cancelled";
    case Reason::amount_mismatch: return "amount_mismatch";
    case Reason::not_ordered: return "not_ordered";
    case Reason::reference_reused: return "reference_reused";
    case Reason::too_many_payments: return "too_many_payments";
    case Reason::sale_full: return "sale_full";
    case Reason::event_unsupported: return "event_unsupported";
  }
  return "unknown";
}

std::string_view name_of(DecisionKind k) {
  switch (k) {
    case DecisionKind::scheduled: return "scheduled";
    case DecisionKind::changed: return "changed";
    case DecisionKind::opened: return "opened";
    case DecisionKind::paused: return "paused";
    case DecisionKind::resumed: return "resumed";
    case DecisionKind::ended: return "ended";
    case DecisionKind::closed: return "closed";
    case DecisionKind::stock_adjusted: return "stock_adjusted";
    case DecisionKind::reserved: return "reserved";
    case DecisionKind::waiting: return "waiting";
    case DecisionKind::offered: return "offered";
    case DecisionKind::refused: return "refused";
    case DecisionKind::expired: return "expired";
    case DecisionKind::cancelled: return "cancelled";
    case DecisionKind::declined: return "declined";
    case DecisionKind::ordered: return "ordered";
    case DecisionKind::payment_failure_noted: return "payment_failure_noted";
    case DecisionKind::refund_due: return "refund_due";
    case DecisionKind::refunded: return "refunded";
    case DecisionKind::sold_out: return "sold_out";
    case DecisionKind::released: return "released";
    case DecisionKind::line_released: return "line_released";
    case DecisionKind::noted: return "noted";
  }
  return "unknown";
}

std::string_view name_of(LinePolicy p) {
  switch (p) {
    case LinePolicy::strict: return "strict";
    case LinePolicy::skip_if_unfit: return "skip_if_unfit";
  }
  return "unknown";
}

std::string_view name_of(Phase p) {
  switch (p) {
    case Phase::none: return "none";
    case Phase::scheduled: return "scheduled";
    case Phase::open: return "open";
    case Phase::paused: return "paused";
    case Phase::ended: return "ended";
    case Phase::closed: return "closed";
  }
  return "unknown";
}

std::string_view name_of(PurchaseStatus s) {
  switch (s) {
    case PurchaseStatus::refused: return "refused";
    case PurchaseStatus::reserved: return "reserved";
    case PurchaseStatus::waiting: return "waiting";
    case PurchaseStatus::offered: return "offered";
    case PurchaseStatus::ordered: return "ordered";
    case PurchaseStatus::expired: return "expired";
    case PurchaseStatus::cancelled: return "cancelled";
    case PurchaseStatus::declined: return "declined";
    case PurchaseStatus::released: return "released";
    case PurchaseStatus::refunded: return "refunded";
  }
  return "unknown";
}

std::string_view name_of(const Event& e) {
  switch (number_of(e)) {
    case SaleScheduled::number: return "SaleScheduled";
    case SaleChanged::number: return "SaleChanged";
    case SalePaused::number: return "SalePaused";
    case SaleResumed::number: return "SaleResumed";
    case SaleClosed::number: return "SaleClosed";
    case StockAdjusted::number: return "StockAdjusted";
    case PurchaseAttempted::number: return "PurchaseAttempted";
    case PurchaseCancelled::number: return "PurchaseCancelled";
    case OfferDeclined::number: return "OfferDeclined";
    case PaymentReceived::number: return "PaymentReceived";
    case PaymentFailed::number: return "PaymentFailed";
    case OrderRefunded::number: return "OrderRefunded";
    case TimePassed::number: return "TimePassed";
    default: return "unknown";
  }
}

TermsFault check_terms(const Terms& t) {
  const auto upper = [](char c) { return c >= 'A' && c <= 'Z'; };
  if (t.stock.value > kMaxStock) return TermsFault::stock;
  if (t.price.amount.value < 0 || t.price.amount.value > kMaxPrice) return TermsFault::price;
  for (const char c : t.price.currency.code) {
    if (!upper(c)) return TermsFault::currency;
  }
  if (t.starts_at.value < 0 || t.starts_at.value > kMaxTimestampMs) return TermsFault::times;
  if (t.ends_at != kNever && t.ends_at.value > kMaxTimestampMs) return TermsFault::times;
  if (t.ends_at <= t.starts_at) return TermsFault::times;
  if (t.hold.value < 1 || t.hold.value > kMaxHoldMs) return TermsFault::hold;
  if (t.grace.value < 0 || t.grace.value > kMaxGraceMs) return TermsFault::grace;
  if (t.limit_per_customer.value == 0 || t.limit_per_customer.value > kMaxLimitPerCustomer) {
    return TermsFault::limit_per_customer;
  }
  if (t.units_per_purchase.value == 0 || t.units_per_purchase.value > kMaxUnitsPerPurchase) {
    return TermsFault::units_per_purchase;
  }
  if (t.line_limit > kMaxLine) return TermsFault::line_limit;
  if (t.line_policy != LinePolicy::strict && t.line_policy != LinePolicy::skip_if_unfit) {
    return TermsFault::line_policy;
  }
  if (t.opening != Opening::fifo) return TermsFault::opening;
  return TermsFault::none;
}

}  // namespace fairsale
