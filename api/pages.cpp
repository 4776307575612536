#include "api/pages.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "api/bodies.hpp"
#include "core/log/digest.hpp"

namespace fairsale::api {

namespace {

// Nothing but what this server sends is run, shown or asked for, and no other site may frame it.
constexpr std::string_view kPolicy =
    "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'\r\n"
    "X-Content-Type-Options: nosniff\r\n"
    "Referrer-Policy: no-referrer\r\n";

// A browser asks each time whether it has the newest, so that pages and their server always fit.
constexpr std::string_view kCaching = "Cache-Control: no-cache\r\nVary: Accept\r\n";

constexpr std::string_view kShopper = "/s/";

std::string_view type_of(std::string_view name) {
  if (name.ends_with(".html")) return "text/html; charset=utf-8";
  if (name.ends_with(".js")) return "text/javascript; charset=utf-8";
  if (name.ends_with(".css")) return "text/css; charset=utf-8";
  if (name.ends_with(".svg")) return "image/svg+xml";
  return "text/plain; charset=utf-8";
}

// Where a file is found. Pages have addresses of their own, all else lies under /assets/.
std::string path_of(std::string_view name) {
  if (name == "index.html") return "/";
  if (name == "console.html") return "/console";
  if (name == "shop.html") return std::string(kShopper);
  return fmt::format("/assets/{}", name);
}

void replace(std::string& text, std::string_view mark, std::string_view by) {
  for (auto at = text.find(mark); at != std::string::npos; at = text.find(mark, at + by.size())) {
    text.replace(at, mark.size(), by);
  }
}

// For the value of an attribute in double quotes.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '"': out += "&quot;"; break;
      case '<': out += "&lt;"; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace

Pages::Pages(bool demo, std::string_view pay_url) {
  for (const WebFile& file : web_files()) {
    std::string body(file.bytes);
    if (file.name.ends_with(".html")) {
      replace(body, "{{demo}}", demo ? "yes" : "no");
      replace(body, "{{pay_url}}", escaped(pay_url));
    }
    Page page;
    page.etag = fmt::format("\"{:.32}\"", to_hex(sha256(std::as_bytes(std::span(body)))));
    page.not_modified = fmt::format("ETag: {}\r\n{}{}", page.etag, kCaching, kPolicy);
    page.response =
        fmt::format("HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}\r\n{}",
                    type_of(file.name), body.size(), page.not_modified, body);
    pages_.emplace(path_of(file.name), std::move(page));
  }
}

const Pages::Page* Pages::find(std::string_view path) const {
  if (path.starts_with(kShopper)) {
    if (!parse_sku(path.substr(kShopper.size()))) return nullptr;
    path = kShopper;
  }
  const auto found = pages_.find(path);
  return found == pages_.end() ? nullptr : &found->second;
}

}  // namespace fairsale::api
