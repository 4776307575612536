#include "api/http/problem.hpp"

#include <charconv>

namespace fairsale::http {

namespace {

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void append_problem(std::string& out, const Problem& problem, std::string_view extra) {
  out += R"({"type":"urn:fairsale:problem:)";
  out += problem.name;
  out += R"(","title":)";
  if (problem.title.empty()) {
    out += '"';
    bool first = true;
    for (const char c : problem.name) {
      const bool lower = c >= 'a' && c <= 'z';
      out += c == '_' ? ' ' : (first && lower ? static_cast<char>(c - 'a' + 'A') : c);
      first = false;
    }
    out += '"';
  } else {
    append_json_string(out, problem.title);
  }
  out += R"(,"status":)";
  const fmt::format_int status(problem.status);
  out.append(status.data(), status.size());
  if (!problem.detail.empty()) {
    out += R"(,"detail":)";
    append_json_string(out, problem.detail);
  }
  if (!extra.empty()) {
    out += ',';
    out += extra;
  }
  out += '}';
}

std::optional<std::string_view> percent_decode(std::string_view text, std::span<char> scratch) {
  if (text.find('%') == std::string_view::npos) return text;
  std::size_t n = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_value(text[i + 1]);
      const int low = hex_value(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      c = static_cast<char>(high * 16 + low);
      if (c == '\0') return std::nullopt;
      i += 2;
    }
    if (n == scratch.size()) return std::nullopt;
    scratch[n++] = c;
  }
  return std::string_view(scratch.data(), n);
}

PathSegments split_path(std::string_view path) {
  PathSegments out;
  if (path.empty() || path.front() != '/') return out;
  path.remove_prefix(1);
  for (;;) {
    const std::size_t slash = path.find('/');
    if (out.size == PathSegments::kMax) {
      out.size = PathSegments::kMax + 1;
      return out;
    }
    out.segment[out.size++] = path.substr(0, slash);
    if (slash == std::string_view::npos) return out;
    path.remove_prefix(slash + 1);
  }
}

bool QueryReader::next(std::string_view& name, std::string_view& value) {
  while (!rest_.empty()) {
    const std::size_t end = rest_.find('&');
    const std::string_view pair = rest_.substr(0, end);
    rest_ = end == std::string_view::npos ? std::string_view{} : rest_.substr(end + 1);
    if (pair.empty()) continue;
    const std::size_t equals = pair.find('=');
    name = pair.substr(0, equals);
    value = equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1);
    return true;
  }
  return false;
}

Parameter query_parameter(std::string_view query, std::string_view name, std::span<char> scratch,
                          std::string_view& value) {
  QueryReader reader(query);
  std::string_view found_name;
  std::string_view found_value;
  std::string_view raw;
  bool found = false;
  while (reader.next(found_name, found_value)) {
    if (found_name != name) continue;
    if (found) return Parameter::repeated;
    found = true;
    raw = found_value;
  }
  if (!found) return Parameter::absent;
  const auto decoded = percent_decode(raw, scratch);
  if (!decoded) return Parameter::malformed;
  value = *decoded;
  return Parameter::present;
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  if (text.empty() || text.front() < '0' || text.front() > '9') return std::nullopt;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace fairsale::http
