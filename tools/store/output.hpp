// What a command writes to stdout, in large pieces, with failures as values: a full disk behind a
// redirection must not pass for a whole file.
#pragma once

#include <fmt/format.h>

#include <cstdio>
#include <iterator>
#include <string>
#include <utility>

#include "core/log/result.hpp"

namespace fairsale::cli {

// Not thread-safe.
class Output {
 public:
  // `file` outlives it.
  explicit Output(std::FILE* file) : file_(file) {}

  // Append to this, then call pass().
  std::string& text() { return text_; }
  template <class... Args>
  void print(fmt::format_string<Args...> format, Args&&... args) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Args>(args)...);
  }

  // Writes what has been appended if that is worth a system call.
  Result<void> pass() { return is_due() ? flush() : Result<void>{}; }
  bool is_due() const { return text_.size() >= kWorth; }

  // Writes all of it. Call at the end.
  Result<void> flush();

 private:
  static constexpr std::size_t kWorth = std::size_t{64} * 1024;

  std::FILE* file_;
  std::string text_;
};

}  // namespace fairsale::cli
