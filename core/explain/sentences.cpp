#include "core/explain/explain.hpp"

namespace fairsale {

std::string_view sentence_of(DecisionKind k) {
  switch (k) {
    case DecisionKind::scheduled: return "The operator put the sale on.";
    case DecisionKind::changed: return "The operator changed the sale's terms.";
    case DecisionKind::opened: return "Its start had come, so the sale opened.";
    case DecisionKind::paused:
      return "The operator paused the sale: no new reservations and no offers until it goes on.";
    case DecisionKind::resumed:
      return "The operator let the sale go on; what was free was offered to the line first.";
    case DecisionKind::ended:
      return "Its end had come, so the sale ended and the line was sent home.";
    case DecisionKind::closed: return "The operator closed the sale and the line was sent home.";
    case DecisionKind::stock_adjusted:
      return "The operator set another stock; what that freed was offered to the line first.";
    case DecisionKind::reserved:
      return "Enough units were free and nobody who could take them stood before it, so they were "
             "held until the deadline.";
    case DecisionKind::waiting:
      return "What it asked for was not free, but might still come back, so it took the next place "
             "in "
             "line.";
    case DecisionKind::offered:
      return "Units came back and its turn in line had come, so they were held for it until the "
             "deadline.";
    case DecisionKind::refused: return "It was refused.";
    case DecisionKind::expired:
      return "No payment came before the hold's deadline and its grace, so the units went back to "
             "the line.";
    case DecisionKind::cancelled: return "It was given up by who asked for it.";
    case DecisionKind::declined: return "The offer was declined, so its units went to the next.";
    case DecisionKind::ordered:
      return "The right amount was paid while the units were held or still free, so they were sold "
             "to it.";
    case DecisionKind::payment_failure_noted:
      return "A payment was tried and failed; the hold kept its deadline.";
    case DecisionKind::refund_due:
      return "Money came that could not buy the units, so it is to be paid back.";
    case DecisionKind::refunded: return "The order was refunded and its units given back.";
    case DecisionKind::sold_out: return "The last unit was sold: none was free or held any more.";
    case DecisionKind::released: return "It was released from the line without units.";
    case DecisionKind::line_released: return "All who still waited were released at once.";
    case DecisionKind::noted: return "Nothing changed: it was so already.";
  }
  return {};
}

std::string_view sentence_of(Reason r) {
  switch (r) {
    case Reason::none: return "No rule stood against it.";
    case Reason::not_started: return "Attempts before the start are refused.";
    case Reason::paused: return "While a sale is paused, attempts are refused.";
    case Reason::ended: return "After the end of a sale nothing is reserved or offered.";
    case Reason::closed: return "A closed sale reserves and offers nothing.";
    case Reason::sold_out:
      return "Every unit was sold: none was free and none was held that could come back.";
    case Reason::insufficient_stock:
      return "Fewer units were left, free and held together, than it asked for.";
    case Reason::line_full:
      return "Nothing was free for it and as many waited as the line may hold.";
    case Reason::over_limit:
      return "The customer's holds, orders and places in line together would have exceeded the "
             "limit per customer.";
    case Reason::quantity_invalid:
      return "A purchase asks for at least one unit and at most as many as the terms allow.";
    case Reason::key_reused:
      return "The idempotency key had been used for another quantity; one key means one attempt.";
    case Reason::unknown_sale: return "There was no sale yet.";
    case Reason::unknown_purchase: return "There is no purchase at the position that it named.";
    case Reason::sale_exists: return "The sale had been put on already, on other terms.";
    case Reason::terms_invalid: return "Nothing can be sold under such terms.";
    case Reason::not_changeable: return "This term is fixed once a sale has started.";
    case Reason::stock_committed: return "The stock cannot be set below what is held and sold.";
    case Reason::not_held: return "No units were held for it at that moment.";
    case Reason::not_offered: return "There was no offer to decline at that moment.";
    case Reason::already_ordered:
      return "It was an order by then, which can be refunded but not cancelled.";
    case Reason::already_paid: return "It had been paid for already.";
    case Reason::hold_expired:
      return "The payment came after the hold's deadline and its grace, and the units were no "
             "longer "
             "free for it.";
    case Reason::cancelled: return "It had been given up before the payment came.";
    case Reason::amount_mismatch: return "The amount paid was not the price.";
    case Reason::not_ordered: return "Only an order can be refunded.";
    case Reason::reference_reused:
      return "The payment's reference had been used with another amount.";
    case Reason::too_many_payments:
      return "As many payments as one purchase may have had been received.";
    case Reason::sale_full: return "The sale had as many attempts as one sale can keep.";
    case Reason::event_unsupported: return "The sale's rules do not know this kind of event.";
  }
  return {};
}

}  // namespace fairsale
