// What the edge refuses, and that refusing is final: one answer, then the connection closes.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include <fmt/format.h>

#include "api/http/request_reader.hpp"
#include "tests/api/edge_fixture.hpp"

namespace fairsale::http::test {
namespace {

struct Refused {
  const char* name;
  std::string request;
  int status = 400;
};

std::ostream& operator<<(std::ostream& out, const Refused& r) { return out << r.name; }

class Refusals : public Edge, public ::testing::WithParamInterface<Refused> {};

TEST_P(Refusals, AreAnsweredOnceAndClosed) {
  start();
  Client c = connect();
  // Behind it stands a request that a proxy might have taken it to hide.
  c.send(get("/raw") + GetParam().request + get("/raw"));
  EXPECT_EQ(c.receive().status, 200) << "those before it are answered";
  const Response r = c.receive();
  ASSERT_EQ(r.status, GetParam().status);
  EXPECT_EQ(r.headers.at("connection"), "close");
  EXPECT_EQ(r.headers.at("content-type"), "application/problem+json");
  EXPECT_TRUE(r.body.starts_with(R"({"type":"urn:fairsale:problem:)")) << r.body;
  EXPECT_NE(r.body.find(fmt::format(R"("status":{},)", r.status)), std::string::npos) << r.body;
  EXPECT_NE(r.body.find(R"("detail":")"), std::string::npos) << r.body;
  EXPECT_TRUE(c.closed());
  EXPECT_EQ(worker_->stats().requests, 1U);
}

std::string with(std::string_view fields, std::string_view rest = {}) {
  return fmt::format("POST /echo HTTP/1.1\r\nHost: test\r\n{}\r\n{}", fields, rest);
}

const std::vector<Refused> kRefused = {
    {"ContentLengthAndChunked",
     with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
    {"ChunkedAndContentLength",
     with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", "0\r\n\r\n")},
    {"TwoContentLengths", with("Content-Length: 5\r\nContent-Length: 6\r\n", "hello!")},
    {"TwoEqualContentLengths", with("Content-Length: 5\r\nContent-Length: 5\r\n", "hello")},
    {"AListOfContentLengths", with("Content-Length: 5, 5\r\n", "hello")},
    {"SignedContentLength", with("Content-Length: +5\r\n", "hello")},
    {"NegativeContentLength", with("Content-Length: -5\r\n")},
    {"HexContentLength", with("Content-Length: 0x5\r\n", "hello")},
    {"EmptyContentLength", with("Content-Length:\r\n")},
    {"HugeContentLength", with("Content-Length: 99999999999999999999999\r\n")},
    {"OtherTransferEncoding", with("Transfer-Encoding: xchunked\r\n", "0\r\n\r\n")},
    {"TwoTransferEncodings",
     with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
    {"IdentityThenChunked",
     with("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")},
    {"GzipChunked", with("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n")},
    {"ChunkedIdentity", with("Transfer-Encoding: chunked, identity\r\n", "0\r\n\r\n")},
    {"QuotedTransferEncoding", with("Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")},
    {"TransferEncodingBehindVerticalTab", with("Transfer-Encoding: \x0b"
                                               "chunked\r\n",
                                               "0\r\n\r\n")},
    {"SpaceBeforeTheColon", with("Transfer-Encoding : chunked\r\n", "0\r\n\r\n")},
    {"TabBeforeTheColon", with("Content-Length\t: 5\r\n", "hello")},
    {"SpaceBeforeAField", "POST /echo HTTP/1.1\r\nHost: test\r\n Content-Length: 5\r\n\r\nhello"},
    {"SpaceBeforeTheFirstField", "POST /echo HTTP/1.1\r\n Content-Length: 5\r\nHost: t\r\n\r\n"},
    {"FoldedField", with("X-Long: a\r\n b\r\n")},
    {"FoldedTransferEncoding", with("Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n")},
    {"FieldFoldedIntoNothing", with("X-Long: a\r\n \r\n")},
    {"EmptyFieldFolded", with("Authorization:\r\n\tBearer x\r\n")},
    {"BareLineFeeds", "GET /echo HTTP/1.1\nHost: test\n\n"},
    {"BareLineFeedAfterAField", "GET /echo HTTP/1.1\r\nHost: test\nX: y\r\n\r\n"},
    {"BareCarriageReturn", with("X: a\rb\r\n")},
    {"NulInAField", with(std::string_view("X: a\0b\r\n", 8))},
    {"NoColon", with("Nonsense\r\n")},
    {"EmptyFieldName", with(": value\r\n")},
    {"FieldNameWithBrackets", with("X(y): value\r\n")},
    {"TwoHosts", with("Host: other\r\n")},
    {"NoHost", "GET /echo HTTP/1.1\r\n\r\n"},
    {"HostWithASpace", "GET /echo HTTP/1.1\r\nHost: a b\r\n\r\n"},
    {"HostWithAPath", "GET /echo HTTP/1.1\r\nHost: a/b\r\n\r\n"},
    {"TwoAuthorizations", with("Authorization: Bearer a\r\nauthorization: Bearer b\r\n")},
    {"TwoIdempotencyKeys", with("Idempotency-Key: a\r\nidempotency-key: a\r\n")},
    {"TwoContentTypes", with("Content-Type: a/b\r\nContent-Type: a/c\r\n")},
    {"NoVersion", "GET /echo\r\nHost: test\r\n\r\n"},
    {"Version2", "GET /echo HTTP/2.0\r\nHost: test\r\n\r\n"},
    {"LowerCaseVersion", "GET /echo http/1.1\r\nHost: test\r\n\r\n"},
    {"TwoSpacesInTheRequestLine", "GET  /echo HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"SpaceAtTheEndOfTheRequestLine", "GET /echo HTTP/1.1 \r\nHost: test\r\n\r\n"},
    {"SpaceInTheTarget", "GET /ec ho HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"QuoteInTheTarget", "GET /ec\"ho HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"FragmentInTheTarget", "GET /echo#part HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"BackslashInTheTarget", "GET /ec\\ho HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"Utf8InTheTarget", "GET /ech\xc3\xb6 HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"ControlInTheTarget", "GET /ec\x01ho HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"BrokenEscapeInTheTarget", "GET /echo%2 HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"RelativeTarget", "GET echo HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"AuthorityTarget", "CONNECT test:80 HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"StarForGet", "GET * HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"AbsoluteWithoutHost", "GET http:///echo HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"OtherScheme", "GET ftp://test/echo HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"MethodWithBrackets", "GE(T /echo HTTP/1.1\r\nHost: test\r\n\r\n"},
    {"TlsHello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11)},
    {"ChunkedInHttp10", "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
    {"ChunkSizeNotHex", with("Transfer-Encoding: chunked\r\n", "zz\r\n")},
    {"ChunkSizeWithPrefix", with("Transfer-Encoding: chunked\r\n", "0x5\r\nhello\r\n")},
    {"ChunkSizeOverflowing", with("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\n")},
    {"ChunkSizeNegative", with("Transfer-Encoding: chunked\r\n", "-5\r\nhello\r\n")},
    {"ChunkWithoutItsLineEnd", with("Transfer-Encoding: chunked\r\n", "5\r\nhelloXX0\r\n\r\n")},
    {"ChunkLineWithoutReturn", with("Transfer-Encoding: chunked\r\n", "5\rXhello\r\n")},
    {"TrailerContentLength",
     with("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 5\r\n\r\n")},
    {"OtherExpectation", with("Expect: payment\r\n"), 417},
    {"LargeBody", with("Content-Length: 16385\r\n"), 413},
    {"LargeChunk", with("Transfer-Encoding: chunked\r\n", "4001\r\n"), 413},
    {"LargeSumOfChunks",
     with("Transfer-Encoding: chunked\r\n",
          "4000\r\n" + std::string(0x4000, 'x') + "\r\n1\r\nx\r\n0\r\n\r\n"),
     413},
    {"LongChunkExtension",
     with("Transfer-Encoding: chunked\r\n",
          "5;" + std::string(6000, 'x') + "\r\nhello\r\n0\r\n\r\n"),
     413},
    {"LongTrailers",
     with("Transfer-Encoding: chunked\r\n", "0\r\nX: " + std::string(6000, 'x') + "\r\n\r\n"), 413},
    {"ManyLongExtensions",
     [] {
       std::string chunks;
       for (int i = 0; i < 10; ++i) chunks += "1;" + std::string(600, 'x') + "\r\nb\r\n";
       return with("Transfer-Encoding: chunked\r\n", chunks + "0\r\n\r\n");
     }(),
     413},
    {"LongTarget", "GET /" + std::string(1024, 'x') + " HTTP/1.1\r\nHost: test\r\n\r\n", 414},
    {"TargetLongerThanTheHeader", "GET /" + std::string(9000, 'x'), 414},
    {"LongField", with("X: " + std::string(9000, 'x')), 431},
    {"ManyFields",
     [] {
       std::string fields;
       for (int i = 0; i < 500; ++i) fields += fmt::format("X-Field-{}: value\r\n", i);
       return with(fields);
     }(),
     431},
};

INSTANTIATE_TEST_SUITE_P(Each, Refusals, ::testing::ValuesIn(kRefused),
                         [](const auto& of) { return std::string(of.param.name); });

TEST_F(Edge, TheBoundsThemselvesAreAllowed) {
  start();
  Client c = connect();
  EXPECT_EQ(c.exchange(get("/" + std::string(1023, 'x'))).status, 200);
  EXPECT_EQ(c.exchange(post("/echo", std::string(16384, 'b'))).status, 200);
  EXPECT_EQ(c.exchange("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
                       "4000\r\n" +
                       std::string(0x4000, 'x') + "\r\n0\r\n\r\n")
                .status,
            200);
  std::string bytes;
  for (int i = 0; i < 16384; ++i) bytes += "1\r\nx\r\n";
  EXPECT_EQ(c.exchange("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n" +
                       bytes + "0\r\n\r\n")
                .status,
            200);
  const std::string head = "GET /echo HTTP/1.1\r\nHost: test\r\nX: ";
  EXPECT_EQ(c.exchange(head + std::string(8192 - head.size() - 4, 'x') + "\r\n\r\n").status, 200);
  EXPECT_EQ(c.exchange(head + std::string(8192 - head.size() - 3, 'x') + "\r\n\r\n").status, 431);
}

TEST_F(Edge, HeadersThatTrickleInAreBoundedInSum) {
  Limits limits;
  limits.header_bytes = 2048;
  start(limits);
  Client c = connect();
  c.send("GET /echo HTTP/1.1\r\nHost: test\r\n");
  std::size_t sent = 0;
  // Each field is sent alone and read alone (the counter tells), so that no single one is large.
  while (worker_->stats().refused == 0 && sent < 100'000) {
    const auto before = worker_->stats().bytes_in;
    if (!c.send("X-Field: some value\r\n")) break;
    sent += 21;
    eventually([&] { return worker_->stats().bytes_in > before || worker_->stats().refused > 0; });
  }
  EXPECT_LT(sent, 2200U);
  EXPECT_EQ(c.receive().status, 431);
}

TEST_F(Edge, EmptyLinesBeforeARequestArePassedOverHoweverTheyCome) {
  start();
  Client c = connect();
  EXPECT_EQ(c.exchange("\r\n\r\n\r\n" + get("/raw")).status, 200);
  for (const char byte : std::string("\r\n\r\n")) ASSERT_TRUE(c.send({&byte, 1}));
  EXPECT_EQ(c.exchange(get("/raw")).status, 200);
}

TEST_F(Edge, AHeaderThatIsAllThereIsNotWaitedFor) {
  start();
  for (const std::string request : {"GET /echo 1\r\n\r\n", "GET /echo HTTP\r\n\r\n"}) {
    Client c = connect();
    for (const char byte : request) ASSERT_TRUE(c.send({&byte, 1}));
    EXPECT_EQ(c.receive().status, 400) << request;
  }
}

TEST_F(Edge, RepeatedIfNoneMatchIsIgnoredRatherThanHalfRead) {
  start();
  Client c = connect();
  const Response r = c.exchange(get("/echo", "If-None-Match: \"1\"\r\nIf-None-Match: \"2\"\r\n"));
  EXPECT_EQ(r.status, 200);
  EXPECT_NE(r.body.find("match= "), std::string::npos);
}

TEST_F(Edge, TheRefusalReachesAClientThatIsStillSending) {
  start();
  Client c = connect();
  c.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4000000\r\n\r\n");
  // Were the socket closed with bytes unread, the reset could overtake the answer.
  c.send(std::string(200'000, 'x'));
  EXPECT_EQ(c.receive().status, 413);
}

// ---- the reader alone, on bytes

struct Outcome {
  std::vector<std::string> requests;
  bool refused = false;
  bool operator==(const Outcome&) const = default;
};

// Feeds `bytes` in pieces of the sizes that `next` gives, as a connection would.
template <class Next>
Outcome feed(const std::string& bytes, const Limits& limits, Next next) {
  Outcome out;
  RequestReader reader(limits);
  std::string buffer;
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const std::size_t n = std::min<std::size_t>(next(), bytes.size() - sent);
    buffer.append(bytes, sent, n);
    sent += n;
    while (!buffer.empty()) {
      // A copy of exact size, so that a sanitizer sees every byte read beyond it.
      std::vector<char> exact(buffer.begin(), buffer.end());
      std::size_t size = exact.size();
      const auto progress = reader.read(exact.data(), size);
      buffer.assign(exact.data(), size);
      if (progress == RequestReader::Progress::more) break;
      if (progress == RequestReader::Progress::refused) {
        EXPECT_GE(reader.refusal().status, 400);
        EXPECT_FALSE(reader.refusal().detail.empty());
        out.refused = true;
        return out;
      }
      const Request r = reader.request(buffer.data());
      out.requests.push_back(fmt::format("{} {} {} {} {} {}", r.method_name, r.target, r.host,
                                         r.authorization, r.idempotency_key, r.body));
      buffer.erase(0, reader.length());
      reader.reset();
    }
  }
  return out;
}

TEST(RequestReader, UnderstandsTheSameHoweverTheBytesAreCut) {
  const std::string bytes =
      post("/echo?a=b", "hello", "Authorization: Bearer x\r\nIdempotency-Key: k\r\n") +
      "POST /c HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
      "a;x=y\r\n0123456789\r\n1\r\nz\r\n0\r\nTrailer: t\r\n\r\n" +
      get("/end");
  const Limits limits;
  const Outcome whole = feed(bytes, limits, [&] { return bytes.size(); });
  ASSERT_EQ(whole.requests.size(), 3U);
  EXPECT_EQ(whole.requests[1], "POST /c test   0123456789z");
  for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
    std::size_t part = 0;
    EXPECT_EQ(feed(bytes, limits, [&] { return part++ == 0 ? cut : bytes.size(); }), whole) << cut;
    EXPECT_EQ(feed(bytes, limits, [&] { return cut; }), whole) << cut;
  }
}

TEST(RequestReader, NeverMisreadsDamagedRequests) {
  const std::vector<std::string> seeds = {
      post("/echo?a=b", "hello", "Authorization: Bearer x\r\nIdempotency-Key: k\r\n"),
      "POST /c HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
      "a;x=\"y\"\r\n0123456789\r\n1\r\nz\r\n0\r\nTrailer: t\r\n\r\n",
      get("/end", "Connection: keep-alive, close\r\nExpect: 100-continue\r\n"),
  };
  using namespace std::string_literals;
  const std::string alphabet = "\r\n :;,\t0af5\"\\\0\x7f\x80GHP/."s;
  Limits limits;
  limits.header_bytes = 512;
  limits.body_bytes = 64;
  std::mt19937_64 random(20261124);
  const auto up_to = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  int complete = 0;
  int refused = 0;
  for (int round = 0; round < 30'000; ++round) {
    std::string bytes = seeds[up_to(seeds.size())] + seeds[up_to(seeds.size())];
    for (std::size_t edits = 1 + up_to(3); edits > 0; --edits) {
      const std::size_t at = up_to(bytes.size());
      switch (up_to(4)) {
        case 0: bytes[at] = alphabet[up_to(alphabet.size())]; break;
        case 1: bytes.insert(at, 1, alphabet[up_to(alphabet.size())]); break;
        case 2: bytes.erase(at, 1 + up_to(4)); break;
        default: bytes.insert(at, bytes.substr(up_to(bytes.size()), up_to(40))); break;
      }
    }
    const Outcome whole = feed(bytes, limits, [&] { return bytes.size(); });
    const Outcome pieces = feed(bytes, limits, [&] { return 1 + up_to(20); });
    // Cut bytes may show a fault later, never another request.
    const std::size_t common = std::min(whole.requests.size(), pieces.requests.size());
    for (std::size_t i = 0; i < common; ++i) ASSERT_EQ(whole.requests[i], pieces.requests[i]);
    ASSERT_EQ(whole.requests.size(), pieces.requests.size()) << bytes;
    complete += static_cast<int>(whole.requests.size());
    refused += whole.refused ? 1 : 0;
  }
  EXPECT_GT(complete, 10'000);
  EXPECT_GT(refused, 5'000);
}

}  // namespace
}  // namespace fairsale::http::test
