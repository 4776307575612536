#include "tools/rush/requests.hpp"

#include <fmt/format.h>

#include <iterator>

namespace fairsale::rush {

namespace {

// Writes a POST's last header and its body; the body's length is known only after it is written.
void finish(std::string& out, std::string_view body) {
  fmt::format_to(std::back_inserter(out),
                 "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}", body.size(),
                 body);
}

}  // namespace

Requests::Requests(const RunInfo& info, std::string_view authority, std::string_view token)
    : info_(info) {
  common_ = fmt::format("Host: {}\r\nAuthorization: Bearer {}\r\n", authority, token);
  post_purchase_ =
      fmt::format("POST /v1/sales/{}/purchases HTTP/1.1\r\n{}Idempotency-Key: ", info.sku, common_);
}

void Requests::purchase(std::uint32_t attempt, const Claim& c, std::string& out) const {
  out += post_purchase_;
  append_key(info_, attempt, out);
  out += "\r\n";
  fmt::memory_buffer body;
  fmt::format_to(std::back_inserter(body), R"({{"quantity":{},"customer":"{}{}"}})", c.quantity,
                 info_.customer_prefix, c.customer);
  finish(out, {body.data(), body.size()});
}

void Requests::payment(std::uint32_t attempt, const Claim& c, std::int64_t amount,
                       std::string_view currency, std::string& out) const {
  fmt::format_to(std::back_inserter(out), "POST /v1/purchases/{}:{}/payment HTTP/1.1\r\n{}",
                 info_.sku, c.seq, common_);
  fmt::memory_buffer body;
  fmt::format_to(std::back_inserter(body),
                 R"({{"reference":"pay-{}{}","status":"received","amount":{},"currency":"{}"}})",
                 info_.key_prefix, attempt, amount, currency);
  finish(out, {body.data(), body.size()});
}

void Requests::cancel(const Claim& c, std::string& out) const {
  fmt::format_to(std::back_inserter(out), "DELETE /v1/purchases/{}:{} HTTP/1.1\r\n{}\r\n",
                 info_.sku, c.seq, common_);
}

void Requests::get(std::string_view path, std::uint64_t min_seq, std::string& out) const {
  fmt::format_to(std::back_inserter(out), "GET {}", path);
  if (min_seq != 0) fmt::format_to(std::back_inserter(out), "?min_seq={}", min_seq);
  fmt::format_to(std::back_inserter(out), " HTTP/1.1\r\n{}\r\n", common_);
}

void Requests::read_purchase(const Claim& c, std::uint64_t min_seq, std::string& out) const {
  get(fmt::format("/v1/purchases/{}:{}", info_.sku, c.seq), min_seq, out);
}

void Requests::read_sale(std::uint64_t min_seq, std::string& out) const {
  get(fmt::format("/v1/sales/{}", info_.sku), min_seq, out);
}

void Requests::list_purchases(std::uint32_t customer, std::string& out) const {
  get(fmt::format("/v1/sales/{}/purchases?customer={}{}", info_.sku, info_.customer_prefix,
                  customer),
      0, out);
}

std::string Requests::put(std::string_view authority, std::string_view token, std::string_view path,
                          std::string_view body) {
  std::string out = fmt::format("PUT {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n", path,
                                authority, token);
  finish(out, body);
  return out;
}

}  // namespace fairsale::rush
