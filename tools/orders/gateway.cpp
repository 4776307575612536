#include "tools/orders/gateway.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include "core/json/json.hpp"
#include "tools/http_client.hpp"

namespace fairsale::orders {

namespace {

constexpr std::size_t kMaxDetail = 160;

std::string member_of(const std::string& body, const char* name) {
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  std::string_view text;
  if (parser.parse(body).get(document) != simdjson::SUCCESS || !document.is_object() ||
      document[name].get(text) != simdjson::SUCCESS) {
    return {};
  }
  return std::string(text.substr(0, kMaxDetail));
}

std::string_view path_of(Action a) {
  switch (a) {
    case Action::capture: return "/captures";
    case Action::hand_over: return "/handovers";
    case Action::refund: return "/refunds";
    case Action::record:
    case Action::none: break;
  }
  return {};
}

// A key is a header's value, and a payment's reference may be any text.
std::string header_safe(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c > ' ' && c < '\x7f' && c != '%') {
      out += c;
    } else {
      fmt::format_to(std::back_inserter(out), "%{:02X}", static_cast<unsigned char>(c));
    }
  }
  return out;
}

class HttpGateway final : public Gateway {
 public:
  explicit HttpGateway(const GatewayOptions& o) : options_(o), client_(o.timeout) {}

  Verdict carry_out(Action action, const Case& c) override {
    if (action == Action::none) return {Answer::done, {}, {}};
    return action == Action::record ? record(c) : ask(action, c);
  }

 private:
  Verdict ask(Action action, const Case& c) {
    std::string body;
    JsonWriter(body)
        .begin_object()
        .member("purchase", std::string_view(c.purchase))
        .member("reference", std::string_view(c.reference))
        .member("amount", c.amount)
        .member("currency", std::string_view(c.currency))
        .member("quantity", c.quantity)
        .end_object();
    std::vector<std::string> headers{
        "Content-Type: application/json",
        "Idempotency-Key: " + header_safe(idempotency_key(c, action)),
    };
    if (!options_.token.empty()) headers.push_back("Authorization: Bearer " + options_.token);
    const auto reply = client_.post(options_.url + std::string(path_of(action)), headers, body);
    if (!reply) return {Answer::unknown, reply.error().message, {}};
    if (reply->status >= 200 && reply->status < 300) return {Answer::done, {}, {}};
    if (reply->status == 402) {
      const std::string reason = member_of(reply->body, "reason");
      return {Answer::declined, reason.empty() ? "declined" : reason, {}};
    }
    return unsure("the gateway", *reply);
  }

  Verdict record(const Case& c) {
    std::string body;
    const std::string why = "order processing: " + c.why;
    JsonWriter(body)
        .begin_object()
        .member("restock", options_.restock)
        .member("actor", "fairsale-orders")
        .member("reason", std::string_view(why).substr(0, 160))
        .end_object();
    const auto reply = client_.post(
        fmt::format("{}/v1/purchases/{}/refund", options_.server, c.purchase),
        {"Content-Type: application/json", "Authorization: Bearer " + options_.server_token}, body);
    if (!reply) return {Answer::unknown, reply.error().message, {}};
    if (reply->status == 200) return {Answer::done, {}, {}};
    if (reply->status == 404 || reply->status == 409) {
      return {Answer::declined, "fairsaled: " + member_of(reply->body, "detail"), {}};
    }
    return unsure("fairsaled", *reply);
  }

  static Verdict unsure(std::string_view who, const HttpReply& reply) {
    std::string detail = member_of(reply.body, "detail");
    return {
        Answer::unknown,
        fmt::format("{} answered {}{}{}", who, reply.status, detail.empty() ? "" : ": ", detail),
        reply.retry_after};
  }

  const GatewayOptions options_;
  HttpClient client_;
};

}  // namespace

std::unique_ptr<Gateway> http_gateway(const GatewayOptions& o) {
  return std::make_unique<HttpGateway>(o);
}

}  // namespace fairsale::orders
