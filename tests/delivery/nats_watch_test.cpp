#include "projections/delivery/nats_watch.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "projections/delivery/nats_client.hpp"

namespace fairsale {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  at.sin_port = htons(port);
  return at;
}

// As much of a NATS server as a connect needs. The first `broken` of its connections are answered
// and closed, the next `dumb` ones hear nothing after its INFO, and all that come later are
// answered and kept.
class FakeServer {
 public:
  FakeServer(int broken, int dumb) : broken_(broken), dumb_(dumb) {
    listens_ = ::socket(AF_INET, SOCK_STREAM, 0);
    auto at = loopback(0);
    socklen_t size = sizeof(at);
    EXPECT_EQ(::bind(listens_, reinterpret_cast<sockaddr*>(&at), size), 0);
    EXPECT_EQ(::listen(listens_, 8), 0);
    EXPECT_EQ(::getsockname(listens_, reinterpret_cast<sockaddr*>(&at), &size), 0);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;
  ~FakeServer() {
    ::shutdown(listens_, SHUT_RDWR);
    thread_.join();
    ::close(listens_);
    for (const int fd : kept_) ::close(fd);
  }
  std::uint16_t port() const { return port_; }
  std::string url() const { return "nats://127.0.0.1:" + std::to_string(port_); }

 private:
  void serve() {
    for (;;) {
      const int fd = ::accept(listens_, nullptr, nullptr);
      if (fd < 0) return;
      kept_.push_back(fd);
      say(fd, R"(INFO {"server_id":"x","version":"2.9.10","proto":1,"max_payload":9999})"
              "\r\n");
      if (broken_ <= 0 && dumb_ > 0) {
        --dumb_;
        continue;
      }
      // CONNECT and PING come together.
      std::string heard;
      char some[512];
      while (heard.find("PING\r\n") == std::string::npos) {
        const auto n = ::recv(fd, some, sizeof(some), 0);
        if (n <= 0) break;
        heard.append(some, static_cast<std::size_t>(n));
      }
      say(fd, "PONG\r\n");
      if (broken_ > 0) {
        --broken_;
        ::shutdown(fd, SHUT_RDWR);
      }
    }
  }
  static void say(int fd, std::string_view what) {
    (void)::send(fd, what.data(), what.size(), MSG_NOSIGNAL);
  }

  int broken_;
  int dumb_;
  int listens_ = -1;
  std::uint16_t port_ = 0;
  std::vector<int> kept_;
  std::thread thread_;
};

Result<NatsClient> connect(const std::string& url) {
  const auto set = [](natsOptions* made) {
    natsStatus s = natsOptions_SetMaxReconnect(made, -1);
    if (s == NATS_OK) s = natsOptions_SetNoRandomize(made, true);
    if (s == NATS_OK) s = natsOptions_SetReconnectWait(made, 1);
    return s;
  };
  jsOptions js;
  jsOptions_Init(&js);
  return connect_nats_client(url, "", "", milliseconds(1'000), set, js);
}

// Without the watch these never end.
TEST(NatsWatch, AServerThatSaysNothingAfterItsHelloIsPassedBy) {
  FakeServer dumb(0, 99);
  // Neither a connection to it that is not the library's, nor an idle one that is, is touched.
  const auto other = ::socket(AF_INET, SOCK_STREAM, 0);
  const auto at = loopback(dumb.port());
  ASSERT_EQ(::connect(other, reinterpret_cast<const sockaddr*>(&at), sizeof(at)), 0);
  FakeServer good(0, 0);
  const auto idle = connect(good.url());
  ASSERT_TRUE(idle) << idle.error().message;

  const auto client = connect(dumb.url() + "," + good.url());
  EXPECT_TRUE(client) << client.error().message;
  char some[512];
  ASSERT_GT(::recv(other, some, sizeof(some), MSG_DONTWAIT), 0);
  EXPECT_LT(::recv(other, some, sizeof(some), MSG_DONTWAIT), 0) << "it has not ended";
  natsStatistics* made = nullptr;
  ASSERT_EQ(natsStatistics_Create(&made), NATS_OK);
  const NatsPtr<natsStatistics, natsStatistics_Destroy> kept(made);
  ASSERT_EQ(natsConnection_GetStats(idle->connection.get(), made), NATS_OK);
  std::uint64_t reconnects = 0;
  ASSERT_EQ(natsStatistics_GetCounts(made, nullptr, nullptr, nullptr, nullptr, &reconnects),
            NATS_OK);
  EXPECT_EQ(reconnects, 0U);
  ::close(other);
}

TEST(NatsWatch, ALostConnectionComesBackPastAServerThatSaysNothing) {
  FakeServer server(1, 1);
  const auto client = connect(server.url());
  ASSERT_TRUE(client) << client.error().message;
  natsStatistics* made = nullptr;
  ASSERT_EQ(natsStatistics_Create(&made), NATS_OK);
  const NatsPtr<natsStatistics, natsStatistics_Destroy> kept(made);
  // It counts those that it began: the second one hangs.
  const auto is_back = [&] {
    std::uint64_t reconnects = 0;
    return natsConnection_GetStats(client->connection.get(), made) == NATS_OK &&
           natsStatistics_GetCounts(made, nullptr, nullptr, nullptr, nullptr, &reconnects) ==
               NATS_OK &&
           reconnects >= 2 &&
           natsConnection_Status(client->connection.get()) == NATS_CONN_STATUS_CONNECTED;
  };
  const auto until = steady_clock::now() + std::chrono::seconds(60);
  while (!is_back() && steady_clock::now() < until) std::this_thread::yield();
  EXPECT_TRUE(is_back());
}

TEST(NatsWatch, AClientCanBeEndedWhileTheLibraryHangs) {
  FakeServer server(1, 99);
  const auto client = connect(server.url());
  ASSERT_TRUE(client) << client.error().message;
}

TEST(NatsClient, TlsIsNotGivenUpWhereAServerDoesNotAskForIt) {
  FakeServer plain(0, 0);
  EXPECT_TRUE(connect(plain.url()));
  const auto client = connect("tls://127.0.0.1:" + std::to_string(plain.port()));
  ASSERT_FALSE(client);
  EXPECT_NE(client.error().message.find("cannot connect"), std::string::npos);
}

}  // namespace
}  // namespace fairsale
