// Projections: what reads are answered from. Each follows the stream of decisions and can always
// be rebuilt from the log, so none is ever the truth.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/engine/observer.hpp"
#include "core/log/digest.hpp"

namespace fairsale {

// For every n: a projection that was seeded with state(m), m <= n, and then saw the decisions of
// m+1..n, equals one that was seeded with the empty state and saw those of 1..n. digest() shows it.
//
// Threads as in SaleObserver, unless a projection says otherwise.
class Projection : public SaleObserver {
 public:
  // Stable; with version() it names the form of what digest() covers.
  virtual std::string_view name() const = 0;
  // Grows when the meaning or form of the projection changes.
  virtual std::uint32_t version() const = 0;
  // The position of the SKU's log that it reflects; 0 when it knows nothing of it.
  virtual Seq cursor(SkuId sku) const = 0;
  // SHA-256 over the canonical form of what it knows of the SKU.
  virtual Digest digest(SkuId sku) const = 0;
};

// Collects little-endian numbers and texts for a projection's digest.
class DigestWriter {
 public:
  void number(std::uint64_t v) {
    std::byte raw[8];
    for (auto& b : raw) {
      b = static_cast<std::byte>(v & 0xff);
      v >>= 8;
    }
    sha_.update(raw);
  }
  void text(std::string_view s) {
    number(s.size());
    sha_.update(std::as_bytes(std::span(s.data(), s.size())));
  }
  Digest finish() { return sha_.finish(); }

 private:
  Sha256 sha_;
};

}  // namespace fairsale
