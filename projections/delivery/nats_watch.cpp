#include "projections/delivery/nats_watch.hpp"

#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace fairsale {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kEvery{250};

// Whether it is a socket of the library's to which nothing has come for `least`, and something for
// at most `most`.
bool hangs(int fd, milliseconds least, milliseconds most) {
  linger lingers{};
  socklen_t size = sizeof(lingers);
  if (::getsockopt(fd, SOL_SOCKET, SO_LINGER, &lingers, &size) != 0 || lingers.l_onoff == 0 ||
      lingers.l_linger != 0) {
    return false;
  }
  tcp_info info{};
  size = sizeof(info);
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return false;
  const milliseconds silent(info.tcpi_last_data_recv);
  return info.tcpi_state == TCP_ESTABLISHED && silent >= least && silent <= most;
}

void shut_hanging(milliseconds least, milliseconds most) {
  std::error_code error;
  for (std::filesystem::directory_iterator it("/proc/self/fd", error), end; !error && it != end;
       it.increment(error)) {
    const int fd = std::atoi(it->path().filename().c_str());
    if (!hangs(fd, least, most)) continue;
    // The number may be another's by now.
    const int same = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (same < 0) continue;
    if (hangs(same, least, most)) ::shutdown(same, SHUT_RDWR);
    ::close(same);
  }
}

}  // namespace

NatsWatch::NatsWatch(milliseconds patience)
    : patience_(patience), in_library_(steady_clock::now()) {
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
    (void)natsConnection_Status(connection);
    lock.lock();
    busy_ = false;
  }
}

void NatsWatch::watch() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, kEvery, [this] { return watched_; })) {
    const auto since = std::chrono::duration_cast<milliseconds>(steady_clock::now() - in_library_);
    if (!busy_ || since < patience_) continue;
    lock.unlock();
    // What hangs may have begun before it was asked.
    shut_hanging(patience_, since + 2 * kEvery);
    lock.lock();
  }
}

}  // namespace fairsale
