// The vocabulary of the domain: ids, quantities, money and time as types that cannot be swapped by
// mistake. Everything here is trivially copyable, of fixed size, and standard library only.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

namespace fairsale {

// An integer with a meaning. Two integers of different meaning do not convert, compare or add.
template <class Tag, class Rep>
struct Strong {
  using rep = Rep;
  Rep value{};

  constexpr Strong() = default;
  constexpr explicit Strong(Rep v) : value(v) {}
  constexpr auto operator<=>(const Strong&) const = default;
};

// Position of an event in the log of its SKU. Gap-free from 1; 0 means "before the first event".
using Seq = Strong<struct SeqTag, std::uint64_t>;

// Identifies a SKU's log. The first 8 bytes of SHA-256(SKU name), so that no catalogue has to be
// agreed on; the log refuses a second name with the same id.
using SkuId = Strong<struct SkuIdTag, std::uint64_t>;

// A number of units of a SKU.
using Quantity = Strong<struct QuantityTag, std::uint32_t>;

// Milliseconds since the Unix epoch, as stamped by the sequencer. The domain knows no other time.
using Timestamp = Strong<struct TimestampTag, std::int64_t>;

// Milliseconds.
using Duration = Strong<struct DurationTag, std::int64_t>;

constexpr Timestamp operator+(Timestamp t, Duration d) { return Timestamp{t.value + d.value}; }
constexpr Duration operator-(Timestamp a, Timestamp b) { return Duration{a.value - b.value}; }

// No deadline, or a sale without an end.
inline constexpr Timestamp kNever{std::numeric_limits<std::int64_t>::max()};

// Money in minor units (cents) of an ISO 4217 currency.
using MinorUnits = Strong<struct MinorUnitsTag, std::int64_t>;

struct Currency {
  std::array<char, 3> code{};
  constexpr auto operator<=>(const Currency&) const = default;
};

struct Money {
  MinorUnits amount;
  Currency currency;
  constexpr auto operator<=>(const Money&) const = default;
};

// A bounded text held in place: no allocation, trivially copyable. N <= 255.
template <std::size_t N>
class Text {
  static_assert(N <= 255);

 public:
  static constexpr std::size_t capacity = N;

  constexpr Text() = default;

  // Returns nothing when `s` is longer than N bytes.
  static constexpr std::optional<Text> from(std::string_view s) {
    if (s.size() > N) return std::nullopt;
    Text t;
    t.size_ = static_cast<std::uint8_t>(s.size());
    for (std::size_t i = 0; i < s.size(); ++i) t.bytes_[i] = s[i];
    return t;
  }

  constexpr std::string_view view() const { return {bytes_.data(), size_}; }
  constexpr std::size_t size() const { return size_; }
  constexpr bool empty() const { return size_ == 0; }

  // For decoders: sets the length (at most N) and gives the bytes to fill.
  char* resize(std::size_t n) {
    size_ = static_cast<std::uint8_t>(n <= N ? n : N);
    return bytes_.data();
  }

  friend constexpr bool operator==(const Text& a, const Text& b) { return a.view() == b.view(); }

 private:
  std::uint8_t size_ = 0;
  std::array<char, N> bytes_{};
};

using SkuName = Text<64>;           // [A-Za-z0-9._-]{1,64}
using CustomerId = Text<64>;        // as the shop names its customer; visible ASCII, 1 to 64 bytes
using PaymentReference = Text<64>;  // as the payment provider names the payment
using Actor = Text<64>;             // who did an operator action
using Why = Text<160>;              // why an operator action was done

// The first 16 bytes of SHA-256(Idempotency-Key header). Only equality matters, and a digest keeps
// the log small and makes it hard to choose keys that collide in the index.
struct IdempotencyKey {
  std::array<std::uint8_t, 16> bytes{};
  constexpr auto operator<=>(const IdempotencyKey&) const = default;
};

// Numbers are part of the log format: never reused, never renumbered.
enum class Role : std::uint8_t { customer = 1, shop = 2, op = 3 };

enum class LinePolicy : std::uint8_t {
  strict = 0,         // nobody is served before the first in line
  skip_if_unfit = 1,  // who wants more than is free is passed over until enough is free
};

std::string_view name_of(LinePolicy);

enum class Opening : std::uint8_t {
  fifo = 0,
  draw = 1,  // reserved; rules version 1 refuses it
};

// The meaning of the events of a sale. An old log replays under its own rules for ever.
using RulesVersion = Strong<struct RulesVersionTag, std::uint16_t>;
inline constexpr RulesVersion kRulesV1{1};

// The terms of a sale, as scheduled or changed.
struct Terms {
  Quantity stock;
  Money price;  // of one unit
  Timestamp starts_at;
  Timestamp ends_at = kNever;
  Duration hold;                 // how long a reservation or an offer stands
  Duration grace;                // how long after that a payment in flight is still honoured
  Quantity limit_per_customer;   // units, over holds + orders + places in line
  Quantity units_per_purchase;   // the most that one purchase may ask for
  std::uint32_t line_limit = 0;  // purchases that may wait
  LinePolicy line_policy = LinePolicy::strict;
  Opening opening = Opening::fifo;

  friend bool operator==(const Terms&, const Terms&) = default;
};

// What check_terms() finds wrong; none means the terms can be sold under.
enum class TermsFault : std::uint8_t {
  none = 0,
  stock = 1,
  price = 2,
  currency = 3,
  times = 4,
  hold = 5,
  grace = 6,
  limit_per_customer = 7,
  units_per_purchase = 8,
  line_limit = 9,
  line_policy = 10,
  opening = 11,
};

inline constexpr std::uint32_t kMaxStock = 100'000'000;
inline constexpr std::int64_t kMaxPrice = 1'000'000'000'000;
inline constexpr std::int64_t kMaxHoldMs = 30LL * 24 * 3600 * 1000;
inline constexpr std::int64_t kMaxGraceMs = 24LL * 3600 * 1000;
inline constexpr std::uint32_t kMaxUnitsPerPurchase = 100;
inline constexpr std::uint32_t kMaxLimitPerCustomer = 1'000'000;
inline constexpr std::uint32_t kMaxLine = 10'000'000;
inline constexpr std::int64_t kMaxTimestampMs = 253'402'300'799'999;  // the end of the year 9999

TermsFault check_terms(const Terms&);

// True when this build can fold a log whose sale was scheduled under these rules.
constexpr bool supports(RulesVersion v) { return v == kRulesV1; }

// Why something was refused, released or is to be refunded. Closed and numbered: numbers are part
// of replies, the log's decisions and the API's problem types, and are never reused.
enum class Reason : std::uint8_t {
  none = 0,
  not_started = 1,
  paused = 2,
  ended = 3,
  closed = 4,
  sold_out = 5,            // no unit is free, held or expected back
  insufficient_stock = 6,  // fewer units are left than asked for
  line_full = 7,
  over_limit = 8,
  quantity_invalid = 9,
  key_reused = 10,  // the same idempotency key with another body
  unknown_sale = 11,
  unknown_purchase = 12,
  sale_exists = 13,
  terms_invalid = 14,
  not_changeable = 15,   // this term is fixed once the sale has started
  stock_committed = 16,  // the new stock is below what is held and sold
  not_held = 17,         // neither reserved nor offered
  not_offered = 18,
  already_ordered = 19,
  already_paid = 20,
  hold_expired = 21,
  cancelled = 22,
  amount_mismatch = 23,
  not_ordered = 24,
  reference_reused = 25,   // the same payment reference with another amount
  too_many_payments = 26,  // of one purchase
  sale_full = 27,          // as many attempts as one sale may take
  event_unsupported = 28,  // an event that these rules do not know
};

// Stable, lower-case names, as in problem types and scenarios ("sold_out").
std::string_view name_of(Reason);

}  // namespace fairsale
