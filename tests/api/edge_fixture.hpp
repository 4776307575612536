// A worker on a thread of its own with a service that tests command, and a client that speaks
// bytes.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "api/http/worker.hpp"

namespace fairsale::http::test {

// Answers /echo at once with what it understood, /raw by a rendered response, /big with a megabyte;
// keeps /later (and /later/...) until the test answers it.
class ScriptedService final : public Service {
 public:
  Worker* worker = nullptr;

  void on_request(const Request&, Ticket) override;
  std::chrono::steady_clock::time_point on_turn() override;

  // Runs `task` in a coming turn, on the worker's thread.
  void post(std::function<void()> task);
  // The tickets of the /later requests, once there are `count`; in order of arrival.
  std::vector<Ticket> wait_for_later(std::size_t count);
  // Answers a kept request; false when nobody waited for it.
  bool answer(Ticket, const std::string& body);

  // Called with each request when set (before the worker starts).
  std::function<void(const Request&)> on_request_hook;
  // Called in every turn when set (before the worker starts).
  std::function<void(std::size_t requests_of_this_turn)> on_turn_hook;

 private:
  std::mutex mutex_;
  std::vector<std::function<void()>> tasks_;
  std::vector<Ticket> later_;
  std::size_t requests_of_turn_ = 0;
  std::string echo_;
};

struct Response {
  int status = 0;                              // 0: the connection ended instead
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  std::string head;  // status line and header as sent

  bool has(const std::string& name) const { return headers.contains(name); }
};

class Client {
 public:
  explicit Client(std::uint16_t port, int receive_buffer = 0);
  ~Client();
  Client(Client&& other) noexcept;
  Client(const Client&) = delete;

  bool connected() const { return fd_ >= 0; }
  bool send(std::string_view bytes);  // false when the peer has closed
  void finish_sending();
  void reset();  // closes with a TCP reset
  // Waits up to ten seconds. `bodiless`: an answer to HEAD.
  Response receive(bool bodiless = false);
  Response exchange(std::string_view request) {
    send(request);
    return receive();
  }
  // True when the peer closes without another byte.
  bool closed();
  // All that still comes until the peer closes.
  std::string rest();

 private:
  bool more();

  int fd_ = -1;
  std::string buffer_;
};

std::string get(std::string_view path, std::string_view headers = {});
std::string post(std::string_view path, std::string_view body, std::string_view headers = {});

class Edge : public ::testing::Test {
 protected:
  void start(Limits limits = {});
  void stop();  // drains and joins; checks that run() returns
  void TearDown() override { stop(); }
  Client connect() { return Client(port_); }
  // Spins until the condition holds; fails the test after ten seconds.
  void eventually(const std::function<bool()>& condition);

  ScriptedService service_;
  std::unique_ptr<Worker> worker_;
  std::thread thread_;
  std::uint16_t port_ = 0;
};

}  // namespace fairsale::http::test
