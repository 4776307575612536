#include "projections/outbox/message.hpp"

#include <fmt/format.h>

#include <span>

#include "core/json/json.hpp"
#include "core/log/digest.hpp"

namespace fairsale {

namespace {

std::string purchase_id(std::string_view sku, Seq purchase) {
  return fmt::format("{}:{}", sku, purchase.value);
}

Digest digest_of(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

// The envelope around a message. `subject` is the id of its purchase, or empty.
template <class M>
void append_event(std::string& out, std::string_view sku, const M& m, std::string_view kind,
                  const std::string& subject) {
  JsonWriter json(out);
  json.begin_object()
      .member("specversion", "1.0")
      .member("id", std::string_view(message_id(sku, m)))
      .member("source", std::string_view(fmt::format("/sales/{}", sku)))
      .member("type", std::string_view(fmt::format("fairsale.{}.{}",
                                                   subject.empty() ? "sale" : "purchase", kind)))
      .member("time", m.at);
  if (!subject.empty()) json.member("subject", std::string_view(subject));
  json.member("datacontenttype", "application/json").key("data");
  append_message_json(out, sku, m);
  json.end_object();
}

std::string trace(const std::string& of, const std::string& message) {
  const std::string trace = to_hex(digest_of("trace " + of)).substr(0, 32);
  const std::string span = to_hex(digest_of("span " + message)).substr(0, 16);
  return fmt::format("00-{}-{}-01", trace, span);
}

}  // namespace

std::string message_id(std::string_view sku, const MessageRow& m) {
  return fmt::format("{}:{}:{}", sku, m.position.value, m.number);
}

void append_message_json(std::string& out, std::string_view sku, const MessageRow& m) {
  JsonWriter json(out);
  json.begin_object()
      .member("id", std::string_view(message_id(sku, m)))
      .member("type", name_of(m.kind))
      .member("sku", sku)
      .member("time", m.at);
  if (concerns_purchase(m)) {
    json.member("purchase", std::string_view(purchase_id(sku, m.purchase)))
        .member("customer", m.customer.view());
  }
  if (m.quantity.value != 0) json.member("quantity", m.quantity.value);
  if (m.place != 0) json.member("place", m.place);
  if (m.until.value != 0 && m.until != kNever) json.member("until", m.until);
  if (m.reason != Reason::none) json.member("reason", name_of(m.reason));
  if (!m.reference.empty()) {
    const auto& currency = m.amount.currency.code;
    json.key("payment")
        .begin_object()
        .member("reference", m.reference.view())
        .member("amount", m.amount.amount.value)
        .member("currency", std::string_view(currency.data(), currency.size()))
        .end_object();
  }
  json.end_object();
}

void append_cloud_event(std::string& out, std::string_view sku, const MessageRow& m) {
  append_event(out, sku, m, name_of(m.kind),
               concerns_purchase(m) ? purchase_id(sku, m.purchase) : std::string());
}

std::string traceparent(std::string_view sku, const MessageRow& m) {
  const std::string id = message_id(sku, m);
  return trace(concerns_purchase(m) ? purchase_id(sku, m.purchase) : id, id);
}

std::string message_id(std::string_view sku, const Reminder& r) {
  return fmt::format("{}:{}:{}", sku, r.purchase.value, kReminderKind);
}

void append_message_json(std::string& out, std::string_view sku, const Reminder& r) {
  JsonWriter(out)
      .begin_object()
      .member("id", std::string_view(message_id(sku, r)))
      .member("type", kReminderKind)
      .member("sku", sku)
      .member("time", r.at)
      .member("purchase", std::string_view(purchase_id(sku, r.purchase)))
      .member("customer", r.customer.view())
      .member("quantity", r.quantity.value)
      .member("until", r.until)
      .end_object();
}

void append_cloud_event(std::string& out, std::string_view sku, const Reminder& r) {
  append_event(out, sku, r, kReminderKind, purchase_id(sku, r.purchase));
}

std::string traceparent(std::string_view sku, const Reminder& r) {
  return trace(purchase_id(sku, r.purchase), message_id(sku, r));
}

}  // namespace fairsale
