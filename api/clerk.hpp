// Does what would make a worker wait (disk, other servers) in a thread of its own, one errand after
// the other. Few may wait.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace fairsale::api {

class Clerk {
 public:
  static constexpr std::size_t kMaxWaiting = 16;

  // Is called with true when it is to be done, and with false when there is no time left for it.
  // Throws nothing.
  using Errand = std::function<void(bool)>;

  Clerk();
  ~Clerk();  // as stop()
  Clerk(const Clerk&) = delete;
  Clerk& operator=(const Clerk&) = delete;

  // Every errand that is taken is called once. Returns false when too many wait, or when it is
  // stopping. From any thread; returns at once.
  bool ask(Errand);

  // Ends after what is under way. From one thread.
  void stop();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Errand> waiting_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace fairsale::api
