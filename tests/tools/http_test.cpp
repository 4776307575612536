#include "tools/rush/http.hpp"

#include <gtest/gtest.h>

#include <string>

namespace fairsale::rush {
namespace {

const std::string kAnswer =
    "HTTP/1.1 429 Too Many Requests\r\n"
    "Content-Type: application/problem+json\r\n"
    "content-LENGTH: 4\r\n"
    "Retry-After: 7\r\n"
    "Idempotent-Replayed: true\r\n"
    "Connection: close\r\n"
    "\r\n"
    "{ \t}";

TEST(ParseResponse, ReadsWhatMatters) {
  Response r;
  std::size_t used = 0;
  ASSERT_EQ(parse_response(kAnswer, r, used), Parsed::complete);
  EXPECT_EQ(used, kAnswer.size());
  EXPECT_EQ(r.status, 429);
  EXPECT_EQ(r.body, "{ \t}");
  EXPECT_EQ(r.content_type, "application/problem+json");
  EXPECT_EQ(r.retry_after, 7);
  EXPECT_TRUE(r.replayed);
  EXPECT_FALSE(r.keep_alive);
}

TEST(ParseResponse, WaitsForTheRestWhereverItIsCut) {
  Response r;
  std::size_t used = 0;
  for (std::size_t n = 0; n < kAnswer.size(); ++n) {
    EXPECT_EQ(parse_response(std::string_view(kAnswer).substr(0, n), r, used), Parsed::incomplete)
        << n;
  }
}

TEST(ParseResponse, StopsAtTheEndOfTheBody) {
  Response r;
  std::size_t used = 0;
  ASSERT_EQ(parse_response(kAnswer + "HTTP/1.1 200 OK", r, used), Parsed::complete);
  EXPECT_EQ(used, kAnswer.size());
}

TEST(ParseResponse, NotModifiedHasNoBody) {
  Response r;
  std::size_t used = 0;
  const std::string bytes = "HTTP/1.1 304 Not Modified\r\nETag: \"7\"\r\n\r\n";
  ASSERT_EQ(parse_response(bytes, r, used), Parsed::complete);
  EXPECT_EQ(used, bytes.size());
  EXPECT_TRUE(r.keep_alive);
  EXPECT_EQ(r.retry_after, -1);
}

TEST(ParseResponse, RefusesWhatIsNotAResponseOfTheServer) {
  for (const char* bytes : {
           "SSH-2.0",
           "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
           "HTTP/1.1 abc\r\nContent-Length: 0\r\n\r\n",
           "HTTP/1.1 999 No\r\nContent-Length: 0\r\n\r\n",
           "HTTP/1.1 200 OK\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
           "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
           "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
       }) {
    Response r;
    std::size_t used = 0;
    EXPECT_EQ(parse_response(bytes, r, used), Parsed::malformed) << bytes;
  }
}

TEST(ParseUrl, TakesABaseUrl) {
  const auto e = parse_url("http://localhost:8080/");
  ASSERT_TRUE(e);
  EXPECT_EQ(e->host, "localhost");
  EXPECT_EQ(e->port, 8080);
  EXPECT_EQ(e->authority, "localhost:8080");
  EXPECT_EQ(parse_url("http://shop.test")->port, 80);
  EXPECT_EQ(parse_url("http://[::1]:81")->host, "::1");
  EXPECT_EQ(parse_url("http://[::1]")->port, 80);
}

TEST(ParseUrl, RefusesOthers) {
  for (const char* url : {"", "localhost:8080", "https://x", "http://", "http://x:0", "http://x:y",
                          "http://x:70000", "http://x/v1", "http://:80"}) {
    EXPECT_FALSE(parse_url(url)) << url;
  }
}

}  // namespace
}  // namespace fairsale::rush
