// What a crowd was told about each attempt, and what it saw of it later: the evidence that the
// checks work on.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/domain/sale.hpp"
#include "core/log/result.hpp"
#include "tools/rush/http.hpp"

namespace fairsale::rush {

enum class First : std::uint8_t { none, reserved, waiting, refused };

enum class PaymentAnswer : std::uint8_t { none, sent, ordered, refund_due, refused };

enum class CancelAnswer : std::uint8_t { none, sent, cancelled, declined, refused };

struct Claim {
  // The attempt.
  std::uint32_t customer = 0;
  std::uint16_t quantity = 1;

  // Its first answer, acknowledged.
  First first = First::none;
  std::uint16_t status = 0;      // HTTP
  Reason reason = Reason::none;  // of a refusal
  std::uint32_t place = 0;       // in line, when waiting
  std::uint64_t seq = 0;         // of the purchase id; 0 when the answer has none
  std::uint64_t position = 0;    // as answered
  std::uint64_t digest = 0;      // of the answer's body
  std::int64_t sent_ms = 0;      // Unix epoch
  std::int64_t answered_ms = 0;

  // What was seen later. Positions are those of the answers in which it was seen.
  std::uint64_t waiting_at = 0;  // the last in which it still waited
  std::uint64_t offered_at = 0;  // the first after it had been made an offer
  PaymentAnswer payment = PaymentAnswer::none;
  CancelAnswer cancel = CancelAnswer::none;
};

// What a sale document says.
struct SaleFacts {
  std::int64_t stock = 0;
  std::int64_t available = 0;
  std::int64_t held = 0;
  std::int64_t sold = 0;
  std::int64_t waiting = 0;
  std::int64_t limit_per_customer = 0;
  std::int64_t line_limit = 0;
  std::int64_t price = 0;
  std::string currency;
  std::string state;
  bool strict = true;
  std::uint64_t position = 0;
};

// What an answer about a purchase, a payment or a cancellation says, or a problem.
struct Answer {
  std::uint64_t seq = 0;  // of "purchase", when it is one of the SKU
  std::uint64_t position = 0;
  std::uint32_t place = 0;
  std::uint32_t quantity = 0;
  std::string_view status;  // empty in a problem, whose status is a number
  std::string_view type;    // of a problem, without urn:fairsale:problem:
  Reason reason = Reason::none;
};

// One line of a customer's listing.
struct Listed {
  std::uint64_t seq = 0;
  PurchaseStatus status = PurchaseStatus::refused;
};

// Parses the server's documents; every read returns false when the body is not the JSON object it
// should be. A body must be readable kJsonPadding bytes past its end, as one from a pool is. Keeps
// its memory; an answer's views are valid until the next read and while the body is. Not
// thread-safe.
class AnswerReader {
 public:
  AnswerReader();
  ~AnswerReader();
  AnswerReader(AnswerReader&&) noexcept;

  bool read(std::string_view body, std::string_view sku, Answer& out);
  bool read(std::string_view body, SaleFacts& out);
  bool read(std::string_view body, std::string_view sku, std::vector<Listed>& out);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The number in a purchase id of this SKU ("demo:17"); 0 when it is none.
std::uint64_t purchase_seq(std::string_view id, std::string_view sku);

std::optional<Reason> reason_named(std::string_view);
std::optional<PurchaseStatus> status_named(std::string_view);

// The HTTP status that the contract gives a refusal for this reason; 0 when it has none.
int documented_status(Reason);

// FNV-1a, 64 bits: tells whether two bodies are the same bytes.
std::uint64_t digest_of(std::string_view body);

}  // namespace fairsale::rush
