#include "tools/bench/load_client.hpp"
#include "core/log/priority.hpp"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

namespace fairsale::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

constexpr std::size_t kReadBytes = 1 << 18;
constexpr auto kDrain = std::chrono::seconds(10);

Clock::duration seconds(double s) {
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto of = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return of(usage.ru_utime) + of(usage.ru_stime);
}

tl::unexpected<Error> system_error(const char* what) {
  return fail(Fault::io, std::string(what) + ": " + std::strerror(errno));
}

Result<int> connect_to(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return system_error("socket (raise the limit of open files: ulimit -n)");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-reinterpret-cast): the socket API wants it
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    auto error = system_error("connect");
    ::close(fd);
    return error;
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

struct Sent {
  Role role;
  std::uint64_t customer;
  Time since;  // sent, or due
};

// One connection: what it waits for, and bytes that are not yet a whole request or answer.
struct Connection {
  int fd = -1;
  std::vector<Sent> waiting;  // a ring of `depth`
  std::size_t oldest = 0;
  std::size_t outstanding = 0;
  std::string out;
  std::size_t written = 0;
  std::string in;
  bool wants_write = false;
  bool dirty = false;  // has requests that were not yet tried to be written
};

class LoadClient {
 public:
  explicit LoadClient(const LoadPlan& plan)
      : plan_(plan), traffic_(plan.weights, plan.first, plan.skus), connections_(plan.connections) {
    for (const std::string& text : plan.requests) templates_.emplace_back(text);
    for (Connection& c : connections_) c.waiting.resize(plan.depth);
    read_buffer_.resize(kReadBytes);
  }
  ~LoadClient() {
    for (const Connection& c : connections_) {
      if (c.fd >= 0) ::close(c.fd);
    }
    if (epoll_ >= 0) ::close(epoll_);
  }
  LoadClient(const LoadClient&) = delete;
  LoadClient& operator=(const LoadClient&) = delete;

  Result<LoadReport> run();

 private:
  bool open_loop() const { return plan_.rate > 0; }
  bool sending(Time now) const { return now < end_ && report_.sent < plan_.requests_at_most; }
  Result<void> open(std::uint32_t index);
  Result<void> wait(Time now);
  Result<void> readable(std::uint32_t index);
  Result<void> take_answers(Connection&, std::uint32_t index, std::string_view& bytes, Time now);
  Result<void> write_out(Connection&, std::uint32_t index);
  Result<void> reopen(Connection&, std::uint32_t index);
  Result<void> send_due(Time now);
  void add_request(Connection&, Time since);
  void fill(Connection&, Time now);
  void settle(const Sent&, const Label&, Time now);
  void mark_window(Time now);

  const LoadPlan& plan_;
  Traffic traffic_;
  std::vector<RequestTemplate> templates_;
  std::vector<Connection> connections_;
  std::string read_buffer_;
  int epoll_ = -1;
  LoadReport report_;
  std::uint64_t outstanding_ = 0;
  Time start_, measured_from_, end_, last_answer_;
  std::optional<double> cpu_from_, cpu_to_;
  // Open loop: the places on connections that are free, first freed first used, and the connections
  // to write to.
  std::vector<std::uint32_t> free_;
  std::size_t free_head_ = 0;
  std::size_t free_count_ = 0;
  std::vector<std::uint32_t> dirty_;
  std::uint64_t arrivals_ = 0;
};

Result<void> LoadClient::open(std::uint32_t index) {
  auto fd = connect_to(plan_.port);
  if (!fd) return tl::unexpected(fd.error());
  Connection& c = connections_[index];
  c.fd = *fd;
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = index;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &event) != 0) return system_error("epoll_ctl");
  return {};
}

void LoadClient::add_request(Connection& c, Time since) {
  const Next next = traffic_.next();
  const RequestTemplate& request = templates_[static_cast<std::size_t>(next.role)];
  const std::size_t at = c.out.size();
  c.out.resize(at + request.size());
  request.render(next.numbers, c.out.data() + at);
  c.waiting[(c.oldest + c.outstanding) % plan_.depth] = {next.role, next.numbers.customer, since};
  ++c.outstanding;
  ++outstanding_;
  ++report_.sent;
}

void LoadClient::fill(Connection& c, Time now) {
  while (c.outstanding < plan_.depth && sending(now)) add_request(c, now);
}

Result<void> LoadClient::write_out(Connection& c, std::uint32_t index) {
  while (c.written < c.out.size()) {
    const ssize_t n =
        ::send(c.fd, c.out.data() + c.written, c.out.size() - c.written, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN) break;
      if (errno == EPIPE || errno == ECONNRESET) return reopen(c, index);
      return system_error("send");
    }
    c.written += static_cast<std::size_t>(n);
  }
  const bool more = c.written < c.out.size();
  if (!more) {
    c.out.clear();
    c.written = 0;
  }
  if (more != c.wants_write) {
    c.wants_write = more;
    epoll_event event{};
    event.events = more ? EPOLLIN | EPOLLOUT : EPOLLIN;
    event.data.u32 = index;
    if (::epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &event) != 0) return system_error("epoll_ctl");
  }
  return {};
}

// The server has closed the connection: what was outstanding on it is lost.
Result<void> LoadClient::reopen(Connection& c, std::uint32_t index) {
  ::close(c.fd);
  c.fd = -1;
  report_.lost += c.outstanding;
  outstanding_ -= c.outstanding;
  for (; c.outstanding > 0 && open_loop(); --c.outstanding) {
    free_[(free_head_ + free_count_++) % free_.size()] = index;
  }
  c.outstanding = 0;
  c.out.clear();
  c.in.clear();
  c.written = 0;
  c.wants_write = false;
  const Time now = Clock::now();
  if (!sending(now)) return {};
  if (auto ok = open(index); !ok) return ok;
  if (open_loop()) return {};
  fill(c, now);
  return write_out(c, index);
}

void LoadClient::settle(const Sent& sent, const Label& label, Time now) {
  report_.whole.count(sent.role, label);
  if (sent.role == Role::fresh) traffic_.answered(sent.customer);
  last_answer_ = now;
  if (now < measured_from_ || now >= end_) return;
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(now - sent.since).count();
  report_.measured.count(sent.role, label,
                         static_cast<std::uint64_t>(std::max<std::int64_t>(took, 0)));
}

// Takes the whole answers off the front of `bytes`.
Result<void> LoadClient::take_answers(Connection& c, std::uint32_t index, std::string_view& bytes,
                                      Time now) {
  while (!bytes.empty()) {
    const auto answer = plan_.protocol(bytes);
    if (!answer) return tl::unexpected(answer.error());
    if (answer->size == 0) return {};
    if (c.outstanding == 0) return fail(Fault::invalid, "an answer that nobody asked for");
    bytes.remove_prefix(answer->size);
    settle(c.waiting[c.oldest], answer->label, now);
    c.oldest = (c.oldest + 1) % plan_.depth;
    --c.outstanding;
    --outstanding_;
    if (open_loop()) free_[(free_head_ + free_count_++) % free_.size()] = index;
  }
  return {};
}

Result<void> LoadClient::readable(std::uint32_t index) {
  Connection& c = connections_[index];
  if (c.fd < 0) return {};
  const ssize_t n = ::recv(c.fd, read_buffer_.data(), read_buffer_.size(), MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return {};
  if (n <= 0) return reopen(c, index);
  std::string_view bytes(read_buffer_.data(), static_cast<std::size_t>(n));
  if (!c.in.empty()) bytes = c.in.append(bytes);
  const Time now = Clock::now();
  if (auto ok = take_answers(c, index, bytes, now); !ok) return ok;
  // `bytes` may lie within c.in.
  c.in = std::string(bytes);
  if (open_loop() || c.outstanding > 0) return {};
  fill(c, now);
  return write_out(c, index);
}

// Open loop: sends what has fallen due, as far as connections have room for it.
Result<void> LoadClient::send_due(Time now) {
  const auto due_of = [this](std::uint64_t n) {
    return start_ + seconds(static_cast<double>(n) / plan_.rate);
  };
  const Time oldest = now - seconds(plan_.give_up_seconds);
  for (Time due = due_of(arrivals_); due <= now && due < end_ && sending(due);
       due = due_of(++arrivals_)) {
    const bool measured = due >= measured_from_;
    if (due < oldest) {
      report_.due += measured ? 1 : 0;
      ++report_.abandoned;
      continue;
    }
    if (free_count_ == 0) break;
    report_.due += measured ? 1 : 0;
    const std::uint32_t index = free_[free_head_];
    free_head_ = (free_head_ + 1) % free_.size();
    --free_count_;
    Connection& c = connections_[index];
    if (c.fd < 0) {
      if (auto ok = open(index); !ok) return ok;
    }
    add_request(c, due);
    if (!c.dirty) {
      c.dirty = true;
      dirty_.push_back(index);
    }
  }
  for (const std::uint32_t index : dirty_) {
    connections_[index].dirty = false;
    if (auto ok = write_out(connections_[index], index); !ok) return ok;
  }
  dirty_.clear();
  return {};
}

Result<void> LoadClient::wait(Time now) {
  Time until = now + std::chrono::milliseconds(20);
  if (open_loop() && free_count_ > 0 && now < end_) {
    until = std::min(until, start_ + seconds(static_cast<double>(arrivals_) / plan_.rate));
  }
  const auto ns = std::max<std::int64_t>(
      0, std::chrono::duration_cast<std::chrono::nanoseconds>(until - now).count());
  timespec timeout{};
  timeout.tv_nsec = ns;
  std::array<epoll_event, 512> events;
  const int n = ::epoll_pwait2(epoll_, events.data(), int{events.size()}, &timeout, nullptr);
  if (n < 0 && errno != EINTR) return system_error("epoll_pwait2");
  for (int i = 0; i < n; ++i) {
    const auto& event = events[static_cast<std::size_t>(i)];
    const std::uint32_t index = event.data.u32;
    if ((event.events & EPOLLOUT) != 0) {
      if (auto ok = write_out(connections_[index], index); !ok) return ok;
    }
    if ((event.events & ~std::uint32_t{EPOLLOUT}) != 0) {
      if (auto ok = readable(index); !ok) return ok;
    }
  }
  return {};
}

void LoadClient::mark_window(Time now) {
  if (!cpu_from_ && now >= measured_from_) cpu_from_ = cpu_seconds();
  if (!cpu_to_ && now >= end_) cpu_to_ = cpu_seconds();
}

Result<LoadReport> LoadClient::run() {
  epoll_ = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll_ < 0) return system_error("epoll_create1");
  ::prctl(PR_SET_TIMERSLACK, 1000);  // due times are closer together than the default 50 us
  for (std::uint32_t i = 0; i < connections_.size(); ++i) {
    if (auto ok = open(i); !ok) return tl::unexpected(ok.error());
  }
  if (open_loop()) {
    free_.resize(std::size_t{plan_.connections} * plan_.depth);
    // A connection's places follow each other, so that what falls due together goes out together.
    for (; free_count_ < free_.size(); ++free_count_) {
      free_[free_count_] = static_cast<std::uint32_t>(free_count_ / plan_.depth);
    }
  }

  start_ = last_answer_ = Clock::now();
  measured_from_ = start_ + seconds(plan_.warmup_seconds);
  end_ = measured_from_ + seconds(plan_.seconds);
  if (!open_loop()) {
    for (std::uint32_t i = 0; i < connections_.size(); ++i) {
      fill(connections_[i], start_);
      if (auto ok = write_out(connections_[i], i); !ok) return tl::unexpected(ok.error());
    }
  }
  Time now = start_;
  while ((sending(now) || outstanding_ > 0) && now < end_ + kDrain) {
    if (auto ok = wait(now); !ok) return tl::unexpected(ok.error());
    now = Clock::now();
    mark_window(now);
    if (!open_loop()) continue;
    if (auto ok = send_due(now); !ok) return tl::unexpected(ok.error());
  }
  const Time end = std::max(std::min(end_, last_answer_), measured_from_);
  report_.seconds =
      std::chrono::duration<double>((now < end_ ? end : end_) - measured_from_).count();
  report_.cpu_seconds = cpu_to_.value_or(cpu_seconds()) - cpu_from_.value_or(0);
  report_.unanswered = outstanding_;
  report_.next_number = traffic_.next_number();
  return std::move(report_);
}

}  // namespace

Result<LoadReport> run_load(const LoadPlan& plan) {
  // What is measured is the server, and not for how long the client is kept from its core.
  work_promptly();
  return LoadClient(plan).run();
}

}  // namespace fairsale::bench
