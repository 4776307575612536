// The messages of the outbox as others see them: one document, whatever way it takes (streams,
// webhooks, NATS).
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "projections/stored/rows.hpp"

namespace fairsale {

// Whether the message is of one purchase; else it is of the sale as a whole.
inline bool concerns_purchase(const MessageRow& m) { return m.purchase.value != 0; }

// "sku:position:number". It never changes, so that who gets a message twice can tell.
std::string message_id(std::string_view sku, const MessageRow&);

// Appends {"id","type","sku","time","purchase","customer","quantity","place","until","reason",
// "payment":{"reference","amount","currency"}}: the members that mean something for this message.
void append_message_json(std::string& out, std::string_view sku, const MessageRow&);

// Appends the CloudEvents 1.0 JSON envelope around that document: source "/sales/SKU", type
// "fairsale.purchase.KIND" with the purchase as subject, or "fairsale.sale.KIND" without one.
void append_cloud_event(std::string& out, std::string_view sku, const MessageRow&);

// Whose hold ends soon. Consumers of the outbox are told beside its messages (reminders.hpp), once
// for each hold; and a purchase holds once at most.
struct Reminder {
  Seq purchase;
  CustomerId customer;
  Quantity quantity;
  Timestamp at;     // when it is due: the lead before `until`
  Timestamp until;  // when the hold ends
};

// What kind of message a reminder is.
inline constexpr std::string_view kReminderKind = "about_to_expire";

// How long before the end of a hold it is told that it ends soon: 30 s, or a third of the hold
// where that is less.
constexpr Duration reminder_lead(Duration hold) {
  return Duration{std::min<std::int64_t>(30'000, hold.value / 3)};
}

// As of other messages; the id is "sku:purchase:about_to_expire".
std::string message_id(std::string_view sku, const Reminder&);
void append_message_json(std::string& out, std::string_view sku, const Reminder&);
void append_cloud_event(std::string& out, std::string_view sku, const Reminder&);

// A traceparent of W3C Trace Context. All messages of a purchase are of one trace and each is a
// span of its own; both follow from their ids, so that a repeat has the same.
std::string traceparent(std::string_view sku, const MessageRow&);
std::string traceparent(std::string_view sku, const Reminder&);

}  // namespace fairsale
