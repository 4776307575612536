#include "tests/api/edge_fixture.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include <fmt/format.h>

namespace fairsale::http::test {

void ScriptedService::on_request(const Request& r, Ticket ticket) {
  if (on_request_hook) on_request_hook(r);
  ++requests_of_turn_;
  if (r.path.starts_with("/later")) {
    const std::lock_guard lock(mutex_);
    later_.push_back(ticket);
    return;
  }
  if (r.path == "/raw") {
    worker->respond_raw(ticket, "HTTP/1.1 200 OK\r\nETag: \"1\"\r\nContent-Length: 4\r\n\r\nraw\n");
    return;
  }
  if (r.path == "/big") {
    worker->respond(ticket, {200, "text/plain", {}, std::string(1 << 20, 'x')});
    return;
  }
  if (r.path == "/304") {
    worker->respond(ticket, {304, {}, "ETag: \"1\"\r\n", {}});
    return;
  }
  echo_.clear();
  fmt::format_to(std::back_inserter(echo_),
                 "{} {}?{} host={} auth={} key={} type={} match={} body={}", r.method_name, r.path,
                 r.query, r.host, r.authorization, r.idempotency_key, r.content_type,
                 r.if_none_match, r.body);
  worker->respond(ticket, {200, "text/plain", "X-Edge: yes\r\n", echo_});
}

std::chrono::steady_clock::time_point ScriptedService::on_turn() {
  std::vector<std::function<void()>> tasks;
  {
    const std::lock_guard lock(mutex_);
    tasks.swap(tasks_);
  }
  for (auto& task : tasks) task();
  if (on_turn_hook) on_turn_hook(std::exchange(requests_of_turn_, 0));
  return std::chrono::steady_clock::time_point::max();
}

void ScriptedService::post(std::function<void()> task) {
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(task));
  }
  worker->wake();
}

std::vector<Ticket> ScriptedService::wait_for_later(std::size_t count) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (later_.size() >= count) return later_;
    }
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "the requests did not arrive";
      return std::vector<Ticket>(count);
    }
    std::this_thread::yield();
  }
}

bool ScriptedService::answer(Ticket ticket, const std::string& body) {
  std::promise<bool> done;
  post([&] { done.set_value(worker->respond(ticket, {200, "text/plain", {}, body})); });
  return done.get_future().get();
}

Client::Client(std::uint16_t port, int receive_buffer)
    : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (receive_buffer > 0) {
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  const timeval patience{10, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0) {
    ::close(fd_);
    fd_ = -1;
  }
}

Client::~Client() {
  if (fd_ >= 0) ::close(fd_);
}

Client::Client(Client&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), buffer_(std::move(other.buffer_)) {}

bool Client::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

void Client::finish_sending() { ::shutdown(fd_, SHUT_WR); }

void Client::reset() {
  const linger now{1, 0};
  ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  ::close(std::exchange(fd_, -1));
}

bool Client::more() {
  char bytes[16384];
  const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
  if (n <= 0) return false;
  buffer_.append(bytes, static_cast<std::size_t>(n));
  return true;
}

Response Client::receive(bool bodiless) {
  Response out;
  std::size_t end = 0;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!more()) return out;
  }
  out.head = buffer_.substr(0, end + 2);
  buffer_.erase(0, end + 4);
  out.status = std::stoi(out.head.substr(9, 3));
  std::size_t at = out.head.find("\r\n") + 2;
  while (at < out.head.size()) {
    const std::size_t line = out.head.find("\r\n", at);
    const std::size_t colon = out.head.find(": ", at);
    std::string name = out.head.substr(at, colon - at);
    for (char& c : name) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    EXPECT_FALSE(out.has(name)) << name << " twice";
    out.headers[name] = out.head.substr(colon + 2, line - colon - 2);
    at = line + 2;
  }
  if (!bodiless && out.has("content-length")) {
    const std::size_t size = std::stoul(out.headers["content-length"]);
    while (buffer_.size() < size) {
      if (!more()) return Response{};
    }
    out.body = buffer_.substr(0, size);
    buffer_.erase(0, size);
  }
  return out;
}

bool Client::closed() {
  char byte = 0;
  return buffer_.empty() && ::recv(fd_, &byte, 1, 0) == 0;
}

std::string Client::rest() {
  while (more()) {
  }
  return std::exchange(buffer_, {});
}

std::string get(std::string_view path, std::string_view headers) {
  return fmt::format("GET {} HTTP/1.1\r\nHost: test\r\n{}\r\n", path, headers);
}

std::string post(std::string_view path, std::string_view body, std::string_view headers) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n{}\r\n{}", path,
                     body.size(), headers, body);
}

void Edge::start(Limits limits) {
  auto listening = listen("127.0.0.1", 0, 1);
  ASSERT_TRUE(listening) << listening.error().message;
  port_ = listening->port;
  worker_ = std::make_unique<Worker>(std::move(listening->listeners[0]), limits);
  service_.worker = worker_.get();
  thread_ = std::thread([this] { worker_->run(service_); });
}

void Edge::stop() {
  if (!thread_.joinable()) return;
  worker_->drain(std::chrono::milliseconds(0));
  thread_.join();
}

void Edge::eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (!condition()) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "it did not come to pass";
    std::this_thread::yield();
  }
}

}  // namespace fairsale::http::test
