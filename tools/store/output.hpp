// What a command writes to stdout, in large pieces, with failures as values: a full disk behind a
// redirection must not pass for a whole file.
#pragma once

#include <cstdio>
#include <string>

#include "core/log/result.hpp"

namespace fairsale::cli {

// Not thread-safe.
class Output {
 public:
  // `file` outlives it.
  explicit Output(std::FILE* file) : file_(file) {}

  // Append to this, then call pass().
  std::string& text() { return text_; }

  // Writes what has been appended if that is worth a system call.
  Result<void> pass() { return text_.size() < kWorth ? Result<void>{} : flush(); }

  // Writes all of it. Call at the end.
  Result<void> flush();

 private:
  static constexpr std::size_t kWorth = std::size_t{64} * 1024;

  std::FILE* file_;
  std::string text_;
};

}  // namespace fairsale::cli
