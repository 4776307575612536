// The few POSIX file operations that the log needs, with failures as values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <utility>

#include "core/log/result.hpp"

namespace fairsale {

// Owns a file descriptor.
class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  ~File();
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }

  int fd() const { return fd_; }

 private:
  int fd_ = -1;
};

// "cannot <what> <path>: <reason>"; Fault::full when there is no space, not_found when there is no
// such file, else io.
tl::unexpected<Error> system_failure(std::string_view what, const std::filesystem::path&,
                                     int error_number);

// `flags` and `mode` as for open(2); close-on-exec is added.
Result<File> open_file(const std::filesystem::path&, int flags, unsigned mode = 0644);

Result<void> write_at(const File&, const std::filesystem::path& name, std::uint64_t offset,
                      std::span<const std::byte>);

// Reads until `out` is full or the file ends, and returns how much was read.
Result<std::size_t> read_at(const File&, const std::filesystem::path& name, std::uint64_t offset,
                            std::span<std::byte> out);

// fdatasync.
Result<void> sync_file(const File&, const std::filesystem::path& name);

// Makes the names in a directory durable.
Result<void> sync_directory(const std::filesystem::path&);

// Creates a file with this content, durably, or leaves none of that name.
Result<void> create_durably(const std::filesystem::path&, std::span<const std::byte>);

}  // namespace fairsale
