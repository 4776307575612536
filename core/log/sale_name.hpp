// Which sale a log is of.
#pragma once

#include <string>

#include "core/log/event_log.hpp"

namespace fairsale {

// The name of a SKU as its first block tells it; empty when it does not. Fails when that block is
// damaged.
Result<std::string> sale_name(const EventLog&, SkuId);

}  // namespace fairsale
