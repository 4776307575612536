// The events of a log as people ask for them: chosen by position, time, customer or purchase, and
// shown as text or JSON.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/domain/sale.hpp"
#include "core/engine/recovery.hpp"
#include "core/json/json.hpp"
#include "core/log/event_log.hpp"

namespace fairsale::cli {

// Which events are wanted; all of these must hold.
struct EventFilter {
  Seq from{1};
  Seq to{std::numeric_limits<std::uint64_t>::max()};
  std::optional<Timestamp> since;
  std::optional<Timestamp> until;
  // Attempts of this customer and what befell their purchases.
  std::string customer;
  // The attempt at this position, its repetitions, and what befell it.
  std::optional<Seq> purchase;
  // Fold along: tell what was decided. An event counts as one of a customer or a purchase then,
  // too, when something was decided about them, say an expiry as time passed.
  bool decisions = false;
  // Where what must be folded is folded from. A snapshot is taken at its word.
  FoldFrom fold_from = FoldFrom::snapshot;
  // Called with the number of events that were read since.
  std::function<void(std::uint64_t events)> watch;
};

// One event, valid during the call.
struct SeenEvent {
  std::string_view sale_name;  // or its id, when its log does not name it
  Seq seq;
  Timestamp time;
  const Event& event;
  bool provisional = false;
  const Sale* sale = nullptr;  // as the event left it; null unless folded along
  // With EventFilter::decisions: all of them, in order, or those about the customer or purchase.
  std::span<const Decision> decisions;
};

// Visits the wanted events of a SKU in order, up to `head`; those after `durable` are provisional.
// `visit` returns false to stop. Fails with not_found when there is no such purchase, and at the
// first damage. What `from` and `since` leave out is not read unless it must be folded.
Result<void> visit_events(const EventLog& log, const SkuHead& head, Seq durable,
                          const EventFilter& filter,
                          const std::function<bool(const SeenEvent&)>& visit);

// "tour-2027:2  2026-11-27T08:00:00.012Z  PurchaseAttempted customer=anna …", a line for each
// decision below it, with their ends.
void append_text(std::string& out, const SeenEvent&);

// One JSON object: {"sale":…,"seq":…,"time":…,"provisional":…,"event":…,fields…,"decisions":[…]}.
void append_json(JsonWriter&, const SeenEvent&);

}  // namespace fairsale::cli
