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

// As much of a NATS server as a connect needs. Of its connections the first `good` get an answer
// and are then closed, or kept where `keep` says so; the next `dumb` hear nothing after its INFO;
// all that come later are kept.
class FakeServer {
 public:
  FakeServer(int good, int dumb) : good_(good), dumb_(dumb) {
    listens_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
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
  std::string url() const { return "nats://127.0.0.1:" + std::to_string(port_); }

 private:
  void serve() {
    for (;;) {
      const int fd = ::accept(listens_, nullptr, nullptr);
      if (fd < 0) return;
      say(fd,
          R"(INFO {"server_id":"x","version":"2.9.10","proto":1,"headers":true,"max_payload":9999})"
          "\r\n");
      if (good_ <= 0 && dumb_-- > 0) {
        kept_.push_back(fd);
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
      if (good_-- > 0 && dumb_ > 0) {
        ::close(fd);
      } else {
        kept_.push_back(fd);
      }
    }
  }
  static void say(int fd, std::string_view what) {
    EXPECT_EQ(::send(fd, what.data(), what.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(what.size()));
  }

  int good_;
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
  return connect_nats_client(url, "", "", milliseconds(100), set, js);
}

// Without the watch these two never end.
TEST(NatsWatch, AServerThatSaysNothingAfterItsHelloIsPassedBy) {
  FakeServer dumb(0, 99);
  const auto alone = connect(dumb.url());
  ASSERT_FALSE(alone);
  EXPECT_NE(alone.error().message.find("cannot connect"), std::string::npos);

  FakeServer good(99, 0);
  EXPECT_TRUE(connect(dumb.url() + "," + good.url()));
}

TEST(NatsWatch, ALostConnectionComesBackPastAServerThatSaysNothing) {
  FakeServer server(1, 2);
  const auto client = connect(server.url());
  ASSERT_TRUE(client) << client.error().message;
  natsStatistics* made = nullptr;
  ASSERT_EQ(natsStatistics_Create(&made), NATS_OK);
  const NatsPtr<natsStatistics, natsStatistics_Destroy> kept(made);
  std::uint64_t reconnects = 0;
  const auto until = steady_clock::now() + std::chrono::seconds(60);
  while (reconnects < 3 && steady_clock::now() < until) {
    ASSERT_EQ(natsConnection_GetStats(client->connection.get(), made), NATS_OK);
    ASSERT_EQ(natsStatistics_GetCounts(made, nullptr, nullptr, nullptr, nullptr, &reconnects),
              NATS_OK);
    std::this_thread::yield();
  }
  // It counts those that it began.
  EXPECT_GE(reconnects, 3U);
  EXPECT_EQ(natsConnection_Status(client->connection.get()), NATS_CONN_STATUS_CONNECTED);
}

}  // namespace
}  // namespace fairsale
