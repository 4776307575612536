#include "api/clerk.hpp"

namespace fairsale::api {

Clerk::Clerk() : thread_([this] { run(); }) {}

Clerk::~Clerk() { stop(); }

bool Clerk::ask(Errand errand) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_ || waiting_.size() >= kMaxWaiting) return false;
    waiting_.push_back(std::move(errand));
  }
  changed_.notify_one();
  return true;
}

void Clerk::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void Clerk::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    const Errand errand = std::move(waiting_.front());
    waiting_.pop_front();
    const bool time = !stopping_;
    lock.unlock();
    errand(time);
    lock.lock();
  }
}

}  // namespace fairsale::api
