// fairsale-listen: opens many event streams of one server on 127.0.0.1, reads whatever comes, and
// counts. It says "open" when each stream has been answered and runs until its standard input ends;
// then it prints what it saw as one JSON object. One thread, epoll.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

// Requests that wait for their answer at once: below what servers keep in their backlog.
constexpr std::size_t kOpening = 256;

class Listeners {
 public:
  Listeners(std::uint16_t port, std::vector<std::string> requests)
      : port_(port), requests_(std::move(requests)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

  // What failed, or nothing.
  std::string run();

 private:
  std::string open_one();
  std::string read_from(int fd);
  std::string opened(std::string_view answer);

  std::uint16_t port_;
  std::vector<std::string> requests_;
  std::vector<bool> open_;  // by descriptor
  std::size_t begun_ = 0;
  std::size_t answered_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t frames_ = 0;
  int epoll_;
};

std::string Listeners::open_one() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return fmt::format("a socket: {}", std::strerror(errno));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port_);
  const std::string& request = requests_[begun_++ % requests_.size()];
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
          static_cast<ssize_t>(request.size()) ||
      ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    return fmt::format("stream {}: {}", begun_, std::strerror(errno));
  }
  open_.resize(std::max(open_.size(), static_cast<std::size_t>(fd) + 1));
  return {};
}

std::string Listeners::opened(std::string_view answer) {
  constexpr std::string_view kFine = "HTTP/1.1 200 ";
  if (!answer.starts_with(kFine)) {
    return fmt::format("a stream was answered: {}", answer.substr(0, 400));
  }
  ++answered_;
  return {};
}

std::string Listeners::read_from(int fd) {
  static std::array<char, 65'536> buffer;
  const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return {};
  if (n <= 0) return fmt::format("a stream ended after {} were open", answered_);
  const std::string_view got(buffer.data(), static_cast<std::size_t>(n));
  bytes_ += got.size();
  frames_ += static_cast<std::uint64_t>(std::count(got.begin(), got.end(), '\n'));
  if (open_[static_cast<std::size_t>(fd)]) return {};
  open_[static_cast<std::size_t>(fd)] = true;
  return opened(got);
}

std::string Listeners::run() {
  epoll_event end{};
  end.events = EPOLLIN;
  end.data.fd = STDIN_FILENO;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, STDIN_FILENO, &end) != 0) {
    return "standard input must be a pipe";
  }
  bool told = false;
  std::array<epoll_event, 512> events;
  while (true) {
    while (begun_ < requests_.size() && begun_ - answered_ < kOpening) {
      if (auto wrong = open_one(); !wrong.empty()) return wrong;
    }
    if (!told && answered_ == requests_.size()) {
      fmt::print("open\n");
      std::fflush(stdout);
      told = true;
    }
    const int n = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
    if (n < 0 && errno != EINTR) return std::strerror(errno);
    for (int i = 0; i < n; ++i) {
      const int fd = events[static_cast<std::size_t>(i)].data.fd;
      if (fd != STDIN_FILENO) {
        if (auto wrong = read_from(fd); !wrong.empty()) return wrong;
        continue;
      }
      rusage used{};
      ::getrusage(RUSAGE_SELF, &used);
      const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
      };
      fmt::print(R"({{"streams":{},"lines":{},"bytes":{},"cpu_seconds":{:.3f}}})"
                 "\n",
                 answered_, frames_, bytes_, seconds(used.ru_utime) + seconds(used.ru_stime));
      return {};
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::uint16_t port = 0;
  std::string file;
  CLI::App app(
      "Opens an event stream for each request of a file and reads until standard input ends.");
  app.add_option("--port", port)->required()->check(CLI::Range(1, 65535));
  app.add_option("--paths", file, "A line for each stream: its path, and after a space a token")
      ->required();
  CLI11_PARSE(app, argc, argv);

  std::ifstream in(file);
  std::vector<std::string> requests;
  for (std::string line; std::getline(in, line);) {
    const std::size_t space = line.find(' ');
    std::string request = "GET " + line.substr(0, space) + " HTTP/1.1\r\nHost: 127.0.0.1\r\n";
    if (space != std::string::npos) {
      request += "Authorization: Bearer " + line.substr(space + 1) + "\r\n";
    }
    requests.push_back(request + "\r\n");
  }
  if (requests.empty()) {
    fmt::print(stderr, "fairsale-listen: no streams in {}\n", file);
    return 2;
  }
  if (const auto wrong = Listeners(port, std::move(requests)).run(); !wrong.empty()) {
    fmt::print(stderr, "fairsale-listen: {}\n", wrong);
    return 1;
  }
  return 0;
}
