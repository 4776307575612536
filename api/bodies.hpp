// Request bodies: strict JSON in, typed values out. Whatever is unknown, missing, repeated or of
// the wrong type is refused with a message that names the member and says what would be right.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <simdjson.h>

#include "core/domain/event.hpp"
#include "core/log/result.hpp"
#include "projections/delivery/webhooks.hpp"

namespace fairsale::api {

struct AttemptBody {
  std::optional<CustomerId> customer;
  Quantity quantity{1};
};

struct PatchBody {
  enum class Action { pause, resume, close, stock } action = Action::pause;
  Quantity stock;
  Actor actor;
  Why reason;
};

struct PaymentBody {
  bool received = true;
  PaymentReference reference;
  Money amount;  // when received
};

// What a payment provider tells.
struct CallbackBody {
  std::string purchase;  // "sku:seq", not checked
  PaymentBody payment;
};

struct RefundBody {
  bool restock = false;
  Actor actor;
  Why reason;
};

struct RebuildBody {
  bool force = false;
};

struct WebhookChange {
  enum class Action { rotate_secret, drop_old_secret, enable, disable } action = Action::enable;
};

// Of one message, or of all of a SKU from a position on.
struct RedeliveryBody {
  SkuName sku;
  Seq position;
  std::optional<std::uint32_t> number;  // of the one message
};

struct AuditBody {
  bool fairness = false;
};

struct DemoPaymentBody {
  bool declined = false;
};

struct TokenBody {
  CustomerId customer;
  std::uint32_t ttl_seconds = 900;
};

// Holds the parser and a padded copy of the body, both reused. Not thread-safe.
class BodyReader {
 public:
  Result<AttemptBody> attempt(std::string_view body);
  Result<PatchBody> patch(std::string_view body);
  Result<PaymentBody> payment(std::string_view body);
  Result<CallbackBody> payment_callback(std::string_view body);
  Result<RefundBody> refund(std::string_view body);
  Result<RebuildBody> rebuild(std::string_view body);           // may be empty
  Result<AuditBody> audit(std::string_view body);               // may be empty
  Result<DemoPaymentBody> demo_payment(std::string_view body);  // may be empty
  Result<TokenBody> token(std::string_view body);
  Result<NewWebhook> webhook(std::string_view body);
  Result<WebhookChange> webhook_change(std::string_view body);
  Result<RedeliveryBody> redelivery(std::string_view body);

  // `now` is the default of starts_at, unless the sale exists: then it keeps its own.
  Result<Terms> terms(std::string_view body, Timestamp now, const Terms* existing);

 private:
  struct Member;
  template <class Visit>
  Result<void> for_each_member(std::string_view body, Visit&& visit);
  // Members that are none of a payment's go to `other`.
  template <class Other>
  Result<PaymentBody> read_payment(std::string_view body, std::string_view outcome, bool required,
                                   Other&& other);

  simdjson::ondemand::parser parser_;
  std::string padded_;
};

// "[A-Za-z0-9._-]{1,64}"
std::optional<SkuName> parse_sku(std::string_view);

}  // namespace fairsale::api
