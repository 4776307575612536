// Requests rendered once and patched per use: the bytes are a protocol's own, the numbers in them
// are replaced in place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fairsale::bench {

// What one request is about. The SKU's number follows from the customer's, so that a repeat of a
// request meets the sale of the first one.
struct Numbers {
  std::uint64_t customer = 0;
  std::uint64_t key = 0;
  std::uint64_t sku = 0;
};

// A request with places for numbers: each run of '@' is the customer's number, of '~' the key's,
// of '#' the SKU's, in decimal, with leading zeros, cut to the run's length.
class RequestTemplate {
 public:
  explicit RequestTemplate(std::string text);

  std::size_t size() const { return text_.size(); }

  // Writes the request, size() bytes, to `out`; returns the end.
  char* render(const Numbers&, char* out) const;

 private:
  struct Field {
    std::size_t begin;
    std::size_t end;
    std::uint64_t Numbers::*number;
  };

  std::string text_;
  std::vector<Field> fields_;
};

}  // namespace fairsale::bench
