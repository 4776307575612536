// The reader of HTTP requests alone: what it reads does not depend on how the bytes came in pieces,
// and a second, plain reading of each request agrees on where it ends and what its body is. Where
// two readers could disagree, requests can be smuggled.
#include <optional>

#include "tests/fuzz/stream.hpp"

namespace fairsale::fuzz {

namespace {

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return out;
}

std::string_view trimmed(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

std::optional<std::string_view> cut_line(std::string_view& s) {
  const std::size_t end = s.find("\r\n");
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = s.substr(0, end);
  s.remove_prefix(end + 2);
  return line;
}

std::optional<std::size_t> number(std::string_view s, int base) {
  if (s.empty()) return std::nullopt;
  while (s.size() > 1 && s.front() == '0') s.remove_prefix(1);
  if (s.size() > 15) return std::nullopt;
  std::size_t n = 0;
  for (const char c : lower(s)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : base;
    if (digit >= base) return std::nullopt;
    n = n * static_cast<std::size_t>(base) + static_cast<std::size_t>(digit);
  }
  return n;
}

// The body of exactly one request, read as RFC 9112 says and with nothing forgiven.
std::optional<std::string> plain_body(std::string_view raw) {
  if (!cut_line(raw)) return std::nullopt;
  std::optional<std::string_view> length;
  bool chunked = false;
  for (;;) {
    const auto line = cut_line(raw);
    if (!line) return std::nullopt;
    if (line->empty()) break;
    const std::size_t colon = line->find(':');
    if (colon == std::string_view::npos || line->find('\n') != std::string_view::npos) {
      return std::nullopt;
    }
    const std::string name = lower(line->substr(0, colon));
    const std::string_view value = trimmed(line->substr(colon + 1));
    if (name.find_first_of(" \t") != std::string::npos) return std::nullopt;
    if (name == "content-length") {
      if (length || chunked) return std::nullopt;
      length = value;
    } else if (name == "transfer-encoding") {
      if (length || chunked || lower(value) != "chunked") return std::nullopt;
      chunked = true;
    }
  }
  if (!chunked) {
    const auto n = length ? number(*length, 10) : std::optional<std::size_t>(0);
    return n == raw.size() ? std::optional(std::string(raw)) : std::nullopt;
  }
  std::string body;
  for (;;) {
    const auto line = cut_line(raw);
    if (!line) return std::nullopt;
    const auto size = number(trimmed(line->substr(0, line->find(';'))), 16);
    if (!size || *size > raw.size()) return std::nullopt;
    if (*size == 0) break;
    body += raw.substr(0, *size);
    raw.remove_prefix(*size);
    if (!raw.starts_with("\r\n")) return std::nullopt;
    raw.remove_prefix(2);
  }
  for (;;) {  // trailers
    const auto line = cut_line(raw);
    if (!line) return std::nullopt;
    if (line->empty()) break;
  }
  return raw.empty() ? std::optional(body) : std::nullopt;
}

bool printable(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

}  // namespace

void judge(std::string_view input) {
  Choices in(input);
  const std::size_t piece = std::size_t{1} + in.byte();
  const std::string_view bytes = in.rest();
  const http::Limits limits = small_limits();
  const ReadStream whole = read_stream(bytes, limits, bytes.size() + 1);
  for (const ReadRequest& r : whole.requests) {
    expect(r.path == "*" || (r.path.starts_with('/') && printable(r.path) && printable(r.query)),
           "a target is a path without blanks and controls", r.path);
    expect(r.body.size() <= limits.body_bytes, "a body is within its bound");
    expect(r.has_body || r.body.empty(), "a body was announced");
    const auto body = plain_body(r.raw);
    expect(body && *body == r.body, "two readers agree on where a request ends", r.raw);
  }
  const ReadStream pieces = read_stream(bytes, limits, piece);
  expect(pieces.requests.size() == whole.requests.size(), "pieces make the same requests");
  for (std::size_t i = 0; i < whole.requests.size(); ++i) {
    expect(pieces.requests[i].fields == whole.requests[i].fields, "word for word",
           pieces.requests[i].fields);
  }
  expect(
      (pieces.refused == 0) == (whole.refused == 0) || pieces.refused_early || whole.refused_early,
      "and refuse the same");
}

std::vector<std::string> seeds() {
  const std::string get = "GET /v1/sales/demo?min_seq=1 HTTP/1.1\r\nHost: a\r\n\r\n";
  const std::string post =
      "POST /v1/sales/demo/purchases HTTP/1.1\r\nHost: a\r\nIdempotency-Key: k\r\n"
      "Content-Type: application/json\r\nAuthorization: Bearer t\r\nContent-Length: 2\r\n\r\n{}";
  const std::string chunks =
      "POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
      "2;x=y\r\n{}\r\n0\r\nTrailer: t\r\n\r\n";
  const std::string late =
      "PUT http://b/a HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx";
  const std::string old = "HEAD / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  const std::string star = "OPTIONS * HTTP/1.1\r\nHost:\r\nIf-None-Match: \"1\"\r\n\r\n";
  std::vector<std::string> out;
  // Where servers have been known to disagree.
  for (const std::string_view fields :
       {"Content-Length: 2\r\nContent-Length: 2\r\n", "Content-Length: 2\r\nContent-Length: 0\r\n",
        "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n", "Content-Length: 2, 2\r\n",
        "Content-Length: +2\r\n", "Content-Length: 02\r\n", "Content-Length : 2\r\n",
        "Transfer-Encoding: xchunked\r\n", "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding:\r\n chunked\r\n", "X: a\nContent-Length: 2\r\n"}) {
    out.push_back("\xffPOST /a HTTP/1.1\r\nHost: a\r\n" + std::string(fields) + "\r\n0\r\n\r\n" +
                  get);
  }
  for (const std::string& s : {get, post, chunks, late, old, star}) out.push_back('\3' + s);
  out.push_back('\0' + get + "\r\n" + post + chunks + star + late);
  out.push_back('\x20' + chunks + chunks + get);
  return out;
}

}  // namespace fairsale::fuzz
