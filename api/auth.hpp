// Who is asking: opaque secrets for the operator and the shop, signed and expiring tokens for
// customers.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "core/domain/types.hpp"
#include "core/log/result.hpp"

namespace fairsale::api {

inline constexpr std::size_t kMinSecretBytes = 16;
inline constexpr std::size_t kMaxSecretBytes = 4096;
inline constexpr std::string_view kCustomerTokenPrefix = "ct1.";

struct Secrets {
  std::string operator_token;
  std::string shop_token;
  std::string customer_key;    // signs customer tokens
  std::string payment_secret;  // signs callbacks of payments; empty: none are taken
};

// Where a secret comes from: a file wins over a value. `setting` names it in messages
// ("operator-token").
struct SecretSource {
  std::string_view setting;
  std::string file;
  std::string value;
};

// Fails when neither is given, when others may read the file, when it is shorter than `least` bytes
// or holds anything but visible ASCII. White space at the end of a file is cut off.
Result<std::string> load_secret(const SecretSource&, std::size_t least = kMinSecretBytes);

// Fails when two secrets are the same or one could be taken for a customer token.
Result<void> check(const Secrets&);

// A name a customer may have: visible ASCII except '"' and '\', 1 to 64 bytes.
bool is_customer_name(std::string_view);

struct Principal {
  Role role = Role::customer;
  CustomerId customer;  // of a customer token; empty otherwise

  bool is_operator() const { return role == Role::op; }
  bool is_shop() const { return role == Role::shop; }
  // Operator and shop may act for anybody, a customer only for itself.
  bool may_act_for(std::string_view name) const {
    return role != Role::customer || customer.view() == name;
  }
};

enum class Denied : std::uint8_t {
  none = 0,
  missing,    // no Authorization header
  malformed,  // not "Bearer <token>", or a customer token that cannot be read
  unknown,    // a wrong secret, or a signature that does not fit
  expired,
};
std::string_view detail_of(Denied);

struct Authentication {
  Denied denied = Denied::none;
  Principal principal;  // valid when not denied
};

// Checks and mints tokens. Secrets are compared by their digests in constant time, and a token's
// signature is checked before anything else in it is believed. One for each thread (it holds
// hash contexts); making one is cheap.
class Authenticator {
 public:
  explicit Authenticator(const Secrets&);
  ~Authenticator();
  Authenticator(Authenticator&&) noexcept;
  Authenticator& operator=(Authenticator&&) noexcept;

  // `authorization` is the header's value (data() == nullptr: not sent); `now_seconds` is since
  // the Unix epoch. A token is good before its expiry, not at it.
  Authentication authenticate(std::string_view authorization, std::int64_t now_seconds);

  // ct1.<base64url(customer)>.<expiry>.<base64url(HMAC-SHA256(key, everything before))>
  // `customer` must satisfy is_customer_name().
  std::string mint(std::string_view customer, std::int64_t expires_at_seconds);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fairsale::api
