// The rows of the stored projections, and how they follow from a SKU's log.
//
// A row is absolute (never a difference) and says at which position of the log it last changed. So
// writing a row twice does no harm, and the content of a projection at position n is a function of
// the log up to n and of nothing else: not of how events were grouped, when they were written, or
// how often the process was killed.
#pragma once

#include <array>
#include <concepts>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/domain/sale.hpp"
#include "core/log/digest.hpp"
#include "projections/availability.hpp"

namespace fairsale {

// Numbers are part of the store's format: never reused.
enum class StoredProjection : std::uint8_t {
  availability = 1,  // one row: the sale document
  timeline = 2,      // a row per second of log time in which something was committed
  orders = 3,        // a row per purchase that was ordered, another once it is refunded
  outbox = 4,        // a row per message to the outside world, in their order
};

inline constexpr std::array kStoredProjections{StoredProjection::availability,
                                               StoredProjection::timeline, StoredProjection::orders,
                                               StoredProjection::outbox};

// Stable, as in the API and the CLI.
std::string_view name_of(StoredProjection);
std::optional<StoredProjection> stored_projection(std::string_view name);

// Grows when the meaning or form of a projection's rows changes. Rows of another version are of no
// use and are built anew.
std::uint32_t version_of(StoredProjection);

// How the sale stood at the end of a second.
struct TimelineRow {
  std::int64_t second = 0;  // since 1970-01-01
  Seq position;
  std::uint64_t purchases = 0;
  std::uint64_t customers = 0;
  Quantity available;
  Quantity held;
  Quantity sold;
  std::uint32_t waiting = 0;
  Phase phase = Phase::none;

  friend bool operator==(const TimelineRow&, const TimelineRow&) = default;
};

struct OrderRow {
  Seq position;  // where the log made it an order
  Timestamp at;
  Seq purchase;
  CustomerId customer;
  Quantity quantity;
  Money amount;
  PaymentReference reference;

  friend bool operator==(const OrderRow&, const OrderRow&) = default;
};

struct RefundRow {
  Seq purchase;
  Seq position;
  Timestamp at;

  friend bool operator==(const RefundRow&, const RefundRow&) = default;
};

// What a decision says to the outside world. Its id, "sku:position:number", never changes: whoever
// gets it twice can tell.
struct MessageRow {
  Seq position;              // of the event that brought it about
  std::uint32_t number = 0;  // among the messages of that event, from 0
  Timestamp at;
  DecisionKind kind = DecisionKind::noted;
  Reason reason = Reason::none;
  Quantity quantity;
  std::uint32_t place = 0;  // waiting: the place in line
  Timestamp until;          // reserved, offered: when the hold ends
  Seq purchase;             // 0 when it is about the sale as a whole, as all that follows
  CustomerId customer;
  PaymentReference reference;  // ordered, refund_due: of the payment; empty otherwise
  Money amount;

  friend bool operator==(const MessageRow&, const MessageRow&) = default;
};

// A row as it is stored. Keys sort as the rows do: seconds by time, orders by position; a refund's
// key names the purchase.
struct StoredRow {
  std::string key;
  std::string value;
};

StoredRow encode(const TimelineRow&);
StoredRow encode(const OrderRow&);
StoredRow encode(const RefundRow&);
StoredRow encode(const MessageRow&);
std::string timeline_key(std::int64_t second);
std::string order_key(Seq position);
std::string refund_key(Seq purchase);
std::string message_key(Seq position, std::uint32_t number);
inline constexpr std::string_view kOrderKeys = "o";   // what all keys of orders begin with
inline constexpr std::string_view kRefundKeys = "r";  // and of refunds

// Nothing when these are not the bytes of such a row.
std::optional<TimelineRow> decode_timeline(std::string_view key, std::string_view value);
std::optional<OrderRow> decode_order(std::string_view key, std::string_view value);
std::optional<RefundRow> decode_refund(std::string_view key, std::string_view value);
std::optional<MessageRow> decode_message(std::string_view key, std::string_view value);

// For people: "order at position 17" and what a row says.
std::string describe_key(StoredProjection, std::string_view key);
std::string describe_row(StoredProjection, std::string_view key, std::string_view value);

// The digest of a set of rows: the sum of their SHA-256 modulo 2^256 (M. Bellare, D. Micciancio, "A
// new paradigm for collision-free hashing: incrementality at reduced cost", 1997), so that it is at
// hand at every position. Each row's hash covers the projection, its version and the SKU.
class RowSum {
 public:
  RowSum() = default;
  explicit RowSum(const Digest&);

  void add(const Digest& row);
  void remove(const Digest& row);
  Digest digest() const;

 private:
  std::array<std::uint64_t, 4> limbs_{};  // the lowest first
};

Digest row_hash(StoredProjection, SkuId, std::string_view key, std::string_view value);

// What the events in (from, to] of a SKU's log changed: its rows as of `to`.
struct Stretch {
  SkuId sku;
  Seq from;
  Seq to;
  std::shared_ptr<const Availability> rendered;  // the sale document, here or
  std::string document;                          // here; neither when no sale exists
  std::vector<TimelineRow> seconds;              // in order, each once
  std::vector<OrderRow> orders;                  // in order
  std::vector<RefundRow> refunds;                // in order
  std::vector<MessageRow> messages;              // in order

  std::string_view json() const { return rendered ? rendered->json() : std::string_view(document); }

  std::size_t rows() const {
    return seconds.size() + orders.size() + refunds.size() + messages.size();
  }

  // Takes in what follows directly: next.from == to.
  void join(Stretch&& next);
};

// All are to be called while the sale is as the decision or the block has left it: they append the
// row that it makes, if any. All decisions of an event go into the same stretch.
void collect(Stretch&, const Sale&, const Decision&);
// Whether decisions of this kind concern the outside world: whoever asked for a refused one has
// been answered.
bool becomes_message(DecisionKind);
void collect_message(Stretch&, const Sale&, const Decision&);
void collect_second(Stretch&, const Sale&);

}  // namespace fairsale
