#include "core/log/digest.hpp"

#include <isa-l/crc.h>
#include <openssl/evp.h>

#include <algorithm>
#include <utility>

#include "core/domain/invariant.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale {

namespace {

// Fetched once: a lookup by name costs more than the digest of a small block.
const EVP_MD* sha256_method() {
  static EVP_MD* const method = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  FAIRSALE_INVARIANT(method != nullptr, "OpenSSL offers SHA-256");
  return method;
}

Sha256& this_threads_sha() {
  thread_local Sha256 sha;
  return sha;
}

std::span<const std::byte> bytes_of(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

}  // namespace

std::string to_hex(const Digest& d) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string s;
  s.reserve(2 * d.bytes.size());
  for (const std::byte b : d.bytes) {
    s += digits[std::to_integer<unsigned>(b) >> 4];
    s += digits[std::to_integer<unsigned>(b) & 15];
  }
  return s;
}

struct Sha256::Impl {
  EVP_MD_CTX* context = EVP_MD_CTX_new();

  Impl() {
    FAIRSALE_INVARIANT(context != nullptr, "memory for a digest");
    FAIRSALE_INVARIANT(EVP_DigestInit_ex2(context, sha256_method(), nullptr) == 1,
                       "SHA-256 starts");
  }
  ~Impl() { EVP_MD_CTX_free(context); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;
};

Sha256::Sha256() : impl_(std::make_unique<Impl>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::update(std::span<const std::byte> bytes) {
  FAIRSALE_INVARIANT(EVP_DigestUpdate(impl_->context, bytes.data(), bytes.size()) == 1,
                     "SHA-256 takes bytes");
}

Digest Sha256::finish() {
  Digest d;
  FAIRSALE_INVARIANT(
      EVP_DigestFinal_ex(impl_->context, reinterpret_cast<unsigned char*>(d.bytes.data()),
                         nullptr) == 1 &&
          EVP_DigestInit_ex2(impl_->context, nullptr, nullptr) == 1,
      "SHA-256 ends and starts anew");
  return d;
}

Digest sha256(std::span<const std::byte> bytes) {
  Sha256& sha = this_threads_sha();
  sha.update(bytes);
  return sha.finish();
}

std::uint32_t crc32c(std::span<const std::byte> bytes) {
  // The library neither inverts its start value nor its result, takes no const, and counts in int.
  constexpr std::size_t kStep = 1 << 30;
  std::uint32_t crc = 0xffff'ffff;
  while (!bytes.empty()) {
    const std::size_t n = std::min(bytes.size(), kStep);
    auto* data = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(bytes.data()));
    crc = crc32_iscsi(data, static_cast<int>(n), crc);
    bytes = bytes.subspan(n);
  }
  return ~crc;
}

Digest state_digest(const Sale& sale) {
  class Sink : public ByteSink {
   public:
    void write(std::span<const std::byte> bytes) override { sha.update(bytes); }
    Sha256 sha;
  } sink;
  sale.serialize(sink);
  return sink.sha.finish();
}

SkuId sku_id(std::string_view name) { return SkuId{get_be64(sha256(bytes_of(name)).bytes.data())}; }

IdempotencyKey idempotency_key(std::string_view raw) {
  const Digest d = sha256(bytes_of(raw));
  IdempotencyKey key;
  std::memcpy(key.bytes.data(), d.bytes.data(), key.bytes.size());
  return key;
}

}  // namespace fairsale
