// How messages look to others. The texts here are what consumers rely on.
#include "projections/outbox/message.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fairsale {
namespace {

MessageRow reserved() {
  return {.position = Seq{17},
          .number = 1,
          .at = Timestamp{1'764'230'400'123},
          .kind = DecisionKind::reserved,
          .quantity = Quantity{2},
          .until = Timestamp{1'764'230'520'123},
          .purchase = Seq{16},
          .customer = *CustomerId::from("ann")};
}

std::string json(std::string_view sku, const MessageRow& m) {
  std::string out;
  append_message_json(out, sku, m);
  return out;
}

TEST(Message, OfAPurchase) {
  EXPECT_EQ(json("demo", reserved()),
            R"({"id":"demo:17:1","type":"reserved","sku":"demo","time":"2025-11-27T08:00:00.123Z",)"
            R"("purchase":"demo:16","customer":"ann","quantity":2,)"
            R"("until":"2025-11-27T08:02:00.123Z"})");
  MessageRow waiting = reserved();
  waiting.kind = DecisionKind::waiting;
  waiting.until = {};
  waiting.place = 3;
  EXPECT_EQ(json("demo", waiting),
            R"({"id":"demo:17:1","type":"waiting","sku":"demo","time":"2025-11-27T08:00:00.123Z",)"
            R"("purchase":"demo:16","customer":"ann","quantity":2,"place":3})");
}

TEST(Message, OfAPayment) {
  MessageRow m = reserved();
  m.kind = DecisionKind::refund_due;
  m.until = {};
  m.reason = Reason::hold_expired;
  m.reference = *PaymentReference::from("pay-1");
  m.amount = {MinorUnits{9800}, Currency{{'E', 'U', 'R'}}};
  EXPECT_EQ(
      json("demo", m),
      R"({"id":"demo:17:1","type":"refund_due","sku":"demo","time":"2025-11-27T08:00:00.123Z",)"
      R"("purchase":"demo:16","customer":"ann","quantity":2,"reason":"hold_expired",)"
      R"("payment":{"reference":"pay-1","amount":9800,"currency":"EUR"}})");
}

TEST(Message, OfTheSaleAsAWhole) {
  const MessageRow m{
      .position = Seq{5}, .at = Timestamp{1'764'230'400'000}, .kind = DecisionKind::sold_out};
  EXPECT_EQ(json("a.b", m),
            R"({"id":"a.b:5:0","type":"sold_out","sku":"a.b","time":"2025-11-27T08:00:00.000Z"})");
  std::string event;
  append_cloud_event(event, "a.b", m);
  EXPECT_EQ(event, R"({"specversion":"1.0","id":"a.b:5:0","source":"/sales/a.b",)"
                   R"("type":"fairsale.sale.sold_out","time":"2025-11-27T08:00:00.000Z",)"
                   R"("datacontenttype":"application/json","data":)" +
                       json("a.b", m) + "}");
}

TEST(Message, AsACloudEvent) {
  std::string event;
  append_cloud_event(event, "demo", reserved());
  EXPECT_EQ(event, R"({"specversion":"1.0","id":"demo:17:1","source":"/sales/demo",)"
                   R"("type":"fairsale.purchase.reserved","time":"2025-11-27T08:00:00.123Z",)"
                   R"("subject":"demo:16","datacontenttype":"application/json","data":)" +
                       json("demo", reserved()) + "}");
}

TEST(Message, OfAHoldThatEndsSoon) {
  const Reminder r{.purchase = Seq{16},
                   .customer = *CustomerId::from("ann"),
                   .quantity = Quantity{2},
                   .at = Timestamp{1'764'230'490'123},
                   .until = Timestamp{1'764'230'520'123}};
  std::string event;
  append_cloud_event(event, "demo", r);
  EXPECT_EQ(event,
            R"({"specversion":"1.0","id":"demo:16:about_to_expire","source":"/sales/demo",)"
            R"("type":"fairsale.purchase.about_to_expire","time":"2025-11-27T08:01:30.123Z",)"
            R"("subject":"demo:16","datacontenttype":"application/json","data":)"
            R"({"id":"demo:16:about_to_expire","type":"about_to_expire","sku":"demo",)"
            R"("time":"2025-11-27T08:01:30.123Z","purchase":"demo:16","customer":"ann",)"
            R"("quantity":2,"until":"2025-11-27T08:02:00.123Z"}})");
  EXPECT_EQ(traceparent("demo", r).substr(0, 36), traceparent("demo", reserved()).substr(0, 36));
  EXPECT_NE(traceparent("demo", r), traceparent("demo", reserved()));
}

TEST(Message, AHoldEndsSoonWhenThirtySecondsOrAThirdOfItAreLeft) {
  EXPECT_EQ(reminder_lead(Duration{600'000}), Duration{30'000});
  EXPECT_EQ(reminder_lead(Duration{90'000}), Duration{30'000});
  EXPECT_EQ(reminder_lead(Duration{30'000}), Duration{10'000});
}

TEST(Message, ATraceIsOfThePurchaseAndASpanOfTheMessage) {
  MessageRow later = reserved();
  later.position = Seq{40};
  later.kind = DecisionKind::expired;
  MessageRow other = reserved();
  other.purchase = Seq{11};
  const std::string first = traceparent("demo", reserved());
  EXPECT_THAT(first, testing::MatchesRegex("00-[0-9a-f]{32}-[0-9a-f]{16}-01"));
  EXPECT_EQ(traceparent("demo", reserved()), first);
  EXPECT_EQ(traceparent("demo", later).substr(0, 36), first.substr(0, 36));
  EXPECT_NE(traceparent("demo", later), first);
  EXPECT_NE(traceparent("demo", other).substr(0, 36), first.substr(0, 36));
}

}  // namespace
}  // namespace fairsale
