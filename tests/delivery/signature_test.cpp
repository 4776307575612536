#include "projections/delivery/signature.hpp"

#include <gtest/gtest.h>

#include <array>

namespace fairsale {
namespace {

constexpr std::string_view kId = "msg_p5jXN8AQM9LWM0D4loKWxJek";
constexpr std::int64_t kTimestamp = 1614265330;
constexpr std::string_view kBody = R"({"test": 2432232314})";

// The example of the specification.
TEST(WebhookSignature, IsThatOfTheSpecification) {
  const std::array secrets{std::string("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")};
  EXPECT_EQ(webhook_signature(secrets, kId, kTimestamp, kBody),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
}

TEST(WebhookSignature, TwoSecretsSignSideBySide) {
  const std::array both{new_webhook_secret(), new_webhook_secret()};
  const std::array first{both[0]};
  const std::array second{both[1]};
  const auto sign = [](std::span<const std::string> secrets) {
    return webhook_signature(secrets, kId, kTimestamp, kBody);
  };
  EXPECT_EQ(sign(both), sign(first) + " " + sign(second));
  EXPECT_NE(sign(first), sign(second));
}

TEST(WebhookSignature, CoversIdTimeAndBody) {
  const std::array secret{new_webhook_secret()};
  const auto signature = webhook_signature(secret, kId, kTimestamp, kBody);
  EXPECT_NE(signature, webhook_signature(secret, "other", kTimestamp, kBody));
  EXPECT_NE(signature, webhook_signature(secret, kId, kTimestamp + 1, kBody));
  EXPECT_NE(signature, webhook_signature(secret, kId, kTimestamp, "{}"));
}

TEST(WebhookSecret, Has32BytesAndIsNewEachTime) {
  const std::string secret = new_webhook_secret();
  EXPECT_TRUE(secret.starts_with("whsec_"));
  EXPECT_EQ(secret.size(), 6U + 44U);
  EXPECT_NE(secret, new_webhook_secret());
}

}  // namespace
}  // namespace fairsale
