#include "api/auth.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <initializer_list>
#include <utility>

#include <fmt/format.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include "core/domain/invariant.hpp"

namespace fairsale::api {

namespace {

using Hash = std::array<unsigned char, 32>;

constexpr char kBase64Url[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr std::size_t kSignatureChars = 43;  // 32 bytes, unpadded

void append_base64url(std::string& out, const unsigned char* bytes, std::size_t size) {
  std::uint32_t bits = 0;
  int held = 0;
  for (std::size_t i = 0; i < size; ++i) {
    bits = bits << 8 | bytes[i];
    for (held += 8; held >= 6; held -= 6) out += kBase64Url[bits >> (held - 6) & 63];
  }
  if (held > 0) out += kBase64Url[bits << (6 - held) & 63];
}

int base64url_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '-') return 62;
  if (c == '_') return 63;
  return -1;
}

// Strict: no padding, no other alphabet, no stray bits, so that a text has one encoding only.
// Gives the number of bytes, or nothing; `out` has room for `capacity`.
std::optional<std::size_t> decode_base64url(std::string_view text, unsigned char* out,
                                            std::size_t capacity) {
  std::uint32_t bits = 0;
  int held = 0;
  std::size_t n = 0;
  for (const char c : text) {
    const int value = base64url_value(c);
    if (value < 0) return std::nullopt;
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    if (n == capacity) return std::nullopt;
    out[n++] = static_cast<unsigned char>(bits >> held & 0xff);
  }
  if (held == 6 || (bits & ((1U << held) - 1)) != 0) return std::nullopt;
  return n;
}

bool visible(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](char c) { return c > ' ' && c < '\x7f'; });
}

// Reads at most one byte more than a secret may have.
Result<std::string> read_secret_file(const SecretSource& source) {
  const auto trouble = [&](Fault fault, std::string_view what) {
    return fail(fault, fmt::format("{}-file: {}: {}", source.setting, source.file, what));
  };
  const int fd = ::open(source.file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return trouble(errno == ENOENT ? Fault::not_found : Fault::io, std::strerror(errno));
  struct Closer {
    int fd;
    ~Closer() { ::close(fd); }
  } closer{fd};
  struct stat info {};
  if (::fstat(fd, &info) != 0) return trouble(Fault::io, std::strerror(errno));
  if ((info.st_mode & S_IROTH) != 0 || (info.st_mode & S_IWOTH) != 0) {
    return trouble(Fault::invalid, fmt::format("everybody on this machine may read or write it; "
                                               "run: chmod o-rwx {}",
                                               source.file));
  }
  std::string text(kMaxSecretBytes + 2, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t n = ::read(fd, text.data() + size, text.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return trouble(Fault::io, std::strerror(errno));
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  text.resize(size);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ' ||
                           text.back() == '\t')) {
    text.pop_back();
  }
  return text;
}

}  // namespace

Result<std::string> load_secret(const SecretSource& source, std::size_t least) {
  std::string variable = "FAIRSALE_";
  for (const char c : source.setting) {
    variable += c == '-' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  }
  std::string secret = source.value;
  std::string from = variable;
  if (!source.file.empty()) {
    auto text = read_secret_file(source);
    if (!text) return text;
    secret = std::move(*text);
    from = source.file;
  } else if (source.value.empty()) {
    return fail(Fault::invalid,
                fmt::format("{0} is not set; give --{0}-file or {1}", source.setting, variable));
  }
  if (secret.size() < least || secret.size() > kMaxSecretBytes) {
    return fail(Fault::invalid,
                fmt::format("{} from {} has {} bytes; it must have {} to {} (try: openssl rand "
                            "-base64 32)",
                            source.setting, from, secret.size(), least, kMaxSecretBytes));
  }
  if (!visible(secret)) {
    return fail(Fault::invalid, fmt::format("{} from {} holds blanks, control characters or bytes "
                                            "beyond ASCII, which no header can carry",
                                            source.setting, from));
  }
  return secret;
}

Result<void> check(const Secrets& s) {
  if (s.operator_token == s.shop_token || s.operator_token == s.customer_key ||
      s.shop_token == s.customer_key) {
    return fail(Fault::invalid,
                "operator-token, shop-token and customer-key must differ from each other");
  }
  for (const auto* token : {&s.operator_token, &s.shop_token}) {
    if (token->starts_with(kCustomerTokenPrefix)) {
      return fail(Fault::invalid, fmt::format("operator-token and shop-token must not begin with "
                                              "'{}', which marks customer tokens",
                                              kCustomerTokenPrefix));
    }
  }
  return {};
}

bool is_customer_name(std::string_view name) {
  return !name.empty() && name.size() <= CustomerId::capacity && visible(name) &&
         name.find_first_of("\"\\") == std::string_view::npos;
}

std::string_view detail_of(Denied denied) {
  switch (denied) {
    case Denied::none: return "";
    case Denied::missing: return "Send an Authorization: Bearer header with a token.";
    case Denied::malformed: return "The Authorization header must be: Bearer, one space, a token.";
    case Denied::unknown: return "The token is not valid here.";
    case Denied::expired: return "The token has expired; ask the shop for a new one.";
  }
  return "";
}

// Both contexts are made once and started anew for each use: fetching algorithms and keying the MAC
// cost more than hashing a token does.
struct Authenticator::Impl {
  EVP_MD* sha256 = nullptr;
  EVP_MD_CTX* digest = nullptr;
  EVP_MAC_CTX* mac = nullptr;
  Hash operator_hash{};
  Hash shop_hash{};

  explicit Impl(const Secrets& secrets) {
    sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    digest = EVP_MD_CTX_new();
    EVP_MAC* const hmac = EVP_MAC_fetch(nullptr, "HMAC", nullptr);
    mac = EVP_MAC_CTX_new(hmac);
    EVP_MAC_free(hmac);
    char name[] = "SHA256";
    const OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
        OSSL_PARAM_construct_end()};
    const auto* key = reinterpret_cast<const unsigned char*>(secrets.customer_key.data());
    FAIRSALE_INVARIANT(sha256 != nullptr && digest != nullptr && mac != nullptr &&
                           EVP_MAC_init(mac, key, secrets.customer_key.size(), parameters) == 1,
                       "OpenSSL offers SHA-256 and HMAC");
    operator_hash = hash(secrets.operator_token);
    shop_hash = hash(secrets.shop_token);
  }
  ~Impl() {
    EVP_MAC_CTX_free(mac);
    EVP_MD_CTX_free(digest);
    EVP_MD_free(sha256);
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Hash hash(std::string_view text) {
    Hash out;
    FAIRSALE_INVARIANT(EVP_DigestInit_ex2(digest, sha256, nullptr) == 1 &&
                           EVP_DigestUpdate(digest, text.data(), text.size()) == 1 &&
                           EVP_DigestFinal_ex(digest, out.data(), nullptr) == 1,
                       "SHA-256 does not fail");
    return out;
  }

  Hash sign(std::string_view text) {
    Hash out;
    std::size_t size = 0;
    FAIRSALE_INVARIANT(
        EVP_MAC_init(mac, nullptr, 0, nullptr) == 1 &&
            EVP_MAC_update(mac, reinterpret_cast<const unsigned char*>(text.data()), text.size()) ==
                1 &&
            EVP_MAC_final(mac, out.data(), &size, out.size()) == 1 && size == out.size(),
        "HMAC does not fail");
    return out;
  }

  Authentication customer(std::string_view token, std::int64_t now) {
    // Name, expiry and signature: three parts after the prefix.
    const std::size_t last = token.rfind('.');  // the prefix has one at the least
    if (last < kCustomerTokenPrefix.size()) return {Denied::malformed, {}};
    const std::string_view name_and_expiry =
        token.substr(0, last).substr(kCustomerTokenPrefix.size());
    const std::string_view signature = token.substr(last + 1);
    Hash given;
    if (signature.size() != kSignatureChars) return {Denied::malformed, {}};
    if (decode_base64url(signature, given.data(), given.size()) != given.size()) {
      return {Denied::malformed, {}};
    }
    const Hash right = sign(token.substr(0, last));
    if (CRYPTO_memcmp(given.data(), right.data(), right.size()) != 0) return {Denied::unknown, {}};

    const std::size_t dot = name_and_expiry.find('.');
    if (dot == std::string_view::npos) return {Denied::malformed, {}};
    unsigned char name[CustomerId::capacity];
    const auto size = decode_base64url(name_and_expiry.substr(0, dot), name, sizeof name);
    if (!size) return {Denied::malformed, {}};
    const std::string_view customer(reinterpret_cast<const char*>(name), *size);
    if (!is_customer_name(customer)) return {Denied::malformed, {}};
    const std::string_view digits = name_and_expiry.substr(dot + 1);
    std::int64_t expires = 0;
    const auto [end, error] =
        std::from_chars(digits.data(), digits.data() + digits.size(), expires);
    if (error != std::errc{} || end != digits.data() + digits.size() || expires < 0) {
      return {Denied::malformed, {}};
    }
    if (now >= expires) return {Denied::expired, {}};
    Authentication ok;
    ok.principal.role = Role::customer;
    ok.principal.customer = *CustomerId::from(customer);
    return ok;
  }

  Authentication secret(std::string_view token) {
    const Hash given = hash(token);
    const bool is_operator = CRYPTO_memcmp(given.data(), operator_hash.data(), given.size()) == 0;
    const bool is_shop = CRYPTO_memcmp(given.data(), shop_hash.data(), given.size()) == 0;
    Authentication ok;
    if (is_operator) {
      ok.principal.role = Role::op;
    } else if (is_shop) {
      ok.principal.role = Role::shop;
    } else {
      ok.denied = Denied::unknown;
    }
    return ok;
  }
};

Authenticator::Authenticator(const Secrets& secrets) : impl_(std::make_unique<Impl>(secrets)) {}
Authenticator::~Authenticator() = default;
Authenticator::Authenticator(Authenticator&&) noexcept = default;
Authenticator& Authenticator::operator=(Authenticator&&) noexcept = default;

Authentication Authenticator::authenticate(std::string_view authorization, std::int64_t now) {
  if (authorization.data() == nullptr) return {Denied::missing, {}};
  constexpr std::string_view kScheme = "bearer";
  if (authorization.size() <= kScheme.size() + 1) return {Denied::malformed, {}};
  for (std::size_t i = 0; i < kScheme.size(); ++i) {
    const char c = authorization[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != kScheme[i]) {
      return {Denied::malformed, {}};
    }
  }
  if (authorization[kScheme.size()] != ' ') return {Denied::malformed, {}};
  const std::string_view token = authorization.substr(kScheme.size() + 1);
  if (!visible(token)) return {Denied::malformed, {}};
  return token.starts_with(kCustomerTokenPrefix) ? impl_->customer(token, now)
                                                 : impl_->secret(token);
}

std::string Authenticator::mint(std::string_view customer, std::int64_t expires_at_seconds) {
  FAIRSALE_INVARIANT(is_customer_name(customer), "tokens are minted for checked names");
  std::string token(kCustomerTokenPrefix);
  append_base64url(token, reinterpret_cast<const unsigned char*>(customer.data()), customer.size());
  token += '.';
  const fmt::format_int expiry(expires_at_seconds);
  token.append(expiry.data(), expiry.size());
  const Hash signature = impl_->sign(token);
  token += '.';
  append_base64url(token, signature.data(), signature.size());
  return token;
}

}  // namespace fairsale::api
