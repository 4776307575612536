#include "tools/rush/http.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <utility>

namespace fairsale::rush {

namespace {

constexpr std::size_t kFirstBuffer = 16'384;
constexpr std::size_t kMaxResponse = 67'108'864;
constexpr std::size_t kEventsAtOnce = 256;
constexpr std::int64_t kFirstPauseUs = 20'000;
constexpr std::int64_t kMaxPauseUs = 500'000;
constexpr std::int64_t kExpiryScanUs = 100'000;

bool equals_ignoring_case(std::string_view a, std::string_view lower) {
  return a.size() == lower.size() &&
         std::equal(a.begin(), a.end(), lower.begin(), [](char x, char y) {
           return (x >= 'A' && x <= 'Z' ? static_cast<char>(x - 'A' + 'a') : x) == y;
         });
}

std::string_view trim(std::string_view s) {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

template <class Number>
bool to_number(std::string_view s, Number& out) {
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), out);
  return error == std::errc{} && end == s.data() + s.size();
}

std::uint64_t event_key(std::uint32_t index, std::uint32_t generation) {
  return (std::uint64_t{generation} << 32) | index;
}

}  // namespace

std::int64_t now_us() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return std::int64_t{t.tv_sec} * 1'000'000 + t.tv_nsec / 1000;
}

Result<Endpoint> parse_url(std::string_view url) {
  const auto wrong = [&] {
    return fail(Fault::invalid, "\"" + std::string(url) +
                                    "\" is not a base URL: write http://HOST[:PORT], for example "
                                    "http://127.0.0.1:8080");
  };
  constexpr std::string_view kScheme = "http://";
  if (!url.starts_with(kScheme)) return wrong();
  std::string_view rest = url.substr(kScheme.size());
  if (rest.ends_with('/')) rest.remove_suffix(1);
  if (rest.empty() || rest.find_first_of("/?#@ ") != std::string_view::npos) return wrong();
  Endpoint e;
  e.authority = rest;
  std::string_view host = rest;
  const std::size_t bracket = rest.find(']');
  const std::size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket)) {
    host = rest.substr(0, colon);
    if (!to_number(rest.substr(colon + 1), e.port) || e.port == 0) return wrong();
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  if (host.empty()) return wrong();
  e.host = host;
  return e;
}

Parsed parse_response(std::string_view bytes, Response& response, std::size_t& used) {
  response = Response{};
  constexpr std::string_view kVersion = "HTTP/1.1 ";
  constexpr std::size_t kMaxHead = 16'384;
  const std::size_t compare = std::min(bytes.size(), kVersion.size());
  if (bytes.substr(0, compare) != kVersion.substr(0, compare)) return Parsed::malformed;
  const std::size_t head = bytes.find("\r\n\r\n");
  if (head == std::string_view::npos) {
    return bytes.size() > kMaxHead ? Parsed::malformed : Parsed::incomplete;
  }
  if (head < kVersion.size() + 3 || !to_number(bytes.substr(kVersion.size(), 3), response.status) ||
      response.status < 200 || response.status > 599) {
    return Parsed::malformed;
  }
  std::size_t length = 0;
  bool has_length = false;
  std::size_t at = bytes.find("\r\n");
  while (at < head) {
    at += 2;
    const std::size_t end = std::min(bytes.find("\r\n", at), head);
    const std::string_view line = bytes.substr(at, end - at);
    at = end;
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos || colon == 0) return Parsed::malformed;
    const std::string_view name = line.substr(0, colon);
    const std::string_view value = trim(line.substr(colon + 1));
    switch (name.size()) {
      case 10:
        if (equals_ignoring_case(name, "connection")) {
          response.keep_alive = !equals_ignoring_case(value, "close");
        }
        break;
      case 11:
        if (equals_ignoring_case(name, "retry-after") && !to_number(value, response.retry_after)) {
          response.retry_after = -1;
        }
        break;
      case 12:
        if (equals_ignoring_case(name, "content-type")) response.content_type = value;
        break;
      case 14:
        if (equals_ignoring_case(name, "content-length")) {
          if (has_length || !to_number(value, length) || length > kMaxResponse) {
            return Parsed::malformed;
          }
          has_length = true;
        }
        break;
      case 17:
        if (equals_ignoring_case(name, "transfer-encoding")) return Parsed::malformed;
        break;
      case 19:
        if (equals_ignoring_case(name, "idempotent-replayed")) {
          response.replayed = equals_ignoring_case(value, "true");
        }
        break;
      default: break;
    }
  }
  const bool bodiless = response.status == 204 || response.status == 304;
  if (bodiless) {
    length = 0;
  } else if (!has_length) {
    return Parsed::malformed;
  }
  if (bytes.size() - head - 4 < length) return Parsed::incomplete;
  response.body = bytes.substr(head + 4, length);
  used = head + 4 + length;
  return Parsed::complete;
}

Result<HttpPool> HttpPool::open(const Endpoint& endpoint, std::size_t connections,
                                std::int64_t timeout_us) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const std::string port = std::to_string(endpoint.port);
  if (const int error = getaddrinfo(endpoint.host.c_str(), port.c_str(), &hints, &found);
      error != 0) {
    return fail(Fault::io, "cannot resolve " + endpoint.host + ": " + gai_strerror(error));
  }
  HttpPool pool;
  const auto* bytes = reinterpret_cast<const char*>(found->ai_addr);
  pool.address_.assign(bytes, bytes + found->ai_addrlen);
  freeaddrinfo(found);

  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < connections + 64) {
    files.rlim_cur = std::min<rlim_t>(files.rlim_max, connections + 64);
    setrlimit(RLIMIT_NOFILE, &files);
    if (files.rlim_cur < connections + 16) {
      return fail(Fault::invalid, "--connections " + std::to_string(connections) +
                                      " needs more open files than this shell allows: lower it "
                                      "or raise ulimit -n");
    }
  }
  pool.epoll_ = epoll_create1(EPOLL_CLOEXEC);
  if (pool.epoll_ < 0) return fail(Fault::io, std::string("epoll: ") + std::strerror(errno));
  pool.timeout_us_ = timeout_us;
  pool.connections_.resize(connections);
  pool.events_.resize(kEventsAtOnce * sizeof(epoll_event));
  for (std::size_t i = connections; i > 0; --i) {
    pool.closed_.push_back(static_cast<std::uint32_t>(i - 1));
  }
  return pool;
}

HttpPool::HttpPool(HttpPool&& other) noexcept
    : epoll_(std::exchange(other.epoll_, -1)),
      address_(std::move(other.address_)),
      timeout_us_(other.timeout_us_),
      connections_(std::exchange(other.connections_, {})),
      idle_(std::move(other.idle_)),
      closed_(std::move(other.closed_)),
      events_(std::move(other.events_)),
      connect_after_us_(other.connect_after_us_),
      connect_pause_us_(other.connect_pause_us_),
      next_expiry_us_(other.next_expiry_us_),
      coarse_wait_(other.coarse_wait_),
      counters_(other.counters_) {}

HttpPool::~HttpPool() {
  for (Connection& c : connections_) {
    if (c.fd >= 0) ::close(c.fd);
  }
  if (epoll_ >= 0) ::close(epoll_);
}

std::int64_t HttpPool::retry_at() const { return closed_.empty() ? kNoRetry : connect_after_us_; }

bool HttpPool::send(const Task& task, Owner& owner) {
  std::uint32_t index = 0;
  bool connected = false;
  while (!idle_.empty() && !connected) {
    index = idle_.front();
    idle_.pop_front();
    connected = connections_[index].state == State::idle;
  }
  if (!connected) {
    if (closed_.empty() || now_us() < connect_after_us_) return false;
    index = closed_.back();
    if (!connect(index)) return false;
    closed_.pop_back();
  }
  Connection& c = connections_[index];
  c.task = task;
  c.sent_us = now_us();
  c.out.clear();
  c.written = 0;
  owner.render(task, c.out);
  if (connected) {
    c.state = State::busy;
    flush(index, owner);
  }
  return true;
}

// Begins to connect; the request is written once the socket says that it can be.
bool HttpPool::connect(std::uint32_t index) {
  Connection& c = connections_[index];
  const auto* address = reinterpret_cast<const sockaddr*>(address_.data());
  c.fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  const auto pause = [&] {
    connect_pause_us_ = std::clamp(connect_pause_us_ * 2, kFirstPauseUs, kMaxPauseUs);
    connect_after_us_ = now_us() + connect_pause_us_;
    ++counters_.refused;
    if (c.fd >= 0) ::close(c.fd);
    c.fd = -1;
    return false;
  };
  if (c.fd < 0) return pause();
  const int on = 1;
  setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(c.fd, address, static_cast<socklen_t>(address_.size())) != 0 &&
      errno != EINPROGRESS) {
    return pause();
  }
  ++c.generation;
  c.state = State::connecting;
  c.received = 0;
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT;
  event.data.u64 = event_key(index, c.generation);
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, c.fd, &event) != 0) return pause();
  ++counters_.connects;
  return true;
}

void HttpPool::close(Connection& c) {
  if (c.fd >= 0) ::close(c.fd);
  c.fd = -1;
  c.state = State::closed;
  c.received = 0;
  closed_.push_back(static_cast<std::uint32_t>(&c - connections_.data()));
}

void HttpPool::lose(Connection& c, Lost why, Owner& owner) {
  const Task task = c.task;
  switch (why) {
    case Lost::refused: ++counters_.refused; break;
    case Lost::reset: ++counters_.resets; break;
    case Lost::timeout: ++counters_.timeouts; break;
    case Lost::malformed: ++counters_.malformed; break;
  }
  close(c);
  owner.on_lost(task, why);
}

void HttpPool::want_write(std::uint32_t index, bool yes) {
  Connection& c = connections_[index];
  epoll_event event{};
  event.events = EPOLLIN | (yes ? EPOLLOUT : 0U);
  event.data.u64 = event_key(index, c.generation);
  epoll_ctl(epoll_, EPOLL_CTL_MOD, c.fd, &event);
}

void HttpPool::flush(std::uint32_t index, Owner& owner) {
  Connection& c = connections_[index];
  while (c.written < c.out.size()) {
    const ssize_t n =
        ::send(c.fd, c.out.data() + c.written, c.out.size() - c.written, MSG_NOSIGNAL);
    if (n > 0) {
      c.written += static_cast<std::size_t>(n);
    } else if (n < 0 && errno == EINTR) {
      continue;
    } else if (n < 0 && errno == EAGAIN) {
      want_write(index, true);
      return;
    } else {
      // The server may have answered (with an error) and closed before it read everything.
      receive(index, owner);
      if (connections_[index].state == State::busy) lose(c, Lost::reset, owner);
      return;
    }
  }
}

void HttpPool::receive(std::uint32_t index, Owner& owner) {
  Connection& c = connections_[index];
  if (c.in.empty()) c.in.resize(kFirstBuffer);
  for (;;) {
    if (c.in.size() - c.received <= kJsonPadding) {
      if (c.in.size() >= 2 * kMaxResponse) return lose(c, Lost::malformed, owner);
      c.in.resize(c.in.size() * 2);
    }
    const std::size_t room = c.in.size() - c.received - kJsonPadding;
    const ssize_t n = ::recv(c.fd, c.in.data() + c.received, room, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
      if (c.state == State::busy) return lose(c, Lost::reset, owner);
      return close(c);
    }
    c.received += static_cast<std::size_t>(n);
    if (c.state != State::busy) {
      // Nobody asked. A server may say 408 before it closes an idle connection; nothing else.
      if (!std::string_view(c.in.data(), c.received).starts_with("HTTP/1.1 408")) {
        ++counters_.malformed;
      }
      return close(c);
    }
    Response response;
    std::size_t used = 0;
    switch (parse_response({c.in.data(), c.received}, response, used)) {
      case Parsed::incomplete: continue;
      case Parsed::malformed: return lose(c, Lost::malformed, owner);
      case Parsed::complete: break;
    }
    if (used != c.received) return lose(c, Lost::malformed, owner);
    const Task task = c.task;
    const std::int64_t sent_us = c.sent_us;
    c.received = 0;
    if (response.keep_alive && c.written == c.out.size()) {
      c.state = State::idle;
      idle_.push_back(index);
    } else {
      close(c);
    }
    connect_pause_us_ = 0;
    owner.on_response(task, response, sent_us);
    return;
  }
}

// Requests that have waited too long are given up with their connection.
void HttpPool::expire(Owner& owner) {
  const std::int64_t now = now_us();
  if (now < next_expiry_us_) return;
  next_expiry_us_ = now + kExpiryScanUs;
  for (Connection& c : connections_) {
    const bool open = c.state == State::busy || c.state == State::connecting;
    if (open && now - c.sent_us > timeout_us_) lose(c, Lost::timeout, owner);
  }
}

bool HttpPool::wait(std::int64_t wait_us, int& ready) {
  auto* events = reinterpret_cast<epoll_event*>(events_.data());
  constexpr int kRoom = static_cast<int>(kEventsAtOnce);
  if (!coarse_wait_) {
    timespec t{};
    t.tv_sec = wait_us / 1'000'000;
    t.tv_nsec = wait_us % 1'000'000 * 1000;
    ready = epoll_pwait2(epoll_, events, kRoom, &t, nullptr);
    if (ready >= 0) return true;
    if (errno != ENOSYS) return false;
    coarse_wait_ = true;
  }
  ready = epoll_wait(epoll_, events, kRoom, static_cast<int>((wait_us + 999) / 1000));
  return ready >= 0;
}

void HttpPool::poll(std::int64_t wait_us, Owner& owner) {
  int ready = 0;
  if (wait(std::clamp<std::int64_t>(wait_us, 0, kExpiryScanUs), ready)) {
    const auto* events = reinterpret_cast<const epoll_event*>(events_.data());
    for (int i = 0; i < ready; ++i) {
      const auto index = static_cast<std::uint32_t>(events[i].data.u64);
      Connection& c = connections_[index];
      if (event_key(index, c.generation) != events[i].data.u64 || c.fd < 0) continue;
      if (c.state == State::connecting) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(c.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) {
          connect_pause_us_ = std::clamp(connect_pause_us_ * 2, kFirstPauseUs, kMaxPauseUs);
          connect_after_us_ = now_us() + connect_pause_us_;
          lose(c, Lost::refused, owner);
          continue;
        }
        if ((events[i].events & EPOLLOUT) == 0) continue;
        c.state = State::busy;
        want_write(index, false);
        flush(index, owner);
        continue;
      }
      if ((events[i].events & EPOLLOUT) != 0 && c.state == State::busy) {
        want_write(index, false);
        flush(index, owner);
        if (event_key(index, c.generation) != events[i].data.u64 || c.fd < 0) continue;
      }
      if ((events[i].events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0) receive(index, owner);
    }
  }
  expire(owner);
}

}  // namespace fairsale::rush
