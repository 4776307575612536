// What a sale's documents have in common, whoever writes them.
#pragma once

#include "core/domain/sale.hpp"
#include "core/json/json.hpp"

namespace fairsale {

// The members stock, available, held, sold and waiting of the object that is open.
void append_counters(JsonWriter&, const Counters&);

// The members price to line_policy of the object that is open; the stock is told by the counters.
void append_terms(JsonWriter&, const Terms&);

}  // namespace fairsale
