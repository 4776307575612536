// Ends the connections in which the NATS library (3.4.1, Debian 12) waits for ever.
//
// When a server says INFO and then nothing, as one that is stopped or cut off in that moment does,
// the library reads on past its timeout, fills memory with the reading, and holds the connection's
// lock, so that all who publish wait too (github.com/nats-io/nats.c/issues/706, mended in 3.8).
// Shutting such a socket from outside lets it go on with the next server.
//
// Linux only: it looks into /proc/self/fd. Of the process's sockets only those are shut whose other
// end has the port of one of the servers and has sent nothing for `patience`, and only while the
// library has not returned for as long. That may hit another connection to NATS that is idle just
// then, which connects again.
#pragma once

#include <nats/nats.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <set>
#include <string_view>
#include <thread>

namespace fairsale {

class NatsWatch {
 public:
  // Before the connect. `patience` is longer than the connection's timeout.
  NatsWatch(std::string_view urls, std::chrono::milliseconds patience);
  NatsWatch(const NatsWatch&) = delete;
  NatsWatch& operator=(const NatsWatch&) = delete;
  // Before the connection is destroyed; waits until the library has returned.
  ~NatsWatch();

  // The connect is over, once.
  void connected(natsConnection*);

 private:
  using Moment = std::chrono::steady_clock::time_point;

  void ask(natsConnection*);
  void watch();

  const std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::uint16_t> ports_;  // of the servers
  Moment in_library_;              // since when, while busy_
  bool busy_ = true;               // with the connect at first
  bool asked_ = false;             // enough
  bool watched_ = false;           // enough
  std::thread asks_;               // the library something that wants its lock
  std::thread watches_;
};

}  // namespace fairsale
