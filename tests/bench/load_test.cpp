// The parts of the load generator: what it sends, what it understands, what it counts.
#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tools/bench/answer.hpp"
#include "tools/bench/request.hpp"
#include "tools/bench/tally.hpp"
#include "tools/bench/traffic.hpp"

namespace fairsale::bench {
namespace {

std::string rendered(const RequestTemplate& request, const Numbers& numbers) {
  std::string out(request.size(), '?');
  EXPECT_EQ(request.render(numbers, out.data()), out.data() + out.size());
  return out;
}

TEST(RequestTemplate, PutsNumbersIntoTheirPlaces) {
  const RequestTemplate request("/s#/c@@@@@ k~~~~ c@@@@@.");
  EXPECT_EQ(rendered(request, {.customer = 123, .key = 98765, .sku = 7}),
            "/s7/c00123 k8765 c00123.");
  EXPECT_EQ(rendered(request, {.customer = 0, .key = 1, .sku = 10}), "/s0/c00000 k0001 c00000.");
}

TEST(RequestTemplate, LeavesATextWithoutPlacesAlone) {
  EXPECT_EQ(rendered(RequestTemplate("GET / HTTP/1.1\r\n\r\n"), {.customer = 5}),
            "GET / HTTP/1.1\r\n\r\n");
}

// An answer is found at its last byte, not before, and bytes that follow are not part of it.
void expect_answer(ReadAnswer read, const std::string& bytes, std::string_view label) {
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const auto partial = read(std::string_view(bytes).substr(0, n));
    ASSERT_TRUE(partial) << n << ": " << partial.error().message;
    EXPECT_EQ(partial->size, 0U) << bytes.substr(0, n);
  }
  const std::string more = bytes + bytes;
  const auto answer = read(more);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(answer->size, bytes.size());
  EXPECT_EQ(answer->label.view(), label);
}

TEST(HttpAnswer, EndsWithItsBody) {
  expect_answer(read_http_answer,
                "HTTP/1.1 201 Created\r\nDate: today\r\nContent-Length: 4\r\n\r\nbody", "201");
  expect_answer(read_http_answer, "HTTP/1.1 409 Conflict\r\ncontent-length:0\r\nX: y\r\n\r\n",
                "409");
}

TEST(HttpAnswer, TellsARepeatedAnswer) {
  expect_answer(read_http_answer,
                "HTTP/1.1 201 Created\r\nIdempotent-Replayed: true\r\nContent-Length: 1\r\n\r\nx",
                "201 replayed");
}

TEST(HttpAnswer, NotModifiedHasNoBody) {
  expect_answer(read_http_answer, "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\n\r\n", "304");
}

TEST(HttpAnswer, WithoutALengthIsAnError) {
  EXPECT_FALSE(read_http_answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"));
  EXPECT_FALSE(read_http_answer("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"));
  EXPECT_FALSE(read_http_answer("HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"));
  EXPECT_FALSE(read_http_answer("220 smtp.example.org ready"));
}

TEST(RespAnswer, IsNamedByItsText) {
  expect_answer(read_resp_answer, "+OK\r\n", "OK");
  expect_answer(read_resp_answer, "-ERR no such script\r\n", "-ERR");
  expect_answer(read_resp_answer, ":12\r\n", "integer");
  expect_answer(read_resp_answer, "$-1\r\n", "nil");
  expect_answer(read_resp_answer, "$13\r\nreserved:17:9\r\n", "reserved");
  expect_answer(read_resp_answer, "$4\r\n\r\n\r\n\r\n", "\r\n\r\n");
  expect_answer(read_resp_answer, "*2\r\n*1\r\n:1\r\n$1\r\nx\r\n", "array");
}

TEST(RespAnswer, OfAnotherProtocolIsAnError) {
  EXPECT_FALSE(read_resp_answer("HTTP/1.1 400 Bad Request\r\n"));
  EXPECT_FALSE(read_resp_answer("$99999999999\r\n"));
  EXPECT_FALSE(read_resp_answer("*1000000\r\n"));
}

TEST(Label, CutsOffWhatIsTooLong) {
  Label label("a text that is long");
  label.add("er");
  EXPECT_EQ(label.view(), "a text that is ");
}

TEST(Traffic, FirstAttemptsAreNewCustomersInTurnOverTheSkus) {
  Traffic traffic({1, 0, 0, 0}, 100, 8);
  for (std::uint64_t n = 100; n < 200; ++n) {
    const Next next = traffic.next();
    EXPECT_EQ(next.role, Role::fresh);
    EXPECT_EQ(next.numbers.customer, n);
    EXPECT_EQ(next.numbers.key, n);
    EXPECT_EQ(next.numbers.sku, n % 8);
  }
}

TEST(Traffic, RepeatsOnlyWhatWasAnswered) {
  Traffic traffic({60, 20, 10, 10}, 0, 8);
  std::set<std::uint64_t> answered;
  std::set<std::uint64_t> keys;
  std::array<unsigned, kRoles> seen{};
  for (int i = 0; i < 100'000; ++i) {
    const Next next = traffic.next();
    ++seen[static_cast<std::size_t>(next.role)];
    const Numbers& n = next.numbers;
    switch (next.role) {
      case Role::fresh:
        EXPECT_TRUE(keys.insert(n.key).second);
        if (i % 3 == 0) {
          answered.insert(n.customer);
          traffic.answered(n.customer);
        }
        break;
      case Role::retry:
        EXPECT_TRUE(answered.contains(n.customer));
        EXPECT_EQ(n.key, n.customer);
        EXPECT_EQ(n.sku, n.customer % 8);
        break;
      case Role::over:
        EXPECT_TRUE(answered.contains(n.customer));
        EXPECT_TRUE(keys.insert(n.key).second);
        EXPECT_EQ(n.sku, n.customer % 8);
        break;
      case Role::read: EXPECT_LT(n.sku, 8U); break;
    }
  }
  EXPECT_NEAR(seen[0], 60'000, 100);
  EXPECT_NEAR(seen[1], 20'000, 100);
  EXPECT_NEAR(seen[2], 10'000, 100);
  EXPECT_EQ(seen[3], 10'000U);
}

TEST(Tally, CountsByRoleAndKindWithPercentiles) {
  Tally tally;
  for (std::uint64_t us = 1; us <= 1000; ++us) tally.count(Role::fresh, Label("201"), us);
  tally.count(Role::fresh, Label("409"), 5000);
  tally.count(Role::read, Label("200"));
  tally.count(Role::fresh, Label("503"), 1'000'000);
  EXPECT_EQ(tally.answers(), 1003U);
  ASSERT_EQ(tally.kinds(Role::fresh).size(), 3U);
  EXPECT_EQ(tally.kinds(Role::fresh)[0].second, 1000U);
  EXPECT_EQ(tally.kinds(Role::fresh)[1].first.view(), "409");
  EXPECT_NEAR(static_cast<double>(tally.latency().percentile(50)), 500, 5);
  EXPECT_NEAR(static_cast<double>(tally.latency().percentile(99)), 991, 10);
  EXPECT_EQ(tally.latency().max(), 5000U);
  EXPECT_EQ(tally.pushed_back().count(), 1U);
}

TEST(Tally, KeepsABoundedNumberOfKinds) {
  Tally tally;
  for (int i = 0; i < 1000; ++i) tally.count(Role::read, Label(std::to_string(i)));
  EXPECT_EQ(tally.answers(), 1000U);
  EXPECT_LE(tally.kinds(Role::read).size(), 32U);
}

}  // namespace
}  // namespace fairsale::bench
