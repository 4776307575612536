// Rendering of answers: RFC 9457 problems, JSON, RFC 3339 times; and the strict decoding of
// targets. Everything is appended to a std::string, so that a warm buffer makes no allocation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/json/json.hpp"

namespace fairsale::http {

inline constexpr std::string_view kJson = "application/json";
inline constexpr std::string_view kProblemJson = "application/problem+json";

// RFC 9457. `name` completes urn:fairsale:problem:<name>; `detail` says what to do.
struct Problem {
  int status = 400;
  std::string_view name;
  std::string_view title;  // empty: made from the name ("sold_out" -> "Sold out")
  std::string_view detail;
};

// Appends the problem as a JSON object; `extra` is what comes before the closing brace, as JSON
// members without a leading comma (`"position":17`), or empty.
void append_problem(std::string& out, const Problem&, std::string_view extra = {});

// Decodes %XX. Gives `text` itself when there is nothing to decode, else a view of `scratch`.
// Nothing when an escape is malformed, a byte decodes to NUL, or scratch is too small. '+' is '+'.
std::optional<std::string_view> percent_decode(std::string_view text, std::span<char> scratch);

// The raw segments of a path: "/v1/sales/demo" -> v1, sales, demo. Split before decoding, so that
// an encoded slash stays inside its segment. A trailing slash gives an empty last segment.
struct PathSegments {
  static constexpr std::size_t kMax = 8;
  std::array<std::string_view, kMax> segment;
  std::size_t size = 0;  // kMax + 1 when there are more

  std::string_view operator[](std::size_t i) const { return segment[i]; }
};
PathSegments split_path(std::string_view path);

// Walks over name=value pairs, raw. Empty pairs are passed over; a name without '=' has an empty
// value.
class QueryReader {
 public:
  explicit QueryReader(std::string_view query) : rest_(query) {}
  bool next(std::string_view& name, std::string_view& value);

 private:
  std::string_view rest_;
};

// The value of the parameter `name`, decoded into scratch where needed.
enum class Parameter { absent, present, malformed, repeated };
Parameter query_parameter(std::string_view query, std::string_view name, std::span<char> scratch,
                          std::string_view& value);

// A whole decimal number: digits only, no sign, no blanks, in range.
std::optional<std::uint64_t> parse_number(std::string_view text);

}  // namespace fairsale::http
