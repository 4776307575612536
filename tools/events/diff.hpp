// Where two logs of one SKU part.
#pragma once

#include <optional>
#include <string>

#include "core/log/event_log.hpp"

namespace fairsale::cli {

// What lies at a position of one log.
struct Entry {
  Seq seq;
  Timestamp time;
  Event event;
  // The block that holds it.
  Seq first;
  Seq last;
  Epoch epoch;
  Digest digest;
};

enum class Relation {
  equal,
  a_is_prefix,    // and b goes on
  b_is_prefix,    // and a goes on
  events_differ,  // at `seq`: another event, or another time
  blocks_differ,  // from `seq` on; the events and their times are the same as far as both go
};

struct Difference {
  Relation relation = Relation::equal;
  Seq seq;                 // the first that differs, or that only one has; 0 when equal
  std::optional<Entry> a;  // what each has there
  std::optional<Entry> b;
};

// Compares the logs of a SKU up to these heads (empty ones where there is none). The hash chain
// tells in a logarithm of the blocks where they part; only what follows is read event by event.
// Fails at damage that is met; an equal or common part is not searched for it.
Result<Difference> first_difference(const EventLog& log_a, const Head& a, const EventLog& log_b,
                                    const Head& b, SkuId sku);

}  // namespace fairsale::cli
