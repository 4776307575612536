// The messages of the outbox that concern orders, as they arrive: JSON in, cases out.
#pragma once

#include <optional>
#include <string_view>

#include "core/log/result.hpp"
#include "tools/orders/fulfilment.hpp"

namespace fairsale::orders {

// A longer one is none of fairsale's.
inline constexpr std::size_t kMaxMessageBytes = 65'536;

// The case that a message document opens, or nothing when it is about something else (a place in
// line, say). Fails when it is no such document, with a message that says what is wrong with it.
Result<std::optional<Case>> read_message(std::string_view document);

// The same when the document is the data of a CloudEvent.
Result<std::optional<Case>> read_cloud_event(std::string_view event);

}  // namespace fairsale::orders
