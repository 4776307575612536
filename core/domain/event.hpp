// What the log holds: what arrived, in order. Everything else is derived from it.
//
// The number of an event type is its position in the log format (docs/log-format.md); numbers are
// never reused. An event carries no time and no position: its block does.
#pragma once

#include <variant>

#include "core/domain/types.hpp"

namespace fairsale {

struct SaleScheduled {
  static constexpr std::uint8_t number = 1;
  SkuName sku;
  RulesVersion rules = kRulesV1;
  Terms terms;
  Actor actor;
};

// Replaces the terms. Before the start everything may change; afterwards only ends_at, line_limit
// and a higher limit_per_customer, so that nobody's hold or place changes under them.
struct SaleChanged {
  static constexpr std::uint8_t number = 2;
  Terms terms;
  Actor actor;
  Why why;
};

// A pause stops new reservations and new offers. Holds keep their deadlines, payments are taken.
struct SalePaused {
  static constexpr std::uint8_t number = 3;
  Actor actor;
  Why why;
};

struct SaleResumed {
  static constexpr std::uint8_t number = 4;
  Actor actor;
  Why why;
};

// Final. The line is released; holds may still be paid until their deadlines.
struct SaleClosed {
  static constexpr std::uint8_t number = 5;
  Actor actor;
  Why why;
};

// Sets the stock to a new total (not a difference, so that a retry cannot add twice).
struct StockAdjusted {
  static constexpr std::uint8_t number = 6;
  Quantity stock;
  Actor actor;
  Why why;
};

struct PurchaseAttempted {
  static constexpr std::uint8_t number = 7;
  CustomerId customer;
  IdempotencyKey key;
  Quantity quantity;
};

// Gives up a hold or a place in line. `purchase` is the position of its attempt.
struct PurchaseCancelled {
  static constexpr std::uint8_t number = 8;
  Seq purchase;
  Role by = Role::customer;
};

// Gives up an offer.
struct OfferDeclined {
  static constexpr std::uint8_t number = 9;
  Seq purchase;
  Role by = Role::customer;
};

struct PaymentReceived {
  static constexpr std::uint8_t number = 10;
  Seq purchase;
  PaymentReference reference;
  Money amount;
};

// A payment was tried and declined. The hold stands until its deadline: another card may work.
struct PaymentFailed {
  static constexpr std::uint8_t number = 11;
  Seq purchase;
  PaymentReference reference;
};

struct OrderRefunded {
  static constexpr std::uint8_t number = 12;
  Seq purchase;
  bool restock = false;  // otherwise the units are written off the stock
  Actor actor;
  Why why;
};

// 13 is reserved for DrawSeedRevealed.

// Nothing arrived, but a deadline passed.
struct TimePassed {
  static constexpr std::uint8_t number = 14;
};

using Event = std::variant<SaleScheduled, SaleChanged, SalePaused, SaleResumed, SaleClosed,
                           StockAdjusted, PurchaseAttempted, PurchaseCancelled, OfferDeclined,
                           PaymentReceived, PaymentFailed, OrderRefunded, TimePassed>;

inline std::uint8_t number_of(const Event& e) {
  return std::visit([](const auto& x) { return x.number; }, e);
}

// "PurchaseAttempted", for people and JSON.
std::string_view name_of(const Event&);

}  // namespace fairsale
