// fairsale-floor: what HTTP over loopback costs at least. One thread, epoll, fixed answers, no log;
// it understands no more of a request than where it ends and whether it is a GET.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

struct Connection {
  std::string in;
  std::string out;
  bool wants_write = false;
};

std::string read_file(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Bytes of the first request, 0 when it is not all there.
std::size_t request_size(std::string_view bytes) {
  const std::size_t head = bytes.find("\r\n\r\n");
  if (head == std::string_view::npos) return 0;
  constexpr std::string_view kLength = "\r\nContent-Length: ";
  std::size_t length = 0;
  const std::size_t at = bytes.substr(0, head + 2).find(kLength);
  if (at != std::string_view::npos) {
    std::from_chars(bytes.data() + at + kLength.size(), bytes.data() + head, length);
  }
  const std::size_t size = head + 4 + length;
  return size <= bytes.size() ? size : 0;
}

class Floor {
 public:
  Floor(std::string get, std::string post) : get_(std::move(get)), post_(std::move(post)) {}

  // The port, or 0 with errno.
  std::uint16_t listen();
  [[noreturn]] void serve();

 private:
  void accept_all();
  bool serve_connection(int fd, bool writable_only);
  bool flush(int fd, Connection&);

  std::string get_;
  std::string post_;
  std::vector<Connection> connections_;  // by descriptor
  int listener_ = -1;
  int epoll_ = -1;
};

std::uint16_t Floor::listen() {
  listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = listener_;
  if (listener_ < 0 || epoll_ < 0 || ::bind(listener_, any, size) != 0 ||
      ::listen(listener_, 4096) != 0 || ::getsockname(listener_, any, &size) != 0 ||
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &event) != 0) {
    return 0;
  }
  return ntohs(address.sin_port);
}

void Floor::accept_all() {
  while (true) {
    const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    const auto index = static_cast<std::size_t>(fd);
    if (index >= connections_.size()) connections_.resize(index + 1);
    connections_[index] = {};
  }
}

// False: the connection is broken.
bool Floor::flush(int fd, Connection& c) {
  if (c.out.empty()) return true;
  const ssize_t n = ::send(fd, c.out.data(), c.out.size(), MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) return false;
  c.out.erase(0, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  if (c.out.empty() == c.wants_write) {
    c.wants_write = !c.out.empty();
    epoll_event event{};
    event.events = c.wants_write ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.fd = fd;
    ::epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
  }
  return true;
}

bool Floor::serve_connection(int fd, bool writable_only) {
  Connection& c = connections_[static_cast<std::size_t>(fd)];
  if (!writable_only) {
    static std::array<char, 1 << 16> buffer;
    const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) return false;
    std::string_view bytes(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    if (!c.in.empty()) bytes = c.in.append(bytes);
    while (const std::size_t size = request_size(bytes)) {
      c.out += bytes.starts_with("GET ") ? get_ : post_;
      bytes.remove_prefix(size);
    }
    c.in = std::string(bytes);
    if (c.in.size() > buffer.size()) return false;
  }
  return flush(fd, c);
}

void Floor::serve() {
  std::array<epoll_event, 512> events;
  while (true) {
    const int n = ::epoll_wait(epoll_, events.data(), int{events.size()}, -1);
    for (int i = 0; i < n; ++i) {
      const auto& event = events[static_cast<std::size_t>(i)];
      if (event.data.fd == listener_) {
        accept_all();
      } else if (!serve_connection(event.data.fd, (event.events & EPOLLIN) == 0)) {
        ::close(event.data.fd);
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: fairsale-floor GET_ANSWER POST_ANSWER (files); prints its port\n");
    return 2;
  }
  Floor floor(read_file(argv[1]), read_file(argv[2]));
  const std::uint16_t port = floor.listen();
  if (port == 0) {
    std::fprintf(stderr, "fairsale-floor: cannot listen: %s\n", std::strerror(errno));
    return 1;
  }
  std::printf("%u\n", unsigned{port});
  std::fflush(stdout);
  floor.serve();
}
