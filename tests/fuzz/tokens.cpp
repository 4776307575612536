// Tokens: nothing is let in without a secret. Inputs are whole Authorization headers, real tokens
// that were tampered with, and tokens signed with the right key over any content, as only a shop
// gone mad would.
#include <openssl/hmac.h>

#include "api/auth.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

using namespace api;

namespace {

constexpr std::int64_t kNow = 1'700'000'000;

const Secrets& secrets() {
  static const Secrets s{"operator-secret-0123456789", "shop-secret-0123456789abcd",
                         "customer-key-0123456789abc"};
  return s;
}

Authenticator& authenticator() {
  static Authenticator a(secrets());
  return a;
}

// Signs as other secrets would have it.
Authenticator& stranger() {
  static Authenticator a(
      {"another-operator-secret", "another-shop-secret-01", "another-key-0123456"});
  return a;
}

std::string base64url(std::string_view bytes) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string out;
  unsigned bits = 0;
  int held = 0;
  for (const char c : bytes) {
    bits = bits << 8 | static_cast<unsigned char>(c);
    for (held += 8; held >= 6; held -= 6) out += kDigits[bits >> (held - 6) & 63];
    bits &= 63;
  }
  if (held > 0) out += kDigits[bits << (6 - held) & 63];
  return out;
}

std::string sign(std::string_view content) {
  unsigned char mac[32];
  unsigned size = 0;
  const std::string& key = secrets().customer_key;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(content.data()), content.size(), mac, &size);
  return base64url({reinterpret_cast<const char*>(mac), size});
}

// What follows "Bearer ".
std::string_view token_of(std::string_view header) {
  return header.substr(std::min<std::size_t>(7, header.size()));
}

void judge_header(std::string_view header) {
  const Authentication a = authenticator().authenticate(header, kNow);
  if (a.denied != Denied::none) {
    expect(!detail_of(a.denied).empty(), "a denial says why");
    return;
  }
  const std::string_view token = token_of(header);
  if (a.principal.role == Role::op) {
    return expect(token == secrets().operator_token, "only the operator's token makes an operator");
  }
  if (a.principal.role == Role::shop) {
    return expect(token == secrets().shop_token, "only the shop's token makes a shop");
  }
  expect(is_customer_name(a.principal.customer.view()), "a token names a customer that may be one");
  const std::size_t last = token.rfind('.');
  expect(sign(token.substr(0, last)) == token.substr(last + 1), "a customer's token is signed");
  const std::string name = "ct1." + base64url(a.principal.customer.view()) + ".";
  expect(token.starts_with(name), "a name has one form");
  expect(!a.principal.may_act_for("somebody-else-entirely"), "and is good for that name alone");
  const Authentication later =
      authenticator().authenticate(header, std::numeric_limits<std::int64_t>::max());
  expect(later.denied == Denied::expired, "every token expires");
  expect(stranger().authenticate(header, kNow).denied != Denied::none,
         "a token is good under its own key only");
}

}  // namespace

void judge(std::string_view input) {
  Choices in(input);
  const std::uint8_t form = in.byte() % 3;
  if (form == 0) return judge_header(in.rest());
  if (form == 1) {
    const std::string real = "Bearer " + authenticator().mint("anna", kNow + 60);
    std::string header = real;
    while (!in.rest().empty() && !header.empty()) {
      const std::uint8_t how = in.byte();
      const std::size_t at = in.byte() % header.size();
      switch (how % 4) {
        case 0: header[at] = static_cast<char>(header[at] ^ 1 << (how >> 4 & 7)); break;
        case 1: header.erase(at, 1 + (how >> 4)); break;
        case 2: header.insert(at, 1, static_cast<char>(in.byte())); break;
        default: header[at] = static_cast<char>(in.byte()); break;
      }
    }
    judge_header(header);
    const bool whole = token_of(header) == token_of(real);
    return expect(whole || authenticator().authenticate(header, kNow).denied != Denied::none,
                  "a token that was tampered with is none", header);
  }
  const std::string content = "ct1." + std::string(in.rest());
  judge_header("Bearer " + content + "." + sign(content));
}

std::vector<std::string> seeds() {
  const std::string token = authenticator().mint("anna", kNow + 60);
  const std::string expired = authenticator().mint("anna", kNow);
  std::vector<std::string> out;
  for (const std::string& t : {token, expired, secrets().operator_token, secrets().shop_token}) {
    out.push_back('\0' + ("Bearer " + t));
  }
  out.push_back('\0' + std::string("Basic YWxhZGRpbjpvcGVuc2VzYW1l"));
  out.push_back(std::string("\1\0\x20", 3));
  out.push_back(std::string("\2YW5uYQ.1700000060"));
  out.push_back(std::string("\2.1700000060"));
  out.push_back(std::string("\2YW5uYQ.-1"));
  out.push_back(std::string("\2YW5uYR.1700000060"));
  return out;
}

}  // namespace fairsale::fuzz
