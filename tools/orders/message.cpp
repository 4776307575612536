#include "tools/orders/message.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>

namespace fairsale::orders {

namespace {

using simdjson::dom::element;

tl::unexpected<Error> wrong(std::string what) { return fail(Fault::invalid, std::move(what)); }

// What goes into a header, a key or a line: visible ASCII.
bool visible(std::string_view s, std::size_t most) {
  return !s.empty() && s.size() <= most &&
         std::all_of(s.begin(), s.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

Result<std::string> text(const element& e, std::string_view name, std::size_t most) {
  std::string_view value;
  if (e[name].get(value) != simdjson::SUCCESS || value.empty() || value.size() > most) {
    return wrong(fmt::format("\"{}\" must be a text of 1 to {} bytes", name, most));
  }
  return std::string(value);
}

Result<std::optional<Case>> read(const element& e) {
  Case c;
  auto type = text(e, "type", 64);
  if (!type) return tl::unexpected(type.error());
  if (*type == "ordered") {
    c.state = State::placed;
  } else if (*type == "refund_due") {
    c.state = State::refund_due;
  } else {
    return std::nullopt;
  }
  element payment;
  if (e["payment"].get(payment) != simdjson::SUCCESS || !payment.is_object()) {
    return wrong("\"payment\" is missing");
  }
  struct Wanted {
    const element& of;
    const char* name;
    std::size_t most;
    std::string& into;
  };
  for (const Wanted& w : {Wanted{e, "id", 160, c.id}, Wanted{e, "purchase", 128, c.purchase},
                          Wanted{payment, "reference", 64, c.reference},
                          Wanted{payment, "currency", 3, c.currency}}) {
    auto value = text(w.of, w.name, w.most);
    if (!value) return tl::unexpected(value.error());
    w.into = std::move(*value);
  }
  if (!visible(c.id, 160) || !visible(c.purchase, 128) ||
      c.purchase.find(':') == std::string::npos || c.purchase.find('/') != std::string::npos) {
    return wrong("\"id\" and \"purchase\" must be sku:position:number and sku:seq");
  }
  if (payment["amount"].get(c.amount) != simdjson::SUCCESS || c.amount < 0) {
    return wrong("\"amount\" must be a whole number of minor units");
  }
  std::uint64_t quantity = 0;
  if (e["quantity"].get(quantity) == simdjson::SUCCESS) {
    c.quantity = static_cast<std::uint32_t>(std::min<std::uint64_t>(quantity, 1'000'000'000));
  }
  std::string_view reason;
  if (e["reason"].get(reason) == simdjson::SUCCESS) c.why = reason.substr(0, 64);
  return c;
}

Result<std::optional<Case>> parse(std::string_view json, bool in_envelope) {
  if (json.size() > kMaxMessageBytes) return wrong("the message is too long");
  simdjson::dom::parser parser;
  element document;
  if (parser.parse(json.data(), json.size()).get(document) != simdjson::SUCCESS ||
      !document.is_object()) {
    return wrong("the message is not a JSON object");
  }
  if (!in_envelope) return read(document);
  element data;
  if (document["data"].get(data) != simdjson::SUCCESS || !data.is_object()) {
    return wrong("the message is no CloudEvent with data");
  }
  return read(data);
}

}  // namespace

Result<std::optional<Case>> read_message(std::string_view document) {
  return parse(document, false);
}

Result<std::optional<Case>> read_cloud_event(std::string_view event) { return parse(event, true); }

}  // namespace fairsale::orders
