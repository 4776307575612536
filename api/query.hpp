// What a desk asks of the shard that owns a SKU.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>

#include "api/auth.hpp"
#include "api/http/worker.hpp"
#include "core/domain/event.hpp"
#include "core/engine/sequencer.hpp"
#include "projections/outbox/cursors.hpp"

namespace fairsale::api {

// Where an answer goes: the number of the desk that got the request, or one of these.
inline constexpr std::uint16_t kDeskOfOrigin = 0x3fff;
inline constexpr std::uint16_t kForwarded = 0x4000;  // and the desk's: to another node
inline constexpr std::uint16_t kOfBatch = 0x8000;    // into the answers of the batch being decided

// What a request waits for at a shard, and how its answer is to look.
struct Reply {
  enum class Kind : std::uint8_t { put, patch, attempt, give_up, payment, refund };

  std::uint16_t origin = 0;
  Kind kind = Kind::attempt;
  http::Ticket ticket;

  static Kind kind_of(const Event&);  // that answers an event of its own accord

  fairsale::Ticket pack() const;
  static Reply unpack(const fairsale::Ticket&);
};

// Something to be looked up, or done after a look, at the shard that owns the SKU.
struct Query {
  enum class Kind : std::uint8_t {
    purchase,
    customer,
    line,
    audit_head,
    explanation,
    events,  // of a purchase, as a stream
    give_up,
    payment,
    demo_payment,  // of the purchase's own price
    refund
  };

  Kind kind = Kind::purchase;
  SkuName sku;
  Seq purchase;
  CustomerId customer;
  std::uint32_t limit = 0;
  Seq min_seq;
  Principal who;
  Event event = TimePassed{};   // payment, refund
  std::optional<Cursor> after;  // events: where the client resumes
  std::uint16_t origin = 0;
  http::Ticket ticket;
  std::chrono::steady_clock::time_point asked;  // when it came to the shard
};

// Those that lead to an event.
constexpr bool acts(Query::Kind k) {
  return k == Query::Kind::give_up || k == Query::Kind::payment || k == Query::Kind::demo_payment ||
         k == Query::Kind::refund;
}

// Those that are about one purchase.
constexpr bool of_purchase(Query::Kind k) {
  return acts(k) || k == Query::Kind::purchase || k == Query::Kind::explanation ||
         k == Query::Kind::events;
}

}  // namespace fairsale::api
