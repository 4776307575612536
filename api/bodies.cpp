#include "api/bodies.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "api/auth.hpp"
#include "api/http/problem.hpp"

namespace fairsale::api {

namespace od = simdjson::ondemand;

namespace {

constexpr std::size_t kMaxMembers = 32;

tl::unexpected<Error> invalid(std::string message) {
  return fail(Fault::invalid, std::move(message));
}

bool visible_text(std::string_view s) {
  return std::none_of(s.begin(), s.end(), [](char c) {
    const auto u = static_cast<unsigned char>(c);
    return u < 0x20 || u == 0x7f;
  });
}

}  // namespace

// One member of the body's object, read at most once and in order.
struct BodyReader::Member {
  std::string_view name;
  od::value value;

  tl::unexpected<Error> wrong(std::string_view what) const {
    return invalid(fmt::format("\"{}\" must be {}", name, what));
  }

  Result<std::int64_t> integer(std::int64_t low, std::int64_t high) {
    std::int64_t n = 0;
    if (value.get_int64().get(n) != simdjson::SUCCESS || n < low || n > high) {
      return wrong(fmt::format("a whole number from {} to {}", low, high));
    }
    return n;
  }

  Result<Quantity> quantity(std::uint32_t low, std::uint32_t high) {
    auto n = integer(low, high);
    if (!n) return tl::unexpected(n.error());
    return Quantity{static_cast<std::uint32_t>(*n)};
  }

  // Seconds, to the millisecond.
  Result<Duration> seconds(std::int64_t low_ms, std::int64_t high_ms) {
    double s = 0;
    // simdjson (3.0.1) checks the number, but misreads some of more than 19 digits.
    const std::string_view digits = value.raw_json_token();
    if (value.get_double().get(s) != simdjson::SUCCESS ||
        std::from_chars(digits.data(), digits.data() + digits.size(), s).ec != std::errc()) {
      return wrong("a number of seconds");
    }
    const double ms = std::round(s * 1000);
    if (ms < static_cast<double>(low_ms) || ms > static_cast<double>(high_ms)) {
      return wrong(fmt::format("from {} to {} seconds", static_cast<double>(low_ms) / 1000,
                               static_cast<double>(high_ms) / 1000));
    }
    return Duration{static_cast<std::int64_t>(ms)};
  }

  Result<std::string_view> text(std::size_t low, std::size_t high) {
    std::string_view s;
    if (value.get_string().get(s) != simdjson::SUCCESS || s.size() < low || s.size() > high ||
        !visible_text(s)) {
      return wrong(fmt::format("a text of {} to {} bytes without control characters", low, high));
    }
    return s;
  }

  template <std::size_t N>
  Result<void> text_into(Text<N>& out) {
    auto s = text(1, N);
    if (!s) return tl::unexpected(s.error());
    out = *Text<N>::from(*s);
    return {};
  }

  Result<bool> boolean() {
    bool b = false;
    if (value.get_bool().get(b) != simdjson::SUCCESS) return wrong("true or false");
    return b;
  }

  Result<bool> is_null() {
    bool null = false;
    if (value.is_null().get(null) != simdjson::SUCCESS) return wrong("valid JSON");
    return null;
  }

  Result<Timestamp> time() {
    auto s = text(1, 64);
    const auto t = s ? parse_rfc3339(*s) : std::nullopt;
    if (!t || t->value < 0 || t->value > kMaxTimestampMs) {
      return wrong("an RFC 3339 time like \"2026-11-27T08:00:00Z\"");
    }
    return *t;
  }

  Result<CustomerId> customer() {
    std::string_view s;
    if (value.get_string().get(s) != simdjson::SUCCESS || !is_customer_name(s)) {
      return wrong("1 to 64 visible ASCII characters without quotes, backslashes and spaces");
    }
    return *CustomerId::from(s);
  }

  Result<Currency> currency() {
    auto s = text(3, 3);
    if (!s || !std::all_of(s->begin(), s->end(), [](char c) { return c >= 'A' && c <= 'Z'; })) {
      return wrong("three capital letters like \"EUR\"");
    }
    Currency c;
    std::copy(s->begin(), s->end(), c.code.begin());
    return c;
  }

  tl::unexpected<Error> unknown() const {
    return invalid(fmt::format("\"{}\" is not a member of this request", name));
  }
};

namespace {

// Puts a read value where it belongs, or passes the error on.
template <class T, class Out>
Result<void> store(Result<T> read, Out& out) {
  if (!read) return tl::unexpected(read.error());
  out = *read;
  return {};
}

}  // namespace

template <class Visit>
Result<void> BodyReader::for_each_member(std::string_view body, Visit&& visit) {
  if (body.empty()) return invalid("a JSON object is required as the body");
  padded_.resize(body.size() + simdjson::SIMDJSON_PADDING);
  std::memcpy(padded_.data(), body.data(), body.size());
  std::memset(padded_.data() + body.size(), 0, simdjson::SIMDJSON_PADDING);

  const auto broken = [](simdjson::error_code code) {
    return invalid(fmt::format("the body is not valid JSON: {}", simdjson::error_message(code)));
  };
  od::document document;
  const auto parsed = parser_.iterate(padded_.data(), body.size(), padded_.size()).get(document);
  if (parsed != simdjson::SUCCESS) return broken(parsed);
  od::object object;
  if (document.get_object().get(object) != simdjson::SUCCESS) {
    return invalid("the body must be a JSON object");
  }
  std::array<std::string_view, kMaxMembers> seen;
  std::size_t count = 0;
  for (auto item : object) {
    od::field field;
    if (const auto code = std::move(item).get(field); code != simdjson::SUCCESS)
      return broken(code);
    Member member;
    if (const auto code = field.unescaped_key().get(member.name); code != simdjson::SUCCESS) {
      return broken(code);
    }
    member.value = field.value();
    const auto end = seen.begin() + static_cast<std::ptrdiff_t>(count);
    if (std::find(seen.begin(), end, member.name) != end) {
      return invalid(fmt::format("\"{}\" is given twice", member.name));
    }
    if (count == kMaxMembers) return invalid("the body has too many members");
    seen[count++] = member.name;
    if (auto ok = visit(member); !ok) return ok;
  }
  // What follows the object, or a member that was cut off, shows only here.
  if (document.current_location().error() != simdjson::OUT_OF_BOUNDS)
    return invalid("the body goes on after the JSON object");
  return {};
}

Result<AttemptBody> BodyReader::attempt(std::string_view body) {
  AttemptBody out;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "quantity") return store(m.quantity(0, 0xffff), out.quantity);
    if (m.name == "customer") return store(m.customer(), out.customer);
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  return out;
}

Result<PatchBody> BodyReader::patch(std::string_view body) {
  PatchBody out;
  bool has_action = false;
  bool has_stock = false;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "action") {
      has_action = true;
      auto s = m.text(1, 16);
      if (s && *s == "pause") {
        out.action = PatchBody::Action::pause;
      } else if (s && *s == "resume") {
        out.action = PatchBody::Action::resume;
      } else if (s && *s == "close") {
        out.action = PatchBody::Action::close;
      } else {
        return m.wrong("\"pause\", \"resume\" or \"close\"");
      }
      return {};
    }
    if (m.name == "stock") {
      has_stock = true;
      return store(m.quantity(0, kMaxStock), out.stock);
    }
    if (m.name == "actor") return m.text_into(out.actor);
    if (m.name == "reason") return m.text_into(out.reason);
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  if (has_action == has_stock) return invalid("give either \"action\" or \"stock\"");
  if (out.actor.empty() || out.reason.empty()) {
    return invalid("\"actor\" and \"reason\" are required: they stay in the sale's log");
  }
  if (has_stock) out.action = PatchBody::Action::stock;
  return out;
}

template <class Other>
Result<PaymentBody> BodyReader::read_payment(std::string_view body, std::string_view outcome,
                                             bool required, Other&& other) {
  PaymentBody out;
  bool has_outcome = false;
  bool has_amount = false;
  bool has_currency = false;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "reference") return m.text_into(out.reference);
    if (m.name == outcome) {
      auto s = m.text(1, 16);
      if (!s || (*s != "received" && *s != "failed")) return m.wrong("\"received\" or \"failed\"");
      out.received = *s == "received";
      has_outcome = true;
      return {};
    }
    if (m.name == "amount") {
      has_amount = true;
      auto n = m.integer(0, std::numeric_limits<std::int64_t>::max());
      if (!n) return tl::unexpected(n.error());
      out.amount.amount = MinorUnits{*n};
      return {};
    }
    if (m.name == "currency") {
      has_currency = true;
      return store(m.currency(), out.amount.currency);
    }
    return other(m);
  });
  if (!ok) return tl::unexpected(ok.error());
  if (required && !has_outcome) {
    return invalid(fmt::format("\"{}\" is required: \"received\" or \"failed\"", outcome));
  }
  if (out.reference.empty()) {
    return invalid("\"reference\" is required: the payment provider's name of the payment");
  }
  if (out.received && (!has_amount || !has_currency)) {
    return invalid("\"amount\" (minor units) and \"currency\" are required of a received payment");
  }
  return out;
}

Result<PaymentBody> BodyReader::payment(std::string_view body) {
  return read_payment(body, "status", false, [](Member& m) -> Result<void> { return m.unknown(); });
}

// Nothing is taken for granted here: who calls is a machine that says what it means.
Result<CallbackBody> BodyReader::payment_callback(std::string_view body) {
  CallbackBody out;
  auto payment = read_payment(body, "outcome", true, [&](Member& m) -> Result<void> {
    if (m.name != "purchase") return m.unknown();
    auto id = m.text(1, 128);
    if (!id) return m.wrong("the purchase's id, \"sku:seq\"");
    out.purchase = *id;
    return {};
  });
  if (!payment) return tl::unexpected(payment.error());
  out.payment = *payment;
  if (out.purchase.empty()) return invalid("\"purchase\" is required: the id of the purchase");
  return out;
}

Result<RefundBody> BodyReader::refund(std::string_view body) {
  RefundBody out;
  bool has_restock = false;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "restock") {
      has_restock = true;
      return store(m.boolean(), out.restock);
    }
    if (m.name == "actor") return m.text_into(out.actor);
    if (m.name == "reason") return m.text_into(out.reason);
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  if (!has_restock) return invalid("\"restock\" is required: true puts the units back on sale");
  if (out.actor.empty() || out.reason.empty()) {
    return invalid("\"actor\" and \"reason\" are required: they stay in the sale's log");
  }
  return out;
}

Result<RebuildBody> BodyReader::rebuild(std::string_view body) {
  RebuildBody out;
  if (body.empty()) return out;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "force") return store(m.boolean(), out.force);
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  return out;
}

Result<AuditBody> BodyReader::audit(std::string_view body) {
  AuditBody out;
  if (body.empty()) return out;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "fairness") return store(m.boolean(), out.fairness);
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  return out;
}

Result<DemoPaymentBody> BodyReader::demo_payment(std::string_view body) {
  DemoPaymentBody out;
  if (body.empty()) return out;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name != "outcome") return m.unknown();
    const auto outcome = m.text(1, 16);
    if (!outcome) return tl::unexpected(outcome.error());
    if (*outcome != "paid" && *outcome != "declined") {
      return invalid("\"outcome\" must be paid or declined");
    }
    out.declined = *outcome == "declined";
    return {};
  });
  if (!ok) return tl::unexpected(ok.error());
  return out;
}

Result<TokenBody> BodyReader::token(std::string_view body) {
  TokenBody out;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "customer") return store(m.customer(), out.customer);
    if (m.name == "ttl_seconds") {
      auto n = m.integer(1, 86'400);
      if (!n) return tl::unexpected(n.error());
      out.ttl_seconds = static_cast<std::uint32_t>(*n);
      return {};
    }
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  if (out.customer.empty()) return invalid("\"customer\" is required");
  return out;
}

Result<NewWebhook> BodyReader::webhook(std::string_view body) {
  NewWebhook out;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "url") {
      auto s = m.text(1, 2048);
      if (!s) return tl::unexpected(s.error());
      out.url = *s;
      return {};
    }
    if (m.name == "kinds") {
      const std::string_view what =
          R"(an array of kinds of messages like ["ordered","refund_due"])";
      od::array kinds;
      if (m.value.get_array().get(kinds) != simdjson::SUCCESS) return m.wrong(what);
      out.kinds.emplace();
      for (auto item : kinds) {
        std::string_view name;
        if (item.get_string().get(name) != simdjson::SUCCESS) return m.wrong(what);
        if (!out.kinds->add(name)) {
          return m.wrong(
              fmt::format("{}; there are {}", what, fmt::join(all_message_kinds().names(), ", ")));
        }
      }
      if (out.kinds->empty()) return m.wrong(what);
      return {};
    }
    if (m.name == "sku") {
      auto s = m.text(1, 64);
      out.sku = s ? parse_sku(*s) : std::nullopt;
      if (!out.sku) return m.wrong("a SKU");
      return {};
    }
    if (m.name == "past") return store(m.boolean(), out.past);
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  if (out.url.empty()) return invalid("\"url\" is required: where messages are sent");
  return out;
}

Result<WebhookChange> BodyReader::webhook_change(std::string_view body) {
  using Action = WebhookChange::Action;
  std::optional<Action> action;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name != "action") return m.unknown();
    auto s = m.text(1, 32);
    for (const auto& [name, a] : {std::pair{"rotate_secret", Action::rotate_secret},
                                  {"drop_old_secret", Action::drop_old_secret},
                                  {"enable", Action::enable},
                                  {"disable", Action::disable}}) {
      if (s && *s == name) action = a;
    }
    if (!action) {
      return m.wrong(R"("rotate_secret", "drop_old_secret", "enable" or "disable")");
    }
    return {};
  });
  if (!ok) return tl::unexpected(ok.error());
  if (!action) return invalid("\"action\" is required");
  return WebhookChange{*action};
}

Result<RedeliveryBody> BodyReader::redelivery(std::string_view body) {
  RedeliveryBody out;
  bool has_sku = false;
  bool has_from = false;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "message") {
      // "sku:position:number"
      auto s = m.text(1, 128);
      std::array<std::string_view, 3> part;
      std::string_view rest = s ? *s : std::string_view{};
      for (std::size_t i = 2; i > 0; --i) {
        const std::size_t colon = rest.rfind(':');
        if (colon == std::string_view::npos) break;
        part[i] = rest.substr(colon + 1);
        rest = rest.substr(0, colon);
      }
      const auto sku = parse_sku(rest);
      const auto position = http::parse_number(part[1]);
      const auto number = http::parse_number(part[2]);
      if (!sku || !position || *position == 0 || !number || *number >= 0xffff'ffff) {
        return m.wrong("the id of a message like \"demo:17:0\"");
      }
      out = {*sku, Seq{*position}, static_cast<std::uint32_t>(*number)};
      return {};
    }
    if (m.name == "sku") {
      has_sku = true;
      auto s = m.text(1, 64);
      const auto sku = s ? parse_sku(*s) : std::nullopt;
      if (!sku) return m.wrong("a SKU");
      out.sku = *sku;
      return {};
    }
    if (m.name == "from") {
      has_from = true;
      auto n = m.integer(1, std::numeric_limits<std::int64_t>::max());
      if (!n) return tl::unexpected(n.error());
      out.position = Seq{static_cast<std::uint64_t>(*n)};
      return {};
    }
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  if (has_sku != has_from || has_sku == out.number.has_value()) {
    return invalid("give either \"message\" or both \"sku\" and \"from\" (a position)");
  }
  return out;
}

Result<Terms> BodyReader::terms(std::string_view body, Timestamp now, const Terms* existing) {
  Terms t;
  t.starts_at = existing != nullptr ? existing->starts_at : now;
  t.limit_per_customer = Quantity{1};
  t.line_limit = 100'000;
  bool has_stock = false;
  bool has_price = false;
  bool has_hold = false;
  auto ok = for_each_member(body, [&](Member& m) -> Result<void> {
    if (m.name == "stock") {
      has_stock = true;
      return store(m.quantity(0, kMaxStock), t.stock);
    }
    if (m.name == "price") {
      has_price = true;
      od::object price;
      if (m.value.get_object().get(price) != simdjson::SUCCESS) {
        return m.wrong(R"(an object like {"amount":4900,"currency":"EUR"})");
      }
      bool has_amount = false;
      bool has_currency = false;
      for (auto item : price) {
        od::field field;
        Member inner;
        if (std::move(item).get(field) != simdjson::SUCCESS ||
            field.unescaped_key().get(inner.name) != simdjson::SUCCESS) {
          return m.wrong("valid JSON");
        }
        inner.value = field.value();
        if (inner.name == "amount" && !has_amount) {
          has_amount = true;
          auto n = inner.integer(0, kMaxPrice);
          if (!n) return tl::unexpected(n.error());
          t.price.amount = MinorUnits{*n};
        } else if (inner.name == "currency" && !has_currency) {
          has_currency = true;
          if (auto c = store(inner.currency(), t.price.currency); !c) return c;
        } else {
          return inner.unknown();
        }
      }
      if (!has_amount || !has_currency) {
        return m.wrong(R"(an object like {"amount":4900,"currency":"EUR"})");
      }
      return {};
    }
    if (m.name == "starts_at") return store(m.time(), t.starts_at);
    if (m.name == "ends_at") {
      auto null = m.is_null();
      if (!null) return tl::unexpected(null.error());
      if (*null) return {};
      return store(m.time(), t.ends_at);
    }
    if (m.name == "hold_seconds") {
      has_hold = true;
      return store(m.seconds(1, kMaxHoldMs), t.hold);
    }
    if (m.name == "grace_seconds") return store(m.seconds(0, kMaxGraceMs), t.grace);
    if (m.name == "limit_per_customer") {
      return store(m.quantity(1, kMaxLimitPerCustomer), t.limit_per_customer);
    }
    if (m.name == "units_per_purchase") {
      return store(m.quantity(1, kMaxUnitsPerPurchase), t.units_per_purchase);
    }
    if (m.name == "line_limit") {
      auto n = m.integer(0, kMaxLine);
      if (!n) return tl::unexpected(n.error());
      t.line_limit = static_cast<std::uint32_t>(*n);
      return {};
    }
    if (m.name == "line_policy") {
      auto s = m.text(1, 16);
      if (s && *s == "strict") {
        t.line_policy = LinePolicy::strict;
      } else if (s && *s == "skip_if_unfit") {
        t.line_policy = LinePolicy::skip_if_unfit;
      } else {
        return m.wrong("\"strict\" or \"skip_if_unfit\"");
      }
      return {};
    }
    return m.unknown();
  });
  if (!ok) return tl::unexpected(ok.error());
  if (!has_stock) return invalid("\"stock\" is required: how many units are for sale");
  if (!has_price) {
    return invalid(R"("price" is required, like {"amount":4900,"currency":"EUR"} for 49.00 EUR)");
  }
  if (!has_hold) return invalid("\"hold_seconds\" is required: how long a reservation stands");
  if (t.units_per_purchase.value == 0) {
    t.units_per_purchase = std::min(t.limit_per_customer, Quantity{kMaxUnitsPerPurchase});
  }
  if (t.ends_at <= t.starts_at) return invalid("\"ends_at\" must be later than \"starts_at\"");
  if (check_terms(t) != TermsFault::none) return invalid("these terms cannot be sold under");
  return t;
}

std::optional<SkuName> parse_sku(std::string_view s) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '_' || c == '-';
  };
  if (s.empty() || !std::all_of(s.begin(), s.end(), good)) return std::nullopt;
  return SkuName::from(s);
}

}  // namespace fairsale::api
