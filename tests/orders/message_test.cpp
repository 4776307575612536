#include "tools/orders/message.hpp"

#include <gtest/gtest.h>

#include "tools/orders/event_stream.hpp"

namespace fairsale::orders {
namespace {

constexpr std::string_view kOrdered =
    R"({"id":"demo:17:0","type":"ordered","sku":"demo","time":"2026-11-24T06:00:00.000Z",)"
    R"("purchase":"demo:9","customer":"alice","quantity":2,)"
    R"("payment":{"reference":"pay-1","amount":9800,"currency":"EUR"}})";

std::string with(std::string text, std::string_view from, std::string_view to) {
  text.replace(text.find(from), from.size(), to);
  return text;
}

TEST(OrderMessages, AnOrderAndARefundDueOpenCasesAndOthersNone) {
  const auto c = read_message(kOrdered);
  ASSERT_TRUE(c && *c);
  EXPECT_EQ((*c)->state, State::placed);
  EXPECT_EQ((*c)->purchase, "demo:9");
  EXPECT_EQ((*c)->amount, 9800);
  const auto refund = read_message(
      with(std::string(kOrdered), "\"ordered\"", R"("refund_due","reason":"already_paid")"));
  ASSERT_TRUE(refund && *refund);
  EXPECT_EQ((*refund)->state, State::refund_due);
  EXPECT_EQ((*refund)->why, "already_paid");
  const auto other = read_message(with(std::string(kOrdered), "\"ordered\"", "\"offered\""));
  ASSERT_TRUE(other);
  EXPECT_FALSE(*other);
  const auto event =
      read_cloud_event(R"({"specversion":"1.0","data":)" + std::string(kOrdered) + "}");
  ASSERT_TRUE(event && *event);
  EXPECT_EQ(**event, **c);
}

TEST(OrderMessages, WhatIsNoMessageIsToldApart) {
  const std::string good(kOrdered);
  for (const std::string& bad :
       {std::string(), std::string("{"), std::string("[]"), std::string("{}"),
        with(good, "\"pay-1\"", "\"\""), with(good, "9800", "-1"), with(good, "9800", "1.5"),
        with(good, "\"demo:9\"", "\"demo/9\""), with(good, "\"demo:9\"", "17"),
        with(good, "\"EUR\"", "\"EURO\""), with(good, "\"demo:17:0\"", "\"a b\""),
        with(good, "\"payment\"", "\"paid\""), std::string(70'000, ' ')}) {
    EXPECT_FALSE(read_message(bad)) << bad.substr(0, 200);
  }
  EXPECT_FALSE(read_cloud_event(good)) << "without data";
}

struct Seen {
  std::vector<std::string> events;
  EventStreamReader reader;

  bool read(std::string_view bytes) {
    return reader.read(bytes, [&](const std::string& id, std::string_view type, auto data) {
      events.push_back(id + "|" + std::string(type) + "|" + std::string(data));
    });
  }
};

TEST(EventStream, ReadsWhatComesInAnyPieces) {
  const std::string text =
      ": hello\nretry: 1000\n\nid: 7.0\nevent: ordered\ndata: {\"a\":1}\n\n"
      "id: 9\n\nid:10.1\r\nevent:x\r\ndata:a\r\ndata: b\r\n\r\n";
  Seen whole;
  ASSERT_TRUE(whole.read(text));
  const std::vector<std::string> right{"7.0|ordered|{\"a\":1}", "10.1|x|a\nb"};
  EXPECT_EQ(whole.events, right);
  Seen pieces;
  for (const char c : text) ASSERT_TRUE(pieces.read({&c, 1}));
  EXPECT_EQ(pieces.events, right);
  EXPECT_EQ(pieces.reader.last_id(), "10.1");
}

TEST(EventStream, AnEventThatIsCutOffMovesNothing) {
  Seen s;
  ASSERT_TRUE(s.read("id: 3\n\nid: 7.0\nevent: ordered\ndata: {}\n"));
  EXPECT_EQ(s.reader.last_id(), "3");
  EXPECT_TRUE(s.events.empty());
  EXPECT_FALSE(s.read("data: " + std::string(EventStreamReader::kMaxEventBytes, 'x')));
}

}  // namespace
}  // namespace fairsale::orders
