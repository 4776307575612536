// The requests that a crowd makes, as bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tools/rush/claim.hpp"
#include "tools/rush/record.hpp"

namespace fairsale::rush {

class Requests {
 public:
  // `token` is the shop's: it acts for every customer.
  Requests(const RunInfo&, std::string_view authority, std::string_view token);

  // The same attempt always gives the same bytes.
  void purchase(std::uint32_t attempt, const Claim&, std::string& out) const;
  // The payment reference is made from the attempt, so that a repeat is recognised.
  void payment(std::uint32_t attempt, const Claim&, std::int64_t amount, std::string_view currency,
               std::string& out) const;
  void cancel(const Claim&, std::string& out) const;
  // min_seq 0: whatever the server shows.
  void read_purchase(const Claim&, std::uint64_t min_seq, std::string& out) const;
  void read_sale(std::uint64_t min_seq, std::string& out) const;
  void list_purchases(std::uint32_t customer, std::string& out) const;
  // Any other request with a JSON body, with a token of its own.
  static std::string put(std::string_view authority, std::string_view token, std::string_view path,
                         std::string_view body);

 private:
  void get(std::string_view path, std::uint64_t min_seq, std::string& out) const;

  RunInfo info_;
  std::string post_purchase_;  // up to the value of Idempotency-Key
  std::string common_;         // the header lines that every request carries
};

}  // namespace fairsale::rush
