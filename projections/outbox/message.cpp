#include "projections/outbox/message.hpp"

#include <fmt/format.h>

#include <span>

#include "core/json/json.hpp"
#include "core/log/digest.hpp"

namespace fairsale {

namespace {

std::string purchase_id(std::string_view sku, const MessageRow& m) {
  return fmt::format("{}:{}", sku, m.purchase.value);
}

Digest digest_of(std::string_view text) { return sha256(std::as_bytes(std::span(text))); }

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
    json.member("purchase", std::string_view(purchase_id(sku, m)))
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
  const bool purchase = concerns_purchase(m);
  JsonWriter json(out);
  json.begin_object()
      .member("specversion", "1.0")
      .member("id", std::string_view(message_id(sku, m)))
      .member("source", std::string_view(fmt::format("/sales/{}", sku)))
      .member("type", std::string_view(fmt::format("fairsale.{}.{}", purchase ? "purchase" : "sale",
                                                   name_of(m.kind))))
      .member("time", m.at);
  if (purchase) json.member("subject", std::string_view(purchase_id(sku, m)));
  json.member("datacontenttype", "application/json").key("data");
  append_message_json(out, sku, m);
  json.end_object();
}

std::string traceparent(std::string_view sku, const MessageRow& m) {
  const std::string id = message_id(sku, m);
  const std::string of = concerns_purchase(m) ? purchase_id(sku, m) : id;
  const std::string trace = to_hex(digest_of("trace " + of)).substr(0, 32);
  const std::string span = to_hex(digest_of("span " + id)).substr(0, 16);
  return fmt::format("00-{}-{}-01", trace, span);
}

}  // namespace fairsale
