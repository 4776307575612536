// Events as JSON: what was released stays, nothing is lost, and what is wrong is told.
#include "tools/events/event_json.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "core/log/event_codec.hpp"
#include "tests/log/any_event.hpp"
#include "tests/log/support.hpp"

// After GoogleTest, which it builds on.
#include <rapidcheck/gtest.h>

namespace fairsale::cli {
namespace {

using testing::Bytes;

Bytes encoded(const Event& e) {
  Bytes out(kLargestEventBytes);
  EventEncoder encoder;
  out.resize(encoder.encode(e, out.data()));
  return out;
}

std::string line_of(Seq seq, const Event& e) {
  std::string line;
  append_line(line, seq, e);
  EXPECT_EQ(line.back(), '\n');
  line.pop_back();
  return line;
}

Result<Line> read(std::string_view line) { return LineReader().read(line); }

std::vector<std::string> golden_lines() {
  std::vector<std::string> lines;
  std::ifstream in(std::string(FAIRSALE_TOOLS_GOLDEN_DIR) + "/log_v1.jsonl");
  EXPECT_TRUE(in);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

Digest digest_of(std::uint8_t fill) {
  Digest d;
  d.bytes.fill(std::byte{fill});
  return d;
}

// Every line that version 1 of the format has, as it was released.
std::vector<std::string> all_lines() {
  std::vector<std::string> lines(1);
  append_line(lines.back(), FileStart{});
  append_line(lines.emplace_back(),
              SaleStart{sku_id("sneaker-1"), "sneaker-1", Seq{13}, digest_of(0xab)});
  append_line(lines.emplace_back(),
              BlockStart{Seq{1}, 13, Timestamp{1'700'000'000'000}, Epoch{1}, digest_of(0xab)});
  std::uint64_t seq = 0;
  for (const Event& e : testing::sample_events()) append_line(lines.emplace_back(), Seq{++seq}, e);
  append_line(lines.emplace_back(), FileEnd{1, 1, 13});
  for (std::string& line : lines) line.pop_back();
  return lines;
}

TEST(EventJson, every_line_is_as_version_1_was_released_with) {
  const auto golden = golden_lines();
  const auto lines = all_lines();
  ASSERT_EQ(golden.size(), lines.size());
  for (std::size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i], golden[i]);
}

TEST(EventJson, released_lines_are_read_as_what_they_were) {
  const auto golden = golden_lines();
  const auto events = testing::sample_events();
  ASSERT_EQ(golden.size(), events.size() + 4);
  EXPECT_TRUE(std::holds_alternative<FileStart>(*read(golden[0])));
  const auto sale = std::get<SaleStart>(*read(golden[1]));
  EXPECT_EQ(sale.name, "sneaker-1");
  EXPECT_EQ(sale.id, sku_id("sneaker-1"));
  EXPECT_EQ(sale.seq, Seq{13});
  EXPECT_EQ(sale.head, digest_of(0xab));
  const auto block = std::get<BlockStart>(*read(golden[2]));
  EXPECT_EQ(block.first, Seq{1});
  EXPECT_EQ(block.events, 13U);
  EXPECT_EQ(block.time, Timestamp{1'700'000'000'000});
  EXPECT_EQ(block.epoch, Epoch{1});
  for (std::size_t i = 0; i < events.size(); ++i) {
    const auto line = read(golden[3 + i]);
    ASSERT_TRUE(line) << line.error().message;
    const auto& event = std::get<EventLine>(*line);
    EXPECT_EQ(event.seq, Seq{i + 1});
    EXPECT_EQ(encoded(event.event), encoded(events[i])) << golden[3 + i];
  }
  const auto end = std::get<FileEnd>(*read(golden.back()));
  EXPECT_EQ(end.sales, 1U);
  EXPECT_EQ(end.blocks, 1U);
  EXPECT_EQ(end.events, 13U);
}

RC_GTEST_PROP(EventJson, any_event_survives, ()) {
  const Event e = testing::any_event();
  const Seq seq{*rc::gen::arbitrary<std::uint64_t>()};
  const std::string line = line_of(seq, e);
  RC_ASSERT(line.size() <= kMaxLineBytes);
  RC_ASSERT(line.find('\n') == std::string::npos);
  const auto back = read(line);
  if (!back) RC_FAIL(back.error().message + ": " + line);
  RC_ASSERT(std::get<EventLine>(*back).seq == seq);
  RC_ASSERT(encoded(std::get<EventLine>(*back).event) == encoded(e));
}

// A line with some bytes changed is refused or is another line; it does no harm.
RC_GTEST_PROP(EventJson, changed_lines_do_no_harm, ()) {
  std::string line = line_of(Seq{7}, testing::any_event());
  const auto flips = *rc::gen::inRange(1, 4);
  for (int i = 0; i < flips; ++i) {
    line[*rc::gen::inRange<std::size_t>(0, line.size())] = *rc::gen::arbitrary<char>();
  }
  if (*rc::gen::arbitrary<bool>()) line.resize(*rc::gen::inRange<std::size_t>(0, line.size()));
  const auto back = read(line);
  if (back && std::holds_alternative<EventLine>(*back)) {
    RC_ASSERT(well_formed(std::get<EventLine>(*back).event));
  }
}

TEST(EventJson, texts_that_are_none_are_kept_as_hex) {
  const Event e = SalePaused{*Actor::from("\xff\xfe"), *Why::from("na\xc3\xafve \"\n\x01")};
  EXPECT_EQ(line_of(Seq{2}, e),
            R"({"seq":2,"event":"SalePaused","actor":{"hex":"fffe"},"why":"naïve \"\n\u0001"})");
}

TEST(EventJson, what_is_wrong_is_told_with_what_would_be_right) {
  const std::string key = R"("key":"00112233445566778899aabbccddeeff")";
  const auto attempt = [&](std::string_view rest) {
    return R"({"seq":2,"event":"PurchaseAttempted",)" + key + std::string(rest) + "}";
  };
  const std::vector<std::pair<std::string, std::string>> cases{
      {"", "not JSON"},
      {"[1]", "one JSON object"},
      {"{}", R"(a member "format", "sale", "block", "event" or "end")"},
      {R"({"format":"something","version":1,"block_version":1})",
       R"("format" must be "fairsale-log")"},
      {R"({"format":"fairsale-log","version":2,"block_version":1})", "use the newer one"},
      {R"({"format":"fairsale-log","version":1,"block_version":9})", "\"block_version\" is 9"},
      {attempt(R"(,"customer":"a")"), "\"quantity\" is missing"},
      {attempt(R"(,"customer":"a","quantity":-1)"),
       "\"quantity\" must be a whole number from 0 to 4294967295"},
      {attempt(R"(,"customer":"a","quantity":1.5)"), "\"quantity\" must be a whole number"},
      {attempt(R"(,"customer":"a","quantity":4294967296)"), "\"quantity\" must be a whole number"},
      {attempt(R"(,"customer":"","quantity":1)"), "\"customer\" must be a text of at least 1 byte"},
      {attempt(R"(,"customer":7,"quantity":1)"), "\"customer\" must be a text of at most 64 bytes"},
      {attempt(R"(,"customer":{"hex":"f"},"quantity":1)"), "\"customer\" must be a text"},
      {attempt(R"(,"customer":")" + std::string(65, 'a') + R"(","quantity":1)"),
       "\"customer\" must be a text of at most 64 bytes"},
      {attempt(R"(,"customer":"a","quantity":1,"extra":1)"),
       "\"extra\" is no member of such a line"},
      {attempt(R"(,"customer":"a","customer":"b","quantity":1)"), "\"customer\" is given twice"},
      {attempt(R"(,"customer":"a","quantity":1} x)"), "not JSON"},
      {R"({"seq":2,"event":"PurchaseAttempted","key":"0011","customer":"a","quantity":1})",
       "\"key\" must be 32 lower-case hexadecimal digits"},
      {R"({"seq":2,"event":"DrawSeedRevealed"})", R"(knows no event "DrawSeedRevealed")"},
      {R"({"seq":2,"event":"PurchaseCancelled","purchase":1,"by":"nobody"})",
       R"("by" must be "customer", "shop" or "operator")"},
      {R"({"seq":2,"event":"PaymentReceived","purchase":1,"reference":"r","amount":{"amount":1}})",
       "\"amount.currency\" is missing"},
      {R"({"seq":2,"event":"PaymentReceived","purchase":1,"reference":"r",)"
       R"("amount":{"amount":1,"currency":"EU"}})",
       "\"amount.currency\" must be three characters"},
      {R"({"sale":"a","id":"0000000000000001","seq":1,"head":"00"})", "\"head\" must be 64"},
      {R"({"sale":"sneaker-1","id":"0000000000000001","seq":1,"head":")" + std::string(64, '0') +
           "\"}",
       "which is that of \"sneaker-1\""},
      {R"({"block":1,"events":5000,"time":"2026-11-27T08:00:00Z","epoch":1,"head":")" +
           std::string(64, '0') + "\"}",
       "\"events\" must be from 1 to 4096"},
      {R"({"block":1,"events":1,"time":"yesterday","epoch":1,"head":")" + std::string(64, '0') +
           "\"}",
       "\"time\" must be a time like"},
      {R"({"block":1,"events":1,"time":null,"epoch":1,"head":")" + std::string(64, '0') + "\"}",
       "\"time\" must be from 1970 to 9999"},
      {"{\"seq\":" + std::string(kMaxLineBytes, '1') + "}", "none has more than"},
  };
  for (const auto& [line, message] : cases) {
    const auto back = read(line);
    ASSERT_FALSE(back) << line;
    EXPECT_NE(back.error().message.find(message), std::string::npos) << line << "\n"
                                                                     << back.error().message;
  }
  std::string scheduled = golden_lines()[3];
  scheduled.replace(scheduled.find("\"rules\":1"), 9, "\"rules\":2");
  EXPECT_EQ(read(scheduled).error().fault, Fault::unsupported);
  scheduled = golden_lines()[3];
  scheduled.replace(scheduled.find("sneaker-1"), 9, "sneaker 1");
  EXPECT_NE(read(scheduled).error().message.find("\"sku\" must be"), std::string::npos);
}

TEST(EventJson, words_are_the_same_fields_for_people) {
  std::string text;
  append_event_text(text, PaymentReceived{.purchase = Seq{7},
                                          .reference = *PaymentReference::from("pay 1"),
                                          .amount = {MinorUnits{4900}, Currency{{'E', 'U', 'R'}}}});
  EXPECT_EQ(text, R"(PaymentReceived purchase=7 reference="pay 1" amount=4900EUR)");
  text.clear();
  append_event_text(text, SaleClosed{});
  EXPECT_EQ(text, R"(SaleClosed actor="" why="")");
}

}  // namespace
}  // namespace fairsale::cli
