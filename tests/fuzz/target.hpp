// What a fuzz target is: one program for each decoder or edge that outsiders' bytes come to, which
// judges one input at a time. In the preset "fuzz" libFuzzer drives it; everywhere else a main of
// its own (standalone.cpp) feeds it the kept inputs and seeded mutations of them.
//
// An input's verdict depends on nothing but the input, so that what fails once fails again.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fairsale::fuzz {

// Judges one input: returns when all promises held, ends the process when one did not.
void judge(std::string_view input);

// Inputs to begin with that no text editor could keep: made from golden files and by the encoders.
std::vector<std::string> seeds();

// A promise that every input must leave standing.
inline void expect(bool holds, std::string_view promise, std::string_view found = {}) {
  if (holds) return;
  std::fprintf(stderr, "broken promise: %.*s\n", static_cast<int>(promise.size()), promise.data());
  if (!found.empty()) {
    std::fprintf(stderr, "found: %.*s\n", static_cast<int>(found.size()), found.data());
  }
  std::abort();
}

// Takes choices off the front of an input; what is left is the payload. Reads zeros past the end.
class Choices {
 public:
  explicit Choices(std::string_view input) : rest_(input) {}

  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    const auto b = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return b;
  }
  std::string_view take(std::size_t n) {
    const std::string_view s = rest_.substr(0, n);
    rest_.remove_prefix(s.size());
    return s;
  }
  // Up to the next newline, which is dropped.
  std::string_view line() {
    const std::size_t end = rest_.find('\n');
    const std::string_view s = rest_.substr(0, end);
    rest_.remove_prefix(std::min(s.size() + 1, rest_.size()));
    return s;
  }
  std::string_view rest() const { return rest_; }

 private:
  std::string_view rest_;
};

inline std::span<const std::byte> bytes_of(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}
inline std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The lines of a golden file, named from the top of the sources; and hexadecimal digits as bytes.
std::vector<std::string> golden_lines(std::string_view file);
std::string from_hex(std::string_view digits);

// A file in memory with a path, for decoders that read files. One at a time.
class MemoryFile {
 public:
  MemoryFile();
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  void write(std::string_view content);
  const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  std::string path_;
};

// A directory for this process in memory (/dev/shm) or else under $TMPDIR; removed at the end.
class Directory {
 public:
  Directory();
  ~Directory();
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Replaces a file's content.
void write_file(const std::string& path, std::string_view content);

}  // namespace fairsale::fuzz
