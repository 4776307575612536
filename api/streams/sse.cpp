#include "api/streams/sse.hpp"

#include <fmt/format.h>

#include <limits>

#include "api/http/problem.hpp"

namespace fairsale::api {

std::string event_id(Cursor c) {
  if (c == Cursor::past(c.position)) return fmt::format("{}", c.position.value);
  return fmt::format("{}.{}", c.position.value, c.number);
}

std::optional<Cursor> parse_event_id(std::string_view text) {
  const std::size_t dot = text.find('.');
  const auto position = http::parse_number(text.substr(0, dot));
  if (!position) return std::nullopt;
  if (dot == std::string_view::npos) return Cursor::past(Seq{*position});
  const auto number = http::parse_number(text.substr(dot + 1));
  if (!number || *number > std::numeric_limits<std::uint32_t>::max()) return std::nullopt;
  return Cursor{Seq{*position}, static_cast<std::uint32_t>(*number)};
}

void append_event(std::string& out, std::string_view event, std::string_view id,
                  std::string_view data) {
  out += "event: ";
  out += event;
  if (!id.empty()) {
    out += "\nid: ";
    out += id;
  }
  out += "\ndata: ";
  out += data;
  out += "\n\n";
}

void append_position(std::string& out, std::string_view id) {
  out += "id: ";
  out += id;
  out += "\n\n";
}

}  // namespace fairsale::api
