#include "projections/delivery/nats.hpp"

#include <gtest/gtest.h>

namespace fairsale {
namespace {

MessageRow of(DecisionKind kind) { return {.position = Seq{2}, .kind = kind}; }

TEST(NatsSubject, OrdersAreWorkAndAllElseIsTold) {
  EXPECT_EQ(nats_subject("demo", of(DecisionKind::ordered)), "fairsale.orders.demo");
  EXPECT_EQ(nats_subject("demo", of(DecisionKind::refund_due)), "fairsale.orders.demo");
  EXPECT_EQ(nats_subject("demo", of(DecisionKind::refunded)),
            "fairsale.notifications.demo.refunded");
  EXPECT_EQ(nats_subject("demo", of(DecisionKind::sold_out)),
            "fairsale.notifications.demo.sold_out");
  EXPECT_EQ(nats_subject("a.b", Reminder{}), "fairsale.notifications.a%2Eb.about_to_expire");
}

TEST(NatsSubject, ASkuIsOneTokenAndDifferentOnesAreDifferent) {
  EXPECT_EQ(nats_token("A-b_9"), "A-b_9");
  EXPECT_EQ(nats_token("a.b"), "a%2Eb");
  EXPECT_EQ(nats_token(".."), "%2E%2E");
  EXPECT_EQ(nats_token("*> \t%"), "%2A%3E%20%09%25");
}

// Nothing listens there.
TEST(NatsConsumer, WithoutAServerNothingIsTaken) {
  const auto consumer = nats_consumer({.url = "nats://127.0.0.1:1"});
  const MessageRow m = of(DecisionKind::ordered);
  const auto taken = consumer->take({SkuId{1}, "demo", {&m, 1}});
  EXPECT_EQ(taken.messages, 0U);
  ASSERT_TRUE(taken.trouble);
  EXPECT_NE(taken.trouble->message.find("cannot connect"), std::string::npos);
}

}  // namespace
}  // namespace fairsale
