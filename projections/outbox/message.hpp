// The messages of the outbox as others see them: one document, whatever way it takes (streams,
// webhooks, NATS).
#pragma once

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

// A traceparent of W3C Trace Context. All messages of a purchase are of one trace and each is a
// span of its own; both follow from their ids, so that a repeat has the same.
std::string traceparent(std::string_view sku, const MessageRow&);

}  // namespace fairsale
