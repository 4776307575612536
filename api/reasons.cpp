#include "api/reasons.hpp"

namespace fairsale::api {

Wording wording_of(Reason r) {
  switch (r) {
    case Reason::none: break;
    case Reason::not_started:
      return {425, "Not started",
              "The sale has not started. Try again at its start, with a new "
              "Idempotency-Key: this refusal is the answer to this one."};
    case Reason::paused:
      return {409, "Paused", "The sale is paused. Try again later with a new Idempotency-Key."};
    case Reason::ended: return {409, "Ended", "The sale has ended."};
    case Reason::closed: return {409, "Closed", "The sale was closed by its operator."};
    case Reason::sold_out: return {409, "Sold out", "Every unit is sold."};
    case Reason::insufficient_stock:
      return {409, "Not enough left",
              "Fewer units are left than were asked for. Ask for less, with a new "
              "Idempotency-Key."};
    case Reason::line_full:
      return {409, "Line full",
              "No unit is free now and the waiting line is full. Try again "
              "later with a new Idempotency-Key."};
    case Reason::over_limit:
      return {403, "Over the limit",
              "The customer's holds, orders and places in line would "
              "exceed the sale's limit per customer."};
    case Reason::quantity_invalid:
      return {422, "Invalid quantity",
              "The quantity must be at least 1 and at most the sale's units_per_purchase."};
    case Reason::key_reused:
      return {422, "Idempotency-Key reused",
              "This Idempotency-Key was used before with another body. Use a new key."};
    case Reason::unknown_sale: return {404, "Unknown sale", "There is no sale of this SKU."};
    case Reason::unknown_purchase:
      return {404, "Unknown purchase", "There is no purchase with this id."};
    case Reason::sale_exists:
      return {409, "Sale exists",
              "The sale was scheduled meanwhile, on other terms. Read it and "
              "send your change again."};
    case Reason::terms_invalid: return {422, "Invalid terms", "These terms cannot be sold under."};
    case Reason::not_changeable:
      return {409, "Not changeable",
              "Once a sale has started, only ends_at, line_limit and a higher limit_per_customer "
              "may be changed; stock by PATCH."};
    case Reason::stock_committed:
      return {409, "Stock committed", "The stock cannot be set below what is held and sold."};
    case Reason::not_held:
      return {409, "Not held", "The purchase is neither reserved, offered nor waiting."};
    case Reason::not_offered: return {409, "Not offered", "The offer no longer stands."};
    case Reason::already_ordered:
      return {409, "Already ordered", "The purchase is paid. It can only be refunded."};
    case Reason::already_paid: return {409, "Already paid", "The purchase is paid already."};
    case Reason::hold_expired:
      return {409, "Hold expired", "The payment came after the hold had ended."};
    case Reason::cancelled: return {409, "Cancelled", "The purchase was cancelled."};
    case Reason::amount_mismatch:
      return {409, "Amount mismatch", "The amount is not the price of the purchase."};
    case Reason::not_ordered: return {409, "Not ordered", "Only a paid purchase can be refunded."};
    case Reason::reference_reused:
      return {422, "Reference reused",
              "This payment reference was used before with another amount."};
    case Reason::too_many_payments:
      return {409, "Too many payments", "The purchase has had its most payments."};
    case Reason::sale_full:
      return {409, "Sale full", "The sale has had as many attempts as it can record."};
    case Reason::event_unsupported:
      return {409, "Unsupported", "The sale's rules do not know this."};
  }
  return {500, "Unknown reason", "This should not happen; please report it."};
}

}  // namespace fairsale::api
