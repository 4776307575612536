// SHA-256 and CRC32C, by OpenSSL and ISA-L.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/domain/sale.hpp"
#include "core/domain/types.hpp"

namespace fairsale {

struct Digest {
  std::array<std::byte, 32> bytes{};
  auto operator<=>(const Digest&) const = default;
};

// 64 lower-case hexadecimal digits.
std::string to_hex(const Digest&);

// An incremental SHA-256. Reusable: finish() starts anew. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void update(std::span<const std::byte>);
  Digest finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

Digest sha256(std::span<const std::byte>);

std::uint32_t crc32c(std::span<const std::byte>);

// The digest of a sale's canonical form.
Digest state_digest(const Sale&);

// The id under which a SKU's log is kept: the first 8 bytes, big-endian, of SHA-256(name).
SkuId sku_id(std::string_view name);

// The first 16 bytes of SHA-256(the Idempotency-Key as sent).
IdempotencyKey idempotency_key(std::string_view raw);

}  // namespace fairsale
