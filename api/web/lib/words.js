// What the API's reasons mean to a shopper, and what to do now. There are words for every reason
// that the domain knows (tests hold this list against it); `again` says whether another try, which
// is a new attempt, may have another outcome.

export const REASONS = {
  not_started: {
    title: "A moment too early",
    text: "The sale had not started when your request arrived. Try again as soon as it opens.",
    again: true,
  },
  paused: {
    title: "The sale is paused",
    text: "The shop has paused the sale for a moment. Units that are held stay held. Try again when it goes on.",
    again: true,
  },
  ended: { title: "The sale is over", text: "Its time was up before your request arrived.", again: false },
  closed: { title: "The sale was closed", text: "The shop has closed the sale. Nothing more is sold.", again: false },
  sold_out: {
    title: "Sold out",
    text: "Every unit is sold and paid for. None can come back, so nobody is kept waiting for one.",
    again: false,
  },
  insufficient_stock: {
    title: "Not that many left",
    text: "Fewer units are left than you asked for. Try again with a smaller quantity.",
    again: true,
  },
  line_full: {
    title: "The line is full",
    text: "All units are held, and as many people wait as the shop allows. Try again in a while.",
    again: true,
  },
  over_limit: {
    title: "That is your limit",
    text: "With what you hold, wait for or have bought already, this would be more than one customer may have.",
    again: false,
  },
  quantity_invalid: {
    title: "That quantity is not possible",
    text: "Choose at least one unit and no more than the sale allows in one purchase.",
    again: true,
  },
  key_reused: {
    title: "That request was mixed up",
    text: "This request had been sent before with another quantity. Nothing was bought by it. Please try again.",
    again: true,
  },
  unknown_sale: { title: "No such sale", text: "There is no sale at this address. Check the link that brought you here.", again: false },
  unknown_purchase: { title: "No such purchase", text: "This purchase does not exist, or belongs to somebody else.", again: true },
  sale_exists: { title: "The sale changed meanwhile", text: "Somebody else scheduled it on other terms. Read it again first.", again: true },
  terms_invalid: { title: "These terms cannot be sold under", text: "Check the numbers and the times of the sale.", again: true },
  not_changeable: {
    title: "Too late to change that",
    text: "Once a sale has started, only its end, the line's limit and a higher limit per customer may change.",
    again: false,
  },
  stock_committed: { title: "That stock is promised already", text: "Stock cannot go below what is held and sold.", again: true },
  not_held: {
    title: "Nothing is held for you any more",
    text: "The hold or the place in line had ended already, so there was nothing left to pay or to give up.",
    again: true,
  },
  not_offered: { title: "The offer has ended", text: "It was not taken in time and went to the next in line.", again: true },
  already_ordered: { title: "You have bought this", text: "It is paid. For a refund, turn to the shop.", again: false },
  already_paid: { title: "It is paid already", text: "This purchase was paid before; you are charged once.", again: false },
  hold_expired: {
    title: "The payment came too late",
    text: "The time to pay was over and the unit went to the next in line. What you paid is given back to you.",
    again: true,
  },
  cancelled: {
    title: "This purchase was cancelled",
    text: "A payment for a cancelled purchase is given back to you.",
    again: true,
  },
  amount_mismatch: { title: "The amount was wrong", text: "What was paid is not the price, so it is given back to you.", again: true },
  not_ordered: { title: "There is nothing to refund", text: "Only a purchase that was paid can be refunded.", again: false },
  reference_reused: { title: "The payment was mixed up", text: "The same payment was reported with two amounts. Turn to the shop.", again: false },
  too_many_payments: { title: "Too many payments", text: "This purchase has had more payments than can be recorded. Turn to the shop.", again: false },
  sale_full: { title: "The sale takes no more requests", text: "It has had as many as it can record.", again: false },
  event_unsupported: { title: "The shop cannot do that", text: "This sale follows rules that do not know this request.", again: false },
};

// What is said by the server rather than by the sale.
const PROBLEMS = {
  unauthorized: {
    title: "Your visit has timed out",
    text: "Go back to the shop and come here again from there. A place in line or a hold that you have is kept.",
    again: false,
  },
  forbidden: { title: "That belongs to somebody else", text: "You are known here as another customer.", again: false },
  rate_limited: { title: "A little slower, please", text: "Too many requests came from you or your network.", again: true },
  overloaded: { title: "Very busy right now", text: "Nothing was recorded. Please try again.", again: true },
  stopping: { title: "Back in a moment", text: "The server is starting anew. Nothing was recorded.", again: true },
};

// For any name that the API gives; what it says itself is the last resort.
export function wordsFor(name, detail = "") {
  return REASONS[name] ?? PROBLEMS[name] ??
    { title: "That did not work", text: detail || "Please try again.", again: true };
}
