#include "api/auth.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace fairsale::api {
namespace {

const Secrets kSecrets{"operator-secret-0123", "shop-secret-0123456", "customer-key-0123456789"};
constexpr std::int64_t kNow = 1'795'500'000;

class Auth : public ::testing::Test {
 protected:
  Authentication with(const std::string& token, std::int64_t now = kNow) {
    const std::string header = "Bearer " + token;
    return auth_.authenticate(header, now);
  }
  Authenticator auth_{kSecrets};
};

TEST_F(Auth, KnowsTheOperatorAndTheShop) {
  EXPECT_EQ(with(kSecrets.operator_token).denied, Denied::none);
  EXPECT_TRUE(with(kSecrets.operator_token).principal.is_operator());
  EXPECT_TRUE(with(kSecrets.shop_token).principal.is_shop());
  EXPECT_TRUE(with(kSecrets.shop_token).principal.may_act_for("anybody"));
  EXPECT_EQ(auth_.authenticate("bEARER " + kSecrets.shop_token, kNow).denied, Denied::none);
}

TEST_F(Auth, RefusesWrongSecrets) {
  EXPECT_EQ(with(kSecrets.shop_token + "x").denied, Denied::unknown);
  EXPECT_EQ(with(kSecrets.shop_token.substr(1)).denied, Denied::unknown);
  EXPECT_EQ(with(kSecrets.customer_key).denied, Denied::unknown);
  EXPECT_EQ(with("x").denied, Denied::unknown);
}

TEST_F(Auth, RefusesOtherHeaders) {
  EXPECT_EQ(auth_.authenticate({}, kNow).denied, Denied::missing);
  for (const std::string header : {"", "Bearer", "Bearer ", "Basic YTpi",
                                   "Bearer  two-spaces-0123456", "Bearerx", "Bearer a b"}) {
    EXPECT_EQ(auth_.authenticate(header, kNow).denied, Denied::malformed) << header;
  }
}

TEST_F(Auth, HonoursItsOwnCustomerTokens) {
  const std::string token = auth_.mint("alice", kNow + 1);
  const Authentication got = with(token);
  ASSERT_EQ(got.denied, Denied::none);
  EXPECT_EQ(got.principal.role, Role::customer);
  EXPECT_EQ(got.principal.customer.view(), "alice");
  EXPECT_TRUE(got.principal.may_act_for("alice"));
  EXPECT_FALSE(got.principal.may_act_for("bob"));
  EXPECT_FALSE(got.principal.may_act_for(""));
  const std::string longest(64, '~');
  EXPECT_EQ(with(auth_.mint(longest, kNow + 1)).principal.customer.view(), longest);
}

TEST_F(Auth, MintsTheDocumentedForm) {
  // printf 'ct1.YWxpY2U.1795500000' |
  //   openssl dgst -sha256 -hmac customer-key-0123456789 -binary | basenc --base64url
  EXPECT_EQ(auth_.mint("alice", kNow),
            "ct1.YWxpY2U.1795500000.xZek_Cnr64gMtv8v93s5Z0ngeepDPsLld-xJDdz8CuQ");
}

TEST_F(Auth, TokensExpire) {
  const std::string token = auth_.mint("alice", kNow);
  EXPECT_EQ(with(token, kNow - 1).denied, Denied::none);
  EXPECT_EQ(with(token, kNow).denied, Denied::expired);
  EXPECT_EQ(with(token, kNow + 1'000'000).denied, Denied::expired);
}

TEST_F(Auth, EveryChangedOrMissingCharacterIsNoticed) {
  const std::string token = auth_.mint("alice", kNow + 60);
  for (std::size_t i = 0; i < token.size(); ++i) {
    for (const char c : {'A', 'b', '0', '.', '-', '=', '/'}) {
      if (token[i] == c) continue;
      std::string forged = token;
      forged[i] = c;
      EXPECT_NE(with(forged).denied, Denied::none) << forged;
    }
    EXPECT_NE(with(token.substr(0, i)).denied, Denied::none) << i;
    EXPECT_NE(with(token.substr(0, i) + token.substr(i + 1)).denied, Denied::none) << i;
  }
  EXPECT_NE(with(token + "A").denied, Denied::none);
  EXPECT_NE(with(token + "=").denied, Denied::none) << "padding";
}

TEST_F(Auth, TheLastCharacterHasNoSpareBits) {
  // 32 bytes leave two bits of the last character unused; were they ignored, four texts would be
  // one token.
  const std::string token = auth_.mint("alice", kNow + 60);
  int good = 0;
  for (const char c :
       std::string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")) {
    std::string other = token;
    other.back() = c;
    good += with(other).denied == Denied::none ? 1 : 0;
  }
  EXPECT_EQ(good, 1);
}

TEST_F(Auth, AnotherKeysTokensAreForgeries) {
  Secrets others = kSecrets;
  others.customer_key = "customer-key-of-another";
  EXPECT_EQ(with(Authenticator(others).mint("alice", kNow + 60)).denied, Denied::unknown);
}

TEST_F(Auth, ATokenCannotBeRewrittenForAnotherCustomerOrTime) {
  const std::string alice = auth_.mint("alice", kNow + 60);
  const std::string mallory = auth_.mint("mallory", kNow + 60);
  const std::string signature = alice.substr(alice.rfind('.'));
  EXPECT_EQ(with(mallory.substr(0, mallory.rfind('.')) + signature).denied, Denied::unknown);
  EXPECT_EQ(with("ct1.YWxpY2U.9999999999" + signature).denied, Denied::unknown);
}

TEST_F(Auth, WorksAgainAfterAFailure) {
  const std::string token = auth_.mint("alice", kNow + 60);
  for (int i = 0; i < 3; ++i) {
    EXPECT_NE(with("ct1..." + token).denied, Denied::none);
    EXPECT_EQ(with(token).denied, Denied::none);
    EXPECT_EQ(with(kSecrets.shop_token).denied, Denied::none);
  }
}

TEST(CustomerNames, AreVisibleAscii) {
  EXPECT_TRUE(is_customer_name("alice@example.com"));
  EXPECT_TRUE(is_customer_name(std::string(64, 'x')));
  for (const std::string bad : {"", "a b", "a\"b", "a\\b", "a\n", "gr\xc3\xbcn", "\x7f"}) {
    EXPECT_FALSE(is_customer_name(bad)) << bad;
  }
  EXPECT_FALSE(is_customer_name(std::string(65, 'x')));
}

class SecretFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fairsale-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::string file(const std::string& text, mode_t mode = 0600) {
    const std::string path = (dir_ / "secret").string();
    std::ofstream(path, std::ios::binary) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }
  std::filesystem::path dir_;
};

TEST_F(SecretFiles, AreReadAndTrimmed) {
  const auto secret = load_secret({"shop-token", file("0123456789abcdef\r\n\n"), {}});
  ASSERT_TRUE(secret) << secret.error().message;
  EXPECT_EQ(*secret, "0123456789abcdef");
  EXPECT_EQ(*load_secret({"shop-token", {}, "fedcba9876543210"}), "fedcba9876543210");
  EXPECT_TRUE(load_secret({"shop-token", file("0123456789abcdef", 0640), {}}));
}

TEST_F(SecretFiles, MustBePrivate) {
  for (const mode_t mode : {0644U, 0604U, 0602U}) {
    const auto secret = load_secret({"shop-token", file("0123456789abcdef", mode), {}});
    ASSERT_FALSE(secret);
    EXPECT_NE(secret.error().message.find("chmod o-rwx"), std::string::npos);
  }
}

TEST_F(SecretFiles, MustHoldAUsableSecret) {
  const auto message = [](const SecretSource& source) {
    const auto secret = load_secret(source);
    return secret ? std::string("accepted") : secret.error().message;
  };
  EXPECT_NE(message({"shop-token", file("too-short\n"), {}}).find("has 9 bytes"),
            std::string::npos);
  EXPECT_NE(message({"shop-token", file(std::string(5000, 'x')), {}}).find("bytes; it must"),
            std::string::npos);
  EXPECT_NE(message({"shop-token", file("two words in a secret"), {}}).find("blanks"),
            std::string::npos);
  EXPECT_NE(message({"shop-token", (dir_ / "absent").string(), {}}).find("No such file"),
            std::string::npos);
  EXPECT_NE(message({"shop-token", {}, {}}).find("give --shop-token-file or FAIRSALE_SHOP_TOKEN"),
            std::string::npos);
}

TEST(SecretsTogether, MustDiffer) {
  EXPECT_TRUE(check(kSecrets));
  Secrets same = kSecrets;
  same.shop_token = same.operator_token;
  EXPECT_FALSE(check(same));
  Secrets confusing = kSecrets;
  confusing.shop_token = "ct1.looks-like-a-customer";
  EXPECT_FALSE(check(confusing));
}

}  // namespace
}  // namespace fairsale::api
