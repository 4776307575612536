#include "projections/delivery/nats_watch.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <string>

namespace fairsale {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kEvery{250};
constexpr std::uint16_t kDefaultPort = 4222;

std::uint16_t port_of(std::string_view url) {
  std::uint16_t port = 0;
  // An address of version 6 ends in a bracket.
  const std::size_t colon = url.rfind(':');
  if (colon == std::string_view::npos) return kDefaultPort;
  const std::string_view digits = url.substr(colon + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  return error == std::errc() && end == digits.data() + digits.size() ? port : kDefaultPort;
}

// Zero where `fd` is not a connection of TCP.
std::uint16_t port_of_other_end(int fd) {
  sockaddr_storage peer{};
  socklen_t size = sizeof(peer);
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &size) != 0) return 0;
  if (peer.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in*>(&peer)->sin_port);
  if (peer.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6*>(&peer)->sin6_port);
  return 0;
}

bool silent(int fd, milliseconds patience) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  return ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 &&
         info.tcpi_state == TCP_ESTABLISHED && milliseconds(info.tcpi_last_data_recv) >= patience;
}

void shut_silent(const std::set<std::uint16_t>& ports, milliseconds patience) {
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    const int fd = std::atoi(it->path().filename().c_str());
    if (ports.contains(port_of_other_end(fd)) && silent(fd, patience)) ::shutdown(fd, SHUT_RDWR);
  }
}

}  // namespace

NatsWatch::NatsWatch(std::string_view urls, milliseconds patience)
    : patience_(patience), in_library_(steady_clock::now()) {
  while (!urls.empty()) {
    const std::size_t comma = std::min(urls.find(','), urls.size());
    ports_.insert(port_of(urls.substr(0, comma)));
    urls.remove_prefix(std::min(comma + 1, urls.size()));
  }
  watches_ = std::thread([this] { watch(); });
}

NatsWatch::~NatsWatch() {
  const auto end = [this](bool& enough, std::thread& thread) {
    {
      const std::scoped_lock lock(mutex_);
      enough = true;
    }
    changed_.notify_all();
    if (thread.joinable()) thread.join();
  };
  end(asked_, asks_);
  end(watched_, watches_);
}

void NatsWatch::connected(natsConnection* connection) {
  {
    const std::scoped_lock lock(mutex_);
    busy_ = false;
  }
  asks_ = std::thread([this, connection] { ask(connection); });
}

void NatsWatch::ask(natsConnection* connection) {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kEvery, [this] { return asked_; })) {
    busy_ = true;
    in_library_ = steady_clock::now();
    lock.unlock();
    char** servers = nullptr;
    int n = 0;
    const natsStatus s = natsConnection_GetServers(connection, &servers, &n);
    lock.lock();
    busy_ = false;
    if (s != NATS_OK) continue;
    // Those of a cluster may have become more.
    for (int i = 0; i < n; ++i) {
      ports_.insert(port_of(servers[i]));
      std::free(servers[i]);
    }
    std::free(servers);
  }
}

void NatsWatch::watch() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kEvery, [this] { return watched_; })) {
    if (!busy_ || steady_clock::now() - in_library_ < patience_) continue;
    const auto ports = ports_;
    lock.unlock();
    shut_silent(ports, patience_);
    lock.lock();
  }
}

}  // namespace fairsale
