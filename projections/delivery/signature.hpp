// Signatures by Standard Webhooks 1.0.0 (symmetric, "v1").
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fairsale {

// A new secret of 32 random bytes: "whsec_" and base64. Empty when there is no randomness to be
// had.
std::string new_webhook_secret();

// The value of the header webhook-signature: "v1," and the base64 of HMAC-SHA256(secret,
// "id.timestamp.body") for each secret, in their order, with spaces between. The timestamp is in
// seconds. Secrets are as new_webhook_secret() makes them.
std::string webhook_signature(std::span<const std::string> secrets, std::string_view id,
                              std::int64_t timestamp, std::string_view body);

// Seconds that a webhook's timestamp may be off, either way.
inline constexpr std::int64_t kWebhookTolerance = 300;

// Whether `secret` is "whsec_" and the base64 of 24 to 64 bytes.
bool is_webhook_secret(std::string_view secret);

enum class SignatureFault : std::uint8_t {
  none = 0,
  missing,   // one of the three headers
  outdated,  // the timestamp is no number of seconds, or too far from now
  wrong,     // no signature fits
};
std::string_view detail_of(SignatureFault);

// Takes the values of webhook-id, webhook-timestamp and webhook-signature; an absent one is empty.
// Of several signatures ("v1,A v1,B") one has to fit; they are compared in constant time.
SignatureFault check_signature(const std::string& secret, std::string_view id,
                               std::string_view timestamp, std::string_view signature,
                               std::string_view body, std::int64_t now_seconds);

}  // namespace fairsale
