// Ends the connections in which the NATS library (3.4.1, Debian 12) waits for ever.
//
// When a server says INFO and then nothing, as one that is stopped or cut off in that moment does,
// the library reads on past its timeout, fills memory with the reading, and holds the connection's
// lock, so that all who publish wait too (github.com/nats-io/nats.c/issues/706, mended in 3.8).
// Shutting such a socket from outside lets it go on with the next server.
//
// Linux only: it looks into /proc/self/fd. Sockets are shut only while the library has not returned
// for `patience`; and of them only those that have the library's SO_LINGER of zero, which nothing
// else here sets, and to which the last byte came about when the library was entered: older
// connections that are idle stay.
#pragma once

#include <nats/nats.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

namespace fairsale {

class NatsWatch {
 public:
  // Before the connect. `patience` is longer than the connection's timeout.
  explicit NatsWatch(std::chrono::milliseconds patience);
  NatsWatch(const NatsWatch&) = delete;
  NatsWatch& operator=(const NatsWatch&) = delete;
  // Before the connection is destroyed; waits until the library has returned.
  ~NatsWatch();

  // The connect is over, once.
  void connected(natsConnection*);

 private:
  void ask(natsConnection*);
  void watch();

  const std::chrono::milliseconds patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::chrono::steady_clock::time_point in_library_;  // since when, while busy_
  bool busy_ = true;                                  // with the connect at first
  bool asked_ = false;                                // enough
  bool watched_ = false;                              // enough
  std::thread asks_;                                  // the library something that wants its lock
  std::thread watches_;
};

}  // namespace fairsale
