// How far a long command has come and how long the rest will take, on one line of stderr. Shows
// nothing when stderr is not a terminal, nor in the first second.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

namespace fairsale::cli {

// add() may be called from several threads; the line is written by whoever finds it out of date.
class Progress {
 public:
  // `what` is what is counted, in the plural: "events". A total of 0 is one that is not known.
  Progress(std::string what, std::uint64_t total);
  ~Progress();  // clears the line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void add(std::uint64_t done);

  // So much of the total need not be done after all. Not while others add().
  void skip(std::uint64_t n) { total_ = total_ > n ? total_ - n : 0; }

  // Clears the line until it is shown again: before something is written to the same terminal.
  void hide();

  // Whether anybody looks.
  bool visible() const { return terminal_; }

 private:
  using Clock = std::chrono::steady_clock;

  void show(Clock::time_point now, std::uint64_t done);

  std::string what_;
  std::uint64_t total_;
  bool terminal_;
  Clock::time_point start_ = Clock::now();
  std::atomic<std::uint64_t> done_{0};
  std::atomic<Clock::rep> next_;
  std::mutex mutex_;
  bool shown_ = false;
};

// " 25 %  1,000 of 4,000 events, 500/s, 6 s left"; without a total "1,000 events, 500/s".
std::string progress_text(std::string_view what, std::uint64_t done, std::uint64_t total,
                          std::chrono::duration<double> spent);

// "3 s", "4 min 10 s", "2 h 5 min".
std::string duration_text(std::chrono::seconds);

}  // namespace fairsale::cli
