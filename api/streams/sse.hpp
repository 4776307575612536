// The text of event streams (Server-Sent Events, as the HTML standard has them) and the ids by
// which a client resumes one.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "projections/outbox/cursors.hpp"

namespace fairsale::api {

inline constexpr std::string_view kEventStream = "text/event-stream";
inline constexpr std::string_view kEventStreamStart = "retry: 1000\n\n";
inline constexpr std::string_view kComment = ":\n\n";

// "17" is behind all messages of position 17, "17.0" behind its first.
std::string event_id(Cursor);
// Nothing when it is neither.
std::optional<Cursor> parse_event_id(std::string_view text);

// Appends one event. `data` has no line ends. Without an id it is not resumed after.
void append_event(std::string& out, std::string_view event, std::string_view id,
                  std::string_view data);
// Moves the id on without an event.
void append_position(std::string& out, std::string_view id);

}  // namespace fairsale::api
