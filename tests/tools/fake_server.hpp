// A stand-in for fairsaled: the domain's own rules behind just enough of the REST contract for a
// crowd, in memory, with faults to inject and lies to tell.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "core/domain/types.hpp"

namespace fairsale::testing {

struct FakeReply {
  int status = 200;
  std::string body;
  std::string purchase_attempt;  // customer and key, when it answers an attempt
  bool replayed = false;
};

struct FakeOptions {
  std::string sku = "demo";
  Quantity stock{10};
  Duration hold{200};
  Quantity limit{1};
  Quantity units{1};
  std::uint32_t line_limit = 100'000;
  LinePolicy policy = LinePolicy::strict;

  // Each n-th request of its kind suffers this; 0: none.
  unsigned rate_limit_every = 0;  // 429, Retry-After: 0, without any effect
  unsigned drop_every = 0;        // acts, then closes without an answer
  unsigned garbage_every = 0;     // acts, then answers with what is not HTTP

  // Called with each reply before it goes out; may change it. On the server's thread.
  std::function<void(const std::string& method, const std::string& target, FakeReply&)> lie;
};

class FakeServer {
 public:
  explicit FakeServer(FakeOptions);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  std::uint16_t port() const;
  std::string url() const;

  // Breaks every connection and refuses new ones until back(): as if killed, its log kept.
  void away();
  void back();

  std::uint64_t attempts_decided() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace fairsale::testing
