// The edge over real sockets: what a well-behaved client may rely on.
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <latch>

#include <fmt/format.h>

#include "tests/api/edge_fixture.hpp"

namespace fairsale::http::test {
namespace {

using std::chrono::milliseconds;

TEST_F(Edge, KeepsTheConnectionForTheNextRequest) {
  start();
  Client c = connect();
  const Response first = c.exchange(get("/echo?a=1", "Authorization: Bearer t\r\n"));
  EXPECT_EQ(first.status, 200);
  EXPECT_EQ(first.body, "GET /echo?a=1 host=test auth=Bearer t key= type= match= body=");
  EXPECT_EQ(first.headers.at("x-edge"), "yes");
  EXPECT_EQ(first.headers.at("content-type"), "text/plain");
  EXPECT_TRUE(first.headers.at("date").ends_with(" GMT"));
  EXPECT_FALSE(first.has("connection"));
  const Response second = c.exchange(
      post("/echo", R"({"quantity":1})",
           "Idempotency-Key:  k-1 \r\nContent-Type: application/json\r\nIf-None-Match: \"3\"\r\n"));
  EXPECT_EQ(second.body,
            "POST /echo? host=test auth= key=k-1 type=application/json match=\"3\" "
            "body={\"quantity\":1}");
}

TEST_F(Edge, AnswersInTheOrderOfTheRequestsWhateverTheOrderOfCompletion) {
  start();
  Client c = connect();
  c.send(get("/later/1") + get("/echo") + get("/later/2") + get("/later/3") + get("/raw"));
  const auto tickets = service_.wait_for_later(3);
  EXPECT_TRUE(service_.answer(tickets[2], "three"));
  EXPECT_TRUE(service_.answer(tickets[1], "two"));
  EXPECT_FALSE(service_.answer(tickets[1], "again")) << "nor while the first is kept";
  EXPECT_TRUE(service_.answer(tickets[0], "one"));
  EXPECT_EQ(c.receive().body, "one");
  EXPECT_TRUE(c.receive().body.starts_with("GET /echo"));
  EXPECT_EQ(c.receive().body, "two");
  EXPECT_EQ(c.receive().body, "three");
  EXPECT_EQ(c.receive().body, "raw\n");
  EXPECT_FALSE(service_.answer(tickets[0], "again")) << "a second answer must be ignored";
  EXPECT_EQ(c.exchange(get("/raw")).body, "raw\n");
}

TEST_F(Edge, ServesALongPipeline) {
  start();
  Client c = connect();
  std::string all;
  for (int i = 0; i < 1000; ++i) all += post(fmt::format("/echo/{}", i), std::string(100, 'b'));
  std::thread sender([&] { c.send(all); });
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(c.receive().body.starts_with(fmt::format("POST /echo/{}?", i))) << i;
  }
  sender.join();
}

TEST_F(Edge, StopsReadingWhileTooManyRequestsAwaitAnswers) {
  Limits limits;
  limits.pipeline = 4;
  start(limits);
  Client c = connect();
  std::string all;
  for (int i = 0; i < 10; ++i) all += get("/later");
  c.send(all);
  auto tickets = service_.wait_for_later(4);
  Client other = connect();
  EXPECT_EQ(other.exchange(get("/raw")).status, 200);
  EXPECT_EQ(worker_->stats().requests, 5U) << "the fifth must wait until one is answered";
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_TRUE(service_.answer(service_.wait_for_later(i + 1)[i], std::to_string(i)));
    EXPECT_EQ(c.receive().body, std::to_string(i));
  }
}

TEST_F(Edge, TakesARequestByteByByte) {
  start();
  Client c = connect();
  const std::string request = "\r\n" + post("/echo?x=y", "hello", "Idempotency-Key: k\r\n");
  for (int round = 0; round < 2; ++round) {
    for (const char byte : request) c.send({&byte, 1});
    EXPECT_EQ(c.receive().body, "POST /echo?x=y host=test auth= key=k type= match= body=hello");
  }
}

TEST_F(Edge, TakesChunkedBodies) {
  start();
  Client c = connect();
  const std::string request =
      "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n"
      "5;name=\"va;lue\"\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n0\r\n"
      "Authorization: Bearer trailing\r\n\r\n";
  const std::string expected = "POST /echo? host=test auth= key= type= match= body=hello, world";
  EXPECT_EQ(c.exchange(request).body, expected);
  for (const char byte : request) c.send({&byte, 1});
  EXPECT_EQ(c.receive().body, expected);
  c.send(request + request + get("/raw"));
  EXPECT_EQ(c.receive().body, expected);
  EXPECT_EQ(c.receive().body, expected);
  EXPECT_EQ(c.receive().body, "raw\n");
  // An empty body in chunks; its end is the shortest that there is.
  for (const char byte : std::string("POST /echo HTTP/1.1\r\nHost: test\r\n"
                                     "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")) {
    c.send({&byte, 1});
  }
  EXPECT_TRUE(c.receive().body.ends_with("body="));
}

TEST_F(Edge, TellsAWaitingClientToContinue) {
  start();
  Client c = connect();
  const std::string head =
      "POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
  c.send(head);
  EXPECT_EQ(c.receive().status, 100);
  EXPECT_TRUE(c.exchange("body").body.ends_with("body=body"));
  // Not asked for when the body has come already, and only after the answers before it.
  EXPECT_EQ(c.exchange(head + "body").status, 200);
  c.send(get("/later") + head);
  const auto tickets = service_.wait_for_later(1);
  service_.answer(tickets[0], "first");
  EXPECT_EQ(c.receive().body, "first");
  EXPECT_EQ(c.receive().status, 100);
  EXPECT_TRUE(c.exchange("body").body.ends_with("body=body"));
  // Refused before the body is sent.
  c.send("POST /echo HTTP/1.1\r\nHost: t\r\nContent-Length: 99999\r\nExpect: 100-continue\r\n\r\n");
  EXPECT_EQ(c.receive().status, 413);
}

TEST_F(Edge, AnswersHeadWithoutABody) {
  start();
  Client c = connect();
  c.send("HEAD /echo HTTP/1.1\r\nHost: test\r\n\r\nHEAD /raw HTTP/1.1\r\nHost: test\r\n\r\n");
  const Response echo = c.receive(true);
  EXPECT_EQ(echo.status, 200);
  EXPECT_EQ(echo.headers.at("content-length"), "51");
  EXPECT_EQ(c.receive(true).headers.at("content-length"), "4");
  EXPECT_EQ(c.exchange(get("/raw")).body, "raw\n");
}

TEST_F(Edge, NotModifiedHasNoBodyAndNoLength) {
  start();
  Client c = connect();
  const Response r = c.exchange(get("/304"));
  EXPECT_EQ(r.status, 304);
  EXPECT_FALSE(r.has("content-length"));
  EXPECT_EQ(c.exchange(get("/raw")).status, 200);
}

TEST_F(Edge, SpeaksHttp10) {
  start();
  Client once = connect();
  const Response r = once.exchange("GET /echo HTTP/1.0\r\n\r\n");
  EXPECT_EQ(r.status, 200);
  EXPECT_EQ(r.headers.at("connection"), "close");
  EXPECT_TRUE(once.closed());

  Client kept = connect();
  const std::string again = "GET /raw HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  EXPECT_EQ(kept.exchange(again).headers.at("connection"), "keep-alive");
  EXPECT_EQ(kept.exchange(again).body, "raw\n");
}

TEST_F(Edge, ClosesWhenAskedToAndIgnoresWhatFollows) {
  start();
  Client c = connect();
  c.send(get("/raw") + get("/echo", "Connection: close\r\n") + get("/raw"));
  EXPECT_FALSE(c.receive().has("connection"));
  EXPECT_EQ(c.receive().headers.at("connection"), "close");
  EXPECT_TRUE(c.closed());
}

TEST_F(Edge, TakesAbsoluteTargetsAndOptionsOfTheServer) {
  start();
  Client c = connect();
  EXPECT_EQ(c.exchange("GET http://shop.example:80/echo?q HTTP/1.1\r\nHost: other\r\n\r\n").body,
            "GET /echo?q host=shop.example:80 auth= key= type= match= body=");
  EXPECT_TRUE(c.exchange("GET HTTPS://shop.example HTTP/1.1\r\nHost: other\r\n\r\n")
                  .body.starts_with("GET /? host=shop.example"));
  EXPECT_TRUE(
      c.exchange("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n").body.starts_with("OPTIONS *?"));
}

TEST_F(Edge, AnswersAClientThatHasFinishedSending) {
  start();
  Client c = connect();
  c.send(get("/later") + get("/raw"));
  c.finish_sending();
  service_.answer(service_.wait_for_later(1)[0], "still here");
  EXPECT_EQ(c.receive().body, "still here");
  EXPECT_EQ(c.receive().body, "raw\n");
  EXPECT_TRUE(c.closed());
}

TEST_F(Edge, IgnoresAnswersToThoseWhoHaveGone) {
  start();
  Client gone = connect();
  gone.send(get("/later"));
  const Ticket ticket = service_.wait_for_later(1)[0];
  gone.reset();
  eventually([&] { return worker_->stats().connections == 0; });
  Client next = connect();  // takes the place of the one that has gone
  next.send(get("/later"));
  const Ticket other = service_.wait_for_later(2)[1];
  EXPECT_EQ(ticket.connection, other.connection);
  EXPECT_FALSE(service_.answer(ticket, "for somebody else"));
  EXPECT_TRUE(service_.answer(other, "for you"));
  EXPECT_EQ(next.receive().body, "for you");
}

TEST_F(Edge, ServesWhoFollowsAConnectionWhoseLastReadFilledItsBuffer) {
  start();
  constexpr std::size_t kRead = 2048;  // of a connection that has been quiet
  const std::string bare = get("/raw", "Connection: close\r\nX: \r\n");
  const std::string fill(kRead - bare.size(), 'x');
  Client gone = connect();
  EXPECT_EQ(gone.exchange(get("/raw", "Connection: close\r\nX: " + fill + "\r\n")).status, 200);
  EXPECT_TRUE(gone.closed());
  eventually([&] { return worker_->stats().connections == 0; });
  Client next = connect();  // takes the place of the one that has gone
  EXPECT_EQ(next.exchange(get("/raw")).status, 200);
}

TEST_F(Edge, MakesOneBatchOfWhatArrivesDuringATurn) {
  std::latch first_turn(1);
  std::latch sent(1);
  std::vector<std::size_t> batches;
  service_.on_turn_hook = [&](std::size_t requests) {
    if (requests > 0) batches.push_back(requests);
    if (batches.size() == 1 && requests > 0) {
      first_turn.count_down();
      sent.wait();
    }
  };
  start();
  std::vector<Client> clients;
  for (int i = 0; i < 200; ++i) clients.push_back(connect());
  eventually([&] { return worker_->stats().accepted == 200; });
  clients[0].send(get("/raw"));
  first_turn.wait();
  for (auto& c : clients) c.send(get("/raw"));
  sent.count_down();
  for (auto& c : clients) EXPECT_EQ(c.receive().status, 200);
  EXPECT_EQ(clients[0].receive().status, 200);
  stop();
  ASSERT_EQ(batches.size(), 2U);
  EXPECT_EQ(batches[1], 200U);
}

TEST_F(Edge, BoundsATurn) {
  Limits limits;
  limits.requests_per_turn = 8;
  std::size_t largest = 0;
  service_.on_turn_hook = [&](std::size_t requests) { largest = std::max(largest, requests); };
  start(limits);
  Client c = connect();
  std::string all;
  for (int i = 0; i < 60; ++i) all += get("/raw");
  c.send(all);
  for (int i = 0; i < 60; ++i) EXPECT_EQ(c.receive().status, 200);
  stop();
  EXPECT_EQ(largest, 8U);
}

TEST_F(Edge, HoldsTwoThousandIdleConnections) {
  start();
  std::vector<Client> idle;
  for (int i = 0; i < 2000; ++i) idle.push_back(connect());
  eventually([&] { return worker_->stats().connections == 2000; });
  Client active = connect();
  for (int i = 0; i < 100; ++i) EXPECT_EQ(active.exchange(get("/raw")).status, 200);
  for (std::size_t i = 0; i < idle.size(); i += 97) {
    EXPECT_EQ(idle[i].exchange(get("/raw")).status, 200);
  }
}

TEST_F(Edge, TellsConnectionsOverTheCapToComeBack) {
  Limits limits;
  limits.connections = 3;
  start(limits);
  std::vector<Client> held;
  for (int i = 0; i < 3; ++i) {
    held.push_back(connect());
    EXPECT_EQ(held.back().exchange(get("/raw")).status, 200);
  }
  Client over = connect();
  const Response r = over.receive();
  EXPECT_EQ(r.status, 503);
  EXPECT_EQ(r.headers.at("retry-after"), "1");
  EXPECT_EQ(r.headers.at("connection"), "close");
  EXPECT_NE(r.body.find("urn:fairsale:problem:overloaded"), std::string::npos);
  EXPECT_TRUE(over.closed());
  held.pop_back();
  eventually([&] { return worker_->stats().connections <= 3; });
  eventually([&] { return connect().exchange(get("/raw")).status == 200; });
}

TEST_F(Edge, SurvivesRunningOutOfDescriptors) {
  start();
  Client before = connect();
  EXPECT_EQ(before.exchange(get("/raw")).status, 200);
  rlimit old{};
  getrlimit(RLIMIT_NOFILE, &old);
  Client waiting = connect();
  EXPECT_EQ(waiting.exchange(get("/raw")).status, 200);
  const int next_fd = ::dup(0);
  ::close(next_fd);
  std::vector<Client> clients;
  // The client's end takes the last descriptor that is left.
  rlimit tight = old;
  tight.rlim_cur = static_cast<rlim_t>(next_fd) + 1;
  setrlimit(RLIMIT_NOFILE, &tight);
  clients.push_back(connect());
  ASSERT_TRUE(clients[0].connected());
  eventually([&] { return worker_->stats().accept_errors >= 1; });
  const auto first_error = std::chrono::steady_clock::now();
  const auto errors = worker_->stats().accept_errors;
  eventually([&] { return worker_->stats().accept_errors >= errors + 2; });
  EXPECT_GT(std::chrono::steady_clock::now() - first_error, milliseconds(90))
      << "it must wait between attempts, not spin";
  EXPECT_EQ(before.exchange(get("/raw")).status, 200) << "those that are in must still be served";
  setrlimit(RLIMIT_NOFILE, &old);
  EXPECT_EQ(clients[0].exchange(get("/raw")).status, 200);
}

TEST_F(Edge, WritesLargeAnswersAsTheClientReadsThem) {
  start();
  Client c(port_, 4096);
  const int count = 5;
  for (int i = 0; i < count; ++i) c.send(get("/big"));
  c.send(get("/raw"));
  for (int i = 0; i < count; ++i) EXPECT_EQ(c.receive().body.size(), std::size_t{1} << 20);
  EXPECT_EQ(c.receive().body, "raw\n");
}

TEST_F(Edge, BeginsNoRequestWhileMuchIsUnsent) {
  Limits limits;
  limits.output_bytes = 64 * 1024;
  start(limits);
  Client c(port_, 4096);
  std::string all;
  for (int i = 0; i < 40; ++i) all += get("/big");
  c.send(all);
  Client other = connect();
  EXPECT_EQ(other.exchange(get("/raw")).status, 200);
  // The kernel's buffers take some megabytes; forty are more than they and the bound allow.
  EXPECT_LT(worker_->stats().requests, 30U);
  for (int i = 0; i < 40; ++i) ASSERT_EQ(c.receive().body.size(), std::size_t{1} << 20);
}

// ---- time

TEST_F(Edge, ClosesIdleConnections) {
  Limits limits;
  limits.idle_timeout = milliseconds(50);
  start(limits);
  Client fresh = connect();
  Client used = connect();
  EXPECT_EQ(used.exchange(get("/raw")).status, 200);
  EXPECT_TRUE(fresh.closed());
  EXPECT_TRUE(used.closed());
  EXPECT_EQ(worker_->stats().timeouts, 2U);
}

TEST_F(Edge, DoesNotCallAConnectionIdleThatAwaitsItsAnswer) {
  Limits limits;
  limits.idle_timeout = milliseconds(30);
  start(limits);
  Client waits = connect();
  waits.send(get("/later"));
  const Ticket ticket = service_.wait_for_later(1)[0];
  Client idle = connect();
  EXPECT_TRUE(idle.closed());
  Client idle_again = connect();
  EXPECT_TRUE(idle_again.closed());
  EXPECT_TRUE(service_.answer(ticket, "late"));
  EXPECT_EQ(waits.receive().body, "late");
}

TEST_F(Edge, GivesUpOnHeadersThatTrickleIn) {
  Limits limits;
  limits.header_timeout = milliseconds(100);
  start(limits);
  Client slow = connect();
  slow.send("GET /echo HTTP/1.1\r\nHost: test\r\n");
  // A field now and then does not buy time.
  std::atomic<bool> done{false};
  std::thread trickle([&] {
    while (!done && slow.send("X: y\r\n")) std::this_thread::sleep_for(milliseconds(10));
  });
  const Response r = slow.receive();
  done = true;
  trickle.join();
  EXPECT_EQ(r.status, 408);
  EXPECT_EQ(r.headers.at("connection"), "close");
  EXPECT_NE(r.body.find("urn:fairsale:problem:timeout"), std::string::npos);
}

TEST_F(Edge, GivesUpOnBodiesThatDoNotArrive) {
  Limits limits;
  limits.body_timeout = milliseconds(60);
  start(limits);
  Client slow = connect();
  slow.send("POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 10\r\n\r\nhalf");
  EXPECT_EQ(slow.receive().status, 408);
  EXPECT_TRUE(slow.closed());
  Client chunked = connect();
  chunked.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab");
  EXPECT_EQ(chunked.receive().status, 408);
}

TEST_F(Edge, ATimeoutIsAnsweredAfterTheAnswersBeforeIt) {
  Limits limits;
  limits.header_timeout = milliseconds(50);
  start(limits);
  Client c = connect();
  c.send(get("/later") + "GET /ec");
  const Ticket ticket = service_.wait_for_later(1)[0];
  eventually([&] { return worker_->stats().timeouts == 1; });
  EXPECT_TRUE(service_.answer(ticket, "first"));
  EXPECT_EQ(c.receive().body, "first");
  EXPECT_EQ(c.receive().status, 408);
}

TEST_F(Edge, ClosesConnectionsThatTakeNothing) {
  Limits limits;
  limits.write_timeout = milliseconds(60);
  start(limits);
  Client stuck(port_, 4096);
  for (int i = 0; i < 20; ++i) stuck.send(get("/big"));
  eventually([&] { return worker_->stats().timeouts == 1; });
  eventually([&] { return worker_->stats().connections == 0; });
}

// ---- stopping

TEST_F(Edge, AStreamSaysNothingBehindAPieceThatFoundNoRoom) {
  start({.stream_bytes = 20'000});
  Client c = connect();
  c.send(get("/later"));
  const Ticket t = service_.wait_for_later(1)[0];
  std::atomic<int> taken = 0;
  service_.post([&] {
    EXPECT_TRUE(worker_->begin_stream(t, {200, "text/event-stream", {}, {}}));
    // Enough to be sent with the answers of the turn, and then one too many.
    if (worker_->send(t, std::string(18'000, 'a'))) ++taken;
    if (worker_->send(t, std::string(5'000, 'b'))) ++taken;
    if (worker_->send(t, std::string(10, 'c'))) ++taken;
  });
  const std::string all = c.rest();
  EXPECT_EQ(taken, 1);
  EXPECT_EQ(all.find("bb"), std::string::npos);
  EXPECT_EQ(all.find("cc"), std::string::npos);
  EXPECT_FALSE(all.ends_with("0\r\n\r\n")) << "that would be an end";
  EXPECT_EQ(worker_->stats().slow_streams, 1U);
}

TEST_F(Edge, DrainsInStages) {
  start();
  Client idle = connect();
  EXPECT_EQ(idle.exchange(get("/raw")).status, 200);
  Client half = connect();
  const std::string beginning = "GET /echo HTTP/1.1\r\nHo";
  half.send(beginning);
  Client busy = connect();
  busy.send(get("/later"));
  const Ticket ticket = service_.wait_for_later(1)[0];
  const std::size_t sent = get("/raw").size() + beginning.size() + get("/later").size();
  eventually([&] { return worker_->stats().bytes_in == sent; });

  worker_->drain(std::chrono::seconds(10));
  EXPECT_TRUE(idle.closed()) << "idle connections go first";
  EXPECT_FALSE(connect().connected()) << "nobody comes in any more";
  const Response finished = half.exchange("st: test\r\n\r\n");
  EXPECT_EQ(finished.status, 200) << "a request under way is still handed over";
  EXPECT_EQ(finished.headers.at("connection"), "close");
  EXPECT_TRUE(half.closed());
  EXPECT_TRUE(service_.answer(ticket, "the last"));
  const Response last = busy.receive();
  EXPECT_EQ(last.body, "the last");
  EXPECT_EQ(last.headers.at("connection"), "close");
  EXPECT_TRUE(busy.closed());
  thread_.join();
}

TEST_F(Edge, AnswersWhatHadArrivedBeforeTheDrain) {
  std::latch in_turn(1);
  std::latch sent(1);
  bool first = true;
  service_.on_turn_hook = [&](std::size_t requests) {
    if (requests == 0 || !std::exchange(first, false)) return;
    in_turn.count_down();
    sent.wait();
  };
  start();
  Client kept = connect();
  Client other = connect();
  other.send(get("/raw"));
  in_turn.wait();
  kept.send(get("/raw"));
  Client in_backlog = connect();
  in_backlog.send(get("/raw"));
  worker_->drain(std::chrono::seconds(10));
  sent.count_down();
  EXPECT_EQ(other.receive().status, 200);
  EXPECT_EQ(kept.receive().status, 200);
  EXPECT_EQ(in_backlog.receive().status, 200);
  thread_.join();
}

TEST_F(Edge, DoesNotWaitForEverWhenDraining) {
  start();
  Client busy = connect();
  busy.send(get("/later"));
  service_.wait_for_later(1);
  worker_->drain(milliseconds(20));
  thread_.join();
  EXPECT_EQ(busy.receive().status, 0);
}

// ---- listening

TEST(Listen, SharesAPortAmongWorkersButNotWithAnotherServer) {
  auto mine = listen("127.0.0.1", 0, 3);
  ASSERT_TRUE(mine) << mine.error().message;
  EXPECT_EQ(mine->listeners.size(), 3U);
  EXPECT_NE(mine->port, 0);
  const auto taken = listen("127.0.0.1", mine->port, 1);
  ASSERT_FALSE(taken);
  EXPECT_EQ(taken.error().fault, Fault::busy);
  EXPECT_NE(taken.error().message.find("another server"), std::string::npos);
}

TEST(Listen, RefusesWhatIsNoAddress) {
  const auto wrong = listen("localhost.invalid", 0, 1);
  ASSERT_FALSE(wrong);
  EXPECT_EQ(wrong.error().fault, Fault::invalid);
}

TEST(Listen, KnowsAddresses) {
  ClientAddress v4;
  v4.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1};
  EXPECT_TRUE(v4.is_v4());
  EXPECT_TRUE(v4.is_loopback());
  v4.bytes[12] = 10;
  EXPECT_FALSE(v4.is_loopback());
  ClientAddress v6;
  v6.bytes[15] = 1;
  EXPECT_FALSE(v6.is_v4());
  EXPECT_TRUE(v6.is_loopback());
}

// While turns are long, who only reads is answered between others; a write that comes on such a
// connection waits like any other.
TEST_F(Edge, AReaderDoesNotWaitForTheCrowdAndAWriterGainsNothingByReading) {
  constexpr int kCrowd = 100;
  constexpr int kEach = 8;
  std::vector<std::string> order;  // of the worker; read while it is held
  std::atomic<bool> hold{false};
  std::atomic<bool> held{false};
  std::atomic<bool> long_turns{true};
  service_.on_request_hook = [&](const Request& r) { order.emplace_back(r.path); };
  service_.on_turn_hook = [&](std::size_t) {
    const auto until = std::chrono::steady_clock::now() + milliseconds(3);
    while (long_turns && std::chrono::steady_clock::now() < until) {
    }
    if (!hold) return;
    held = true;
    while (hold) std::this_thread::yield();
    held = false;
  };
  struct AtTheEnd {
    std::function<void()> run;
    ~AtTheEnd() { run(); }
  } const end{[&] {
    hold = long_turns = false;
    stop();
  }};
  start();
  std::vector<Client> crowd;
  for (int i = 0; i < kCrowd; ++i) crowd.push_back(connect());
  Client reader = connect();

  // What arrives while the worker is held: the crowd's requests, then the reader's.
  const auto after_the_crowd = [&](const std::string& request) {
    hold = true;
    service_.post([] {});
    eventually([&] { return held.load(); });
    order.clear();
    for (Client& c : crowd) {
      std::string all;
      for (int i = 0; i < kEach; ++i) all += post("/echo", "x");
      EXPECT_TRUE(c.send(all));
    }
    EXPECT_TRUE(reader.send(request));
    hold = false;
    const Response answer = reader.receive();
    EXPECT_EQ(answer.status, 200);
    for (Client& c : crowd) {
      for (int i = 0; i < kEach; ++i) EXPECT_EQ(c.receive().status, 200);
    }
    eventually([&] { return worker_->stats().connections == kCrowd + 1; });
  };
  const auto place_of = [&](const std::string& path) {
    std::promise<std::size_t> place;
    service_.post([&] {
      place.set_value(
          static_cast<std::size_t>(std::find(order.begin(), order.end(), path) - order.begin()));
    });
    return place.get_future().get();
  };
  const auto become_a_reader = [&] {
    for (int i = 0; i < 6; ++i) EXPECT_EQ(reader.exchange(get("/raw")).body, "raw\n");
  };
  become_a_reader();
  after_the_crowd(get("/raw"));
  EXPECT_GE(place_of("/raw"), kCrowd * kEach * 9u / 10) << "the first crowd comes unawares";
  become_a_reader();
  after_the_crowd(get("/raw"));
  EXPECT_LT(place_of("/raw"), kCrowd * kEach / 2u);
  after_the_crowd(post("/raw", "x"));
  EXPECT_GE(place_of("/raw"), kCrowd * kEach * 9u / 10);

  // Nor by coming in the wake of a read.
  become_a_reader();
  after_the_crowd(get("/raw") + post("/echo/behind", "x"));
  EXPECT_EQ(reader.receive().status, 200);
  EXPECT_LT(place_of("/raw"), kCrowd * kEach / 2u);
  EXPECT_GE(place_of("/echo/behind"), kCrowd * kEach * 9u / 10);

  // Back to being a reader, and away.
  become_a_reader();
  reader.finish_sending();
  EXPECT_TRUE(reader.closed());
}

}  // namespace
}  // namespace fairsale::http::test
