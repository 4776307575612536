#include "tools/store/progress.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "tools/cli.hpp"

namespace fairsale::cli {

namespace {

constexpr auto kEvery = std::chrono::milliseconds(200);
constexpr auto kPatience = std::chrono::seconds(1);

}  // namespace

Progress::Progress(std::string what, std::uint64_t total)
    : what_(std::move(what)),
      total_(total),
      terminal_(::isatty(STDERR_FILENO) == 1),
      next_((start_ + kPatience).time_since_epoch().count()) {}

Progress::~Progress() { hide(); }

void Progress::hide() {
  if (!terminal_) return;
  const std::lock_guard lock(mutex_);
  if (shown_) fmt::print(stderr, "\r\x1b[K");
  shown_ = false;
}

void Progress::add(std::uint64_t done) {
  const std::uint64_t all = done_.fetch_add(done, std::memory_order_relaxed) + done;
  if (!terminal_) return;
  const auto now = Clock::now();
  if (now.time_since_epoch().count() < next_.load(std::memory_order_relaxed)) return;
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock) return;
  next_.store((now + kEvery).time_since_epoch().count(), std::memory_order_relaxed);
  show(now, all);
}

void Progress::show(Clock::time_point now, std::uint64_t done) {
  fmt::print(stderr, "\r\x1b[K{}",
             progress_text(what_, done, total_, std::chrono::duration<double>(now - start_)));
  std::fflush(stderr);
  shown_ = true;
}

std::string progress_text(std::string_view what, std::uint64_t done, std::uint64_t total,
                          std::chrono::duration<double> spent) {
  const double rate = static_cast<double>(done) / std::max(spent.count(), 1e-9);
  const std::string per_second = grouped(static_cast<std::uint64_t>(rate));
  if (total == 0) return fmt::format("{} {}, {}/s", grouped(done), what, per_second);
  const std::uint64_t left = total > done ? total - done : 0;
  const auto rest =
      std::chrono::seconds(static_cast<long long>(static_cast<double>(left) / std::max(rate, 1.0)));
  const auto percent = static_cast<unsigned>(
      std::min(100.0, static_cast<double>(done) * 100 / static_cast<double>(total)));
  return fmt::format("{:3} %  {} of {} {}, {}/s, {} left", percent, grouped(done), grouped(total),
                     what, per_second, duration_text(rest));
}

std::string duration_text(std::chrono::seconds s) {
  const auto n = s.count();
  if (n < 60) return fmt::format("{} s", n);
  if (n < 3600) return fmt::format("{} min {} s", n / 60, n % 60);
  return fmt::format("{} h {} min", n / 3600, n / 60 % 60);
}

}  // namespace fairsale::cli
