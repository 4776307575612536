#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

namespace {

void put(int fd, std::string_view content) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    expect(n > 0, "there is room for the input");
    content.remove_prefix(static_cast<std::size_t>(n));
  }
}

}  // namespace

std::vector<std::string> golden_lines(std::string_view file) {
  const std::string path = std::string(FAIRSALE_SOURCE_DIR "/") + std::string(file);
  std::ifstream in(path);
  expect(in.good(), "the golden files are there", path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

std::string from_hex(std::string_view digits) {
  std::string out;
  for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
    out += static_cast<char>(std::stoi(std::string(digits.substr(i, 2)), nullptr, 16));
  }
  return out;
}

MemoryFile::MemoryFile() : fd_(::memfd_create("input", MFD_CLOEXEC)) {
  expect(fd_ >= 0, "the kernel has files in memory");
  path_ = "/proc/self/fd/" + std::to_string(fd_);
}

MemoryFile::~MemoryFile() { ::close(fd_); }

void MemoryFile::write(std::string_view content) {
  expect(::ftruncate(fd_, 0) == 0 && ::lseek(fd_, 0, SEEK_SET) == 0, "a memory file is emptied");
  put(fd_, content);
}

Directory::Directory() {
  const bool memory = ::access("/dev/shm", W_OK) == 0;
  std::string pattern =
      (memory ? "/dev/shm" : std::filesystem::temp_directory_path().string()) + "/fuzz-XXXXXX";
  expect(::mkdtemp(pattern.data()) != nullptr, "a directory can be made", pattern);
  path_ = pattern;
}

Directory::~Directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void write_file(const std::string& path, std::string_view content) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  expect(fd >= 0, "the input can be put into a file", path);
  put(fd, content);
  ::close(fd);
}

}  // namespace fairsale::fuzz
