#include "api/http/problem.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>
#include <simdjson.h>

#include <ctime>

namespace fairsale::http {
namespace {

std::string json_text(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(Json, EscapesStrings) {
  EXPECT_EQ(json_text("plain"), R"("plain")");
  EXPECT_EQ(json_text("a\"b\\c"), R"("a\"b\\c")");
  EXPECT_EQ(json_text(std::string_view("\n\r\t\0\x1f\x7f", 6)),
            "\"\\n\\r\\t\\u0000\\u001f\\u007f\"");
  EXPECT_EQ(json_text("gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8e\x81"),
            "\"gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x8e\x81\"");
}

TEST(Json, EscapesWhatSteersATerminalOrTurnsText) {
  EXPECT_EQ(json_text("a\xc2\x80\xc2\x9b"
                      "31m"),
            R"("a\u0080\u009b31m")");
  EXPECT_EQ(json_text("\xe2\x80\xaa\xe2\x80\xae\xe2\x81\xa6\xe2\x81\xa9x"),
            R"("\u202a\u202e\u2066\u2069x")");
  // Their neighbours are letters and marks like others.
  for (const char* plain : {"\xc2\xa0", "\xe2\x80\xa9", "\xe2\x80\xaf", "\xe2\x81\xa5",
                            "\xe2\x81\xaa", "\xe3\x80\xaa"}) {
    EXPECT_EQ(json_text(plain), '"' + std::string(plain) + '"');
  }
}

TEST(Json, AWordIsQuotedUnlessItIsPlain) {
  const auto word = [](std::string_view text) {
    std::string out;
    append_word(out, text);
    return out;
  };
  EXPECT_EQ(word("anna-1:x"), "anna-1:x");
  EXPECT_EQ(word(""), R"("")");
  EXPECT_EQ(word("a b"), R"("a b")");
  EXPECT_EQ(word("a=b"), R"("a=b")");
  EXPECT_EQ(word("a\nb\x1b[2J"), R"("a\nb\u001b[2J")");
}

TEST(Json, ReplacesWhatIsNotUtf8) {
  for (const char* bad :
       {"\x80", "\xc0\xaf", "\xc3", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xff"}) {
    const std::string out = json_text(std::string("a") + bad);
    EXPECT_TRUE(out.starts_with("\"a\\ufffd")) << out;
    EXPECT_TRUE(simdjson::validate_utf8(out)) << out;
  }
}

RC_GTEST_PROP(Json, AnyBytesBecomeAValidString, (const std::string& bytes)) {
  const simdjson::padded_string json("{\"s\":" + json_text(bytes) + "}");
  simdjson::dom::parser parser;
  std::string_view back;
  RC_ASSERT(parser.parse(json)["s"].get(back) == simdjson::SUCCESS);
  if (simdjson::validate_utf8(bytes)) RC_ASSERT(back == bytes);
}

TEST(Json, WriterPutsTheCommas) {
  std::string out = "before:";  // what stands there already is no part of it
  JsonWriter json(out);
  json.begin_object()
      .member("text", "a,b:")
      .member("number", -7)
      .member("large", std::uint64_t{18'446'744'073'709'551'615ULL})
      .member("yes", true)
      .member("when", Timestamp{0})
      .member("price", Money{MinorUnits{4900}, Currency{{'E', 'U', 'R'}}});
  json.key("nothing")
      .null()
      .key("list")
      .begin_array()
      .value(1)
      .value("x")
      .begin_object()
      .end_object()
      .begin_array()
      .end_array()
      .end_array();
  json.key("hold").seconds(Duration{120'000}).key("grace").seconds(Duration{50});
  json.key("raw").raw("[1]").end_object();
  EXPECT_EQ(out, R"(before:{"text":"a,b:","number":-7,"large":18446744073709551615,"yes":true,)"
                 R"("when":"1970-01-01T00:00:00.000Z","price":{"amount":4900,"currency":"EUR"},)"
                 R"("nothing":null,"list":[1,"x",{},[]],"hold":120,"grace":0.05,"raw":[1]})");
}

TEST(Problem, IsAnObjectOfRfc9457) {
  std::string out;
  append_problem(out, {409, "sold_out", {}, "Say \"please\"."}, R"("position":17)");
  EXPECT_EQ(out, R"({"type":"urn:fairsale:problem:sold_out","title":"Sold out","status":409,)"
                 R"("detail":"Say \"please\".","position":17})");
  out.clear();
  append_problem(out, {400, "bad_request", "No", {}});
  EXPECT_EQ(out, R"({"type":"urn:fairsale:problem:bad_request","title":"No","status":400})");
}

std::string text_of(std::int64_t ms) {
  std::string out;
  append_rfc3339(out, Timestamp{ms});
  return out;
}

TEST(Times, AreRfc3339) {
  EXPECT_EQ(text_of(0), "1970-01-01T00:00:00.000Z");
  EXPECT_EQ(text_of(1'795'500'000'123), "2026-11-24T06:00:00.123Z");
  EXPECT_EQ(text_of(951'782'400'000), "2000-02-29T00:00:00.000Z");
  EXPECT_EQ(text_of(-1), "1969-12-31T23:59:59.999Z");
  EXPECT_EQ(text_of(kMaxTimestampMs), "9999-12-31T23:59:59.999Z");
}

RC_GTEST_PROP(Times, AgreeWithTheLibraryAndReadBack, ()) {
  const auto ms = *rc::gen::inRange<std::int64_t>(-62'135'596'800'000, kMaxTimestampMs);
  const std::string text = text_of(ms);
  RC_ASSERT(parse_rfc3339(text) == Timestamp{ms});
  const std::int64_t seconds = (ms - ((ms % 1000) + 1000) % 1000) / 1000;
  const std::time_t t = seconds;
  std::tm parts{};
  gmtime_r(&t, &parts);
  char expected[32];
  std::strftime(expected, sizeof expected, "%H:%M:%S", &parts);
  RC_ASSERT(text.substr(11, 8) == expected);
  RC_ASSERT(std::stoi(text.substr(8, 2)) == parts.tm_mday);
}

TEST(Times, AreReadWithOffsetsAndFractions) {
  const auto at = [](const char* text) {
    const auto t = parse_rfc3339(text);
    return t ? t->value : -1;
  };
  EXPECT_EQ(at("2026-11-24T06:00:00Z"), 1'795'500'000'000);
  EXPECT_EQ(at("2026-11-24t06:00:00z"), 1'795'500'000'000);
  EXPECT_EQ(at("2026-11-24T07:30:00.5+01:30"), 1'795'500'000'500);
  EXPECT_EQ(at("2026-11-23T23:00:00.123456789-07:00"), 1'795'500'000'123);
  for (const char* bad :
       {"", "2026-11-24", "2026-11-24T06:00:00", "2026-11-24 06:00:00Z", "2026-02-30T06:00:00Z",
        "2026-13-01T06:00:00Z", "2026-11-24T24:00:00Z", "2026-11-24T06:60:00Z",
        "2026-11-24T06:00:60Z", "2026-11-24T06:00:00.Z", "2026-11-24T06:00:00.1234567890Z",
        "2026-11-24T06:00:00Zx", "2026-11-24T06:00:00+1:00", "2026-11-24T06:00:00+01",
        "2026-11-24T06:00:00+24:00", "+026-11-24T06:00:00Z", "2026-11-24T06:00:00.123"}) {
    EXPECT_FALSE(parse_rfc3339(bad)) << bad;
  }
}

TEST(Targets, AreDecodedStrictly) {
  char scratch[16];
  EXPECT_EQ(percent_decode("demo", scratch), "demo");
  EXPECT_EQ(percent_decode("a%3A%2f+b", scratch), "a:/+b");
  EXPECT_FALSE(percent_decode("%", scratch));
  EXPECT_FALSE(percent_decode("a%2", scratch));
  EXPECT_FALSE(percent_decode("%zz", scratch));
  EXPECT_FALSE(percent_decode("%00", scratch));
  EXPECT_FALSE(percent_decode("0123456789012345%41", scratch)) << "scratch is too small";
}

TEST(Targets, AreSplitBeforeTheyAreDecoded) {
  const PathSegments p = split_path("/v1/sales/a%2Fb");
  ASSERT_EQ(p.size, 3U);
  EXPECT_EQ(p[2], "a%2Fb");
  EXPECT_EQ(split_path("/").size, 1U);
  EXPECT_EQ(split_path("/v1/").size, 2U);
  EXPECT_EQ(split_path("/v1/")[1], "");
  EXPECT_EQ(split_path("*").size, 0U);
  EXPECT_EQ(split_path("/1/2/3/4/5/6/7/8").size, 8U);
  EXPECT_EQ(split_path("/1/2/3/4/5/6/7/8/9/10").size, PathSegments::kMax + 1);
}

TEST(Targets, GiveTheirParameters) {
  char scratch[64];
  std::string_view value;
  const std::string_view query = "limit=100&&after=a%26b&flag&twice=1&twice=2&bad=%4";
  EXPECT_EQ(query_parameter(query, "limit", scratch, value), Parameter::present);
  EXPECT_EQ(value, "100");
  EXPECT_EQ(query_parameter(query, "after", scratch, value), Parameter::present);
  EXPECT_EQ(value, "a&b");
  EXPECT_EQ(query_parameter(query, "flag", scratch, value), Parameter::present);
  EXPECT_EQ(value, "");
  EXPECT_EQ(query_parameter(query, "twice", scratch, value), Parameter::repeated);
  EXPECT_EQ(query_parameter(query, "bad", scratch, value), Parameter::malformed);
  EXPECT_EQ(query_parameter(query, "lim", scratch, value), Parameter::absent);
  EXPECT_EQ(query_parameter("", "limit", scratch, value), Parameter::absent);
}

TEST(Numbers, AreDigitsOnly) {
  EXPECT_EQ(parse_number("0"), 0U);
  EXPECT_EQ(parse_number("18446744073709551615"), 18'446'744'073'709'551'615ULL);
  for (const char* bad : {"", "-1", "+1", " 1", "1 ", "0x1", "1.0", "18446744073709551616"}) {
    EXPECT_FALSE(parse_number(bad)) << bad;
  }
}

}  // namespace
}  // namespace fairsale::http
