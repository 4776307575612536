#include "api/bodies.hpp"

#include <gtest/gtest.h>

namespace fairsale::test {
namespace {

using api::BodyReader;

constexpr Timestamp kNow{1'700'000'000'000};

std::string error_of(const auto& result) {
  return result ? std::string("no error") : result.error().message;
}

TEST(Bodies, AnAttemptNeedsNothingButMayNameCustomerAndQuantity) {
  BodyReader reader;
  const auto bare = reader.attempt("{}");
  ASSERT_TRUE(bare);
  EXPECT_EQ(bare->quantity, Quantity{1});
  EXPECT_FALSE(bare->customer);
  const auto full = reader.attempt(R"({"customer":"anna","quantity":3})");
  ASSERT_TRUE(full);
  EXPECT_EQ(full->customer->view(), "anna");
  EXPECT_EQ(full->quantity, Quantity{3});
}

TEST(Bodies, ManyDigitsAreRead) {
  BodyReader reader;
  const auto hold = [&](std::string_view seconds) {
    const auto terms =
        reader.terms(R"({"stock":1,"price":{"amount":1,"currency":"EUR"},"hold_seconds":)" +
                         std::string(seconds) + "}",
                     kNow, nullptr);
    return terms ? terms->hold.value : -1;
  };
  EXPECT_EQ(hold("0.446744073709551615777"), 447);
  EXPECT_EQ(hold("0.1000000000000000055511151231257827"), 100);
  EXPECT_EQ(hold("120.00000000000000000000000000000000001"), 120'000);
  EXPECT_EQ(hold("1.25e1"), 12'500);
  EXPECT_EQ(hold("1e999"), -1);
  EXPECT_EQ(hold("1.2.3"), -1);
  EXPECT_EQ(hold("\"1\""), -1);
}

TEST(Bodies, WhatIsWrongIsNamed) {
  BodyReader reader;
  EXPECT_EQ(error_of(reader.attempt(R"({"qty":1})")), "\"qty\" is not a member of this request");
  EXPECT_EQ(error_of(reader.attempt(R"({"quantity":1,"quantity":2})")),
            "\"quantity\" is given twice");
  EXPECT_EQ(error_of(reader.attempt(R"({"quantity":"1"})")),
            "\"quantity\" must be a whole number from 0 to 65535");
  EXPECT_EQ(error_of(reader.attempt(R"({"quantity":65536})")),
            "\"quantity\" must be a whole number from 0 to 65535");
  EXPECT_EQ(error_of(reader.attempt(R"({"quantity":-1})")),
            "\"quantity\" must be a whole number from 0 to 65535");
  EXPECT_EQ(error_of(reader.attempt("")), "a JSON object is required as the body");
  EXPECT_EQ(error_of(reader.attempt("[]")), "the body must be a JSON object");
}

TEST(Bodies, NothingButOneWholeJsonObjectIsTaken) {
  BodyReader reader;
  for (const char* body :
       {"{", "}", "{\"quantity\":1", "{\"quantity\":1}}", "{\"quantity\":1} x", "{\"quantity\":}",
        "{\"quantity\" 1}", "{\"quantity\":1,}", "{quantity:1}", "{\"customer\":\"a\\", "null", "1",
        "\"x\"", "{\"customer\":\"a\nb\"}", "{\"customer\":\"\xff\"}", "{\"customer\":null}",
        "{\"quantity\":1.5}", "{\"quantity\":1e0}", "{\"quantity\":99999999999999999999}"}) {
    EXPECT_FALSE(reader.attempt(body)) << body;
  }
}

TEST(Bodies, CustomersAreVisibleAsciiWithoutQuotes) {
  BodyReader reader;
  EXPECT_TRUE(reader.attempt(R"({"customer":"a+b@c.de:42"})"));
  EXPECT_FALSE(reader.attempt(R"({"customer":""})"));
  EXPECT_FALSE(reader.attempt(R"({"customer":"a b"})"));
  EXPECT_FALSE(reader.attempt(R"({"customer":"a\"b"})"));
  EXPECT_FALSE(reader.attempt(R"({"customer":"\u0000"})"));
  EXPECT_TRUE(reader.attempt(R"({"customer":")" + std::string(64, 'x') + "\"}"));
  EXPECT_FALSE(reader.attempt(R"({"customer":")" + std::string(65, 'x') + "\"}"));
}

TEST(Bodies, TermsHaveSensibleDefaults) {
  BodyReader reader;
  const auto t = reader.terms(
      R"({"stock":10,"price":{"amount":4900,"currency":"EUR"},"hold_seconds":120})", kNow, nullptr);
  ASSERT_TRUE(t) << error_of(t);
  EXPECT_EQ(t->starts_at, kNow);
  EXPECT_EQ(t->ends_at, kNever);
  EXPECT_EQ(t->hold, Duration{120'000});
  EXPECT_EQ(t->limit_per_customer, Quantity{1});
  EXPECT_EQ(t->units_per_purchase, Quantity{1});
  EXPECT_EQ(t->line_limit, 100'000u);
  EXPECT_EQ(t->line_policy, LinePolicy::strict);
}

TEST(Bodies, TermsTakeEveryMember) {
  BodyReader reader;
  const auto t = reader.terms(
      R"({"stock":10,"price":{"currency":"JPY","amount":0},"starts_at":"2026-11-27T08:00:00Z",
          "ends_at":"2026-11-28T08:00:00+01:00","hold_seconds":0.5,"grace_seconds":2,
          "limit_per_customer":4,"units_per_purchase":2,"line_limit":0,
          "line_policy":"skip_if_unfit"})",
      kNow, nullptr);
  ASSERT_TRUE(t) << error_of(t);
  EXPECT_EQ(t->hold, Duration{500});
  EXPECT_EQ(t->ends_at - t->starts_at, Duration{23 * 3600 * 1000});
  EXPECT_EQ(t->line_policy, LinePolicy::skip_if_unfit);
}

TEST(Bodies, AnExistingSaleKeepsItsStart) {
  BodyReader reader;
  Terms existing;
  existing.starts_at = Timestamp{42};
  const auto t = reader.terms(
      R"({"stock":10,"price":{"amount":1,"currency":"EUR"},"hold_seconds":1})", kNow, &existing);
  ASSERT_TRUE(t);
  EXPECT_EQ(t->starts_at, Timestamp{42});
}

TEST(Bodies, TermsThatCannotBeSoldUnderAreExplained) {
  BodyReader reader;
  const auto with = [&](std::string_view more) {
    return error_of(
        reader.terms(R"({"stock":10,"price":{"amount":4900,"currency":"EUR"},"hold_seconds":120,)" +
                         std::string(more) + "}",
                     kNow, nullptr));
  };
  EXPECT_EQ(error_of(reader.terms(R"({"stock":1})", kNow, nullptr)),
            R"("price" is required, like {"amount":4900,"currency":"EUR"} for 49.00 EUR)");
  EXPECT_EQ(with(R"("ends_at":"2020-01-01T00:00:00Z")"),
            "\"ends_at\" must be later than \"starts_at\"");
  EXPECT_EQ(with(R"("starts_at":"tomorrow")"),
            "\"starts_at\" must be an RFC 3339 time like \"2026-11-27T08:00:00Z\"");
  EXPECT_EQ(with(R"("line_policy":"lottery")"),
            "\"line_policy\" must be \"strict\" or \"skip_if_unfit\"");
  EXPECT_EQ(with(R"("units_per_purchase":101)"),
            "\"units_per_purchase\" must be a whole number from 1 to 100");
  EXPECT_EQ(with(R"("grace_seconds":-1)"), "\"grace_seconds\" must be from 0 to 86400 seconds");
  EXPECT_EQ(with(R"("grace_seconds":1e400)"), "\"grace_seconds\" must be a number of seconds");
}

TEST(Bodies, OperatorsSayWhoAndWhy) {
  BodyReader reader;
  EXPECT_EQ(error_of(reader.patch(R"({"action":"pause"})")),
            "\"actor\" and \"reason\" are required: they stay in the sale's log");
  EXPECT_EQ(error_of(reader.patch(R"({"action":"pause","stock":1,"actor":"a","reason":"b"})")),
            "give either \"action\" or \"stock\"");
  EXPECT_EQ(error_of(reader.patch(R"({"action":"explode","actor":"a","reason":"b"})")),
            "\"action\" must be \"pause\", \"resume\" or \"close\"");
  const auto p = reader.patch(R"({"stock":7,"actor":"eve","reason":"two broke"})");
  ASSERT_TRUE(p);
  EXPECT_EQ(p->action, api::PatchBody::Action::stock);
  EXPECT_EQ(p->stock, Quantity{7});
}

TEST(Bodies, ReceivedPaymentsHaveAnAmountFailedOnesNeedNone) {
  BodyReader reader;
  EXPECT_TRUE(reader.payment(R"({"reference":"r","amount":1,"currency":"EUR"})"));
  EXPECT_TRUE(reader.payment(R"({"reference":"r","status":"failed"})"));
  EXPECT_FALSE(reader.payment(R"({"reference":"r"})"));
  EXPECT_FALSE(reader.payment(R"({"amount":1,"currency":"EUR"})"));
  EXPECT_FALSE(reader.payment(R"({"reference":"r","amount":-1,"currency":"EUR"})"));
  EXPECT_FALSE(reader.payment(R"({"reference":"r","amount":1,"currency":"eur"})"));
}

TEST(Bodies, SkuNames) {
  EXPECT_TRUE(api::parse_sku("tour-2027_A.1"));
  EXPECT_FALSE(api::parse_sku(""));
  EXPECT_FALSE(api::parse_sku("a b"));
  EXPECT_FALSE(api::parse_sku("a/b"));
  EXPECT_FALSE(api::parse_sku(std::string(65, 'a')));
}

}  // namespace
}  // namespace fairsale::test
