#include "projections/delivery/signature.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <vector>

#include "core/domain/invariant.hpp"

namespace fairsale {

namespace {

constexpr std::string_view kPrefix = "whsec_";
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kMaxIdBytes = 256;

std::string base64(std::span<const unsigned char> bytes) {
  std::string out((bytes.size() + 2) / 3 * 4 + 1, '\0');  // and a zero byte, which OpenSSL adds
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), bytes.data(),
                                static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(n));
  return out;
}

std::vector<unsigned char> key_of(std::string_view secret) {
  FAIRSALE_INVARIANT(secret.starts_with(kPrefix), "a webhook's secret begins with whsec_");
  secret.remove_prefix(kPrefix.size());
  std::vector<unsigned char> key(secret.size() / 4 * 3);
  const int n = EVP_DecodeBlock(key.data(), reinterpret_cast<const unsigned char*>(secret.data()),
                                static_cast<int>(secret.size()));
  FAIRSALE_INVARIANT(n >= 0, "a webhook's secret is base64");
  // Padding counts as zero bytes.
  const std::size_t padding = secret.size() - (secret.find_last_not_of('=') + 1);
  key.resize(static_cast<std::size_t>(n) - padding);
  return key;
}

}  // namespace

std::string new_webhook_secret() {
  std::array<unsigned char, kSecretBytes> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) return {};
  std::string secret = std::string(kPrefix) + base64(bytes);
  OPENSSL_cleanse(bytes.data(), bytes.size());
  return secret;
}

std::string webhook_signature(std::span<const std::string> secrets, std::string_view id,
                              std::int64_t timestamp, std::string_view body) {
  const std::string content = fmt::format("{}.{}.{}", id, timestamp, body);
  std::string out;
  for (const std::string& secret : secrets) {
    std::vector<unsigned char> key = key_of(secret);
    std::array<unsigned char, 32> mac{};
    unsigned int size = 0;
    const auto* made = HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
                            reinterpret_cast<const unsigned char*>(content.data()), content.size(),
                            mac.data(), &size);
    FAIRSALE_INVARIANT(made != nullptr && size == mac.size(), "HMAC-SHA256 has 32 bytes");
    OPENSSL_cleanse(key.data(), key.size());
    if (!out.empty()) out += ' ';
    out += "v1," + base64(mac);
  }
  return out;
}

bool is_webhook_secret(std::string_view secret) {
  if (!secret.starts_with(kPrefix)) return false;
  secret.remove_prefix(kPrefix.size());
  if (secret.size() % 4 != 0 || secret.size() < 32 || secret.size() > 88) return false;
  const std::size_t end = secret.find_last_not_of('=') + 1;
  if (secret.size() - end > 2) return false;
  return std::all_of(secret.begin(), secret.begin() + static_cast<std::ptrdiff_t>(end), [](char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
           c == '/';
  });
}

std::string_view detail_of(SignatureFault f) {
  switch (f) {
    case SignatureFault::none: return "";
    case SignatureFault::missing:
      return "Sign by Standard Webhooks: webhook-id, webhook-timestamp and webhook-signature.";
    case SignatureFault::outdated:
      return "webhook-timestamp must be the present time in seconds, give or take five minutes.";
    case SignatureFault::wrong: return "No signature in webhook-signature fits.";
  }
  return "";
}

SignatureFault check_signature(const std::string& secret, std::string_view id,
                               std::string_view timestamp, std::string_view signature,
                               std::string_view body, std::int64_t now_seconds) {
  if (id.empty() || id.size() > kMaxIdBytes || timestamp.empty() || signature.empty()) {
    return SignatureFault::missing;
  }
  std::int64_t at = 0;
  const auto [end, error] =
      std::from_chars(timestamp.data(), timestamp.data() + timestamp.size(), at);
  // Only one spelling of a number is signed.
  if (error != std::errc{} || end != timestamp.data() + timestamp.size() || at < 0 ||
      std::to_string(at) != timestamp) {
    return SignatureFault::outdated;
  }
  if (at < now_seconds - kWebhookTolerance || at > now_seconds + kWebhookTolerance) {
    return SignatureFault::outdated;
  }
  const std::string right = webhook_signature(std::span(&secret, 1), id, at, body);
  bool fits = false;
  while (!signature.empty()) {
    const std::size_t space = std::min(signature.find(' '), signature.size());
    const std::string_view one = signature.substr(0, space);
    if (one.size() == right.size() && CRYPTO_memcmp(one.data(), right.data(), one.size()) == 0) {
      fits = true;
    }
    signature.remove_prefix(std::min(space + 1, signature.size()));
  }
  return fits ? SignatureFault::none : SignatureFault::wrong;
}

}  // namespace fairsale
