#include "core/log/files.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

namespace fairsale {

File::~File() {
  if (fd_ >= 0) ::close(fd_);
}

tl::unexpected<Error> system_failure(std::string_view what, const std::filesystem::path& path,
                                     int error_number) {
  const bool full = error_number == ENOSPC || error_number == EDQUOT;
  const Fault fault = full ? Fault::full : error_number == ENOENT ? Fault::not_found : Fault::io;
  return fail(fault, fmt::format("cannot {} {}: {}{}", what, path.string(),
                                 std::generic_category().message(error_number),
                                 full ? "; free some space and start again" : ""));
}

Result<File> open_file(const std::filesystem::path& path, int flags, unsigned mode) {
  const int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  if (fd < 0) return system_failure("open", path, errno);
  return File(fd);
}

Result<void> write_at(const File& file, const std::filesystem::path& name, std::uint64_t offset,
                      std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::pwrite(file.fd(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_failure("write", name, errno);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<std::size_t> read_at(const File& file, const std::filesystem::path& name,
                            std::uint64_t offset, std::span<std::byte> out) {
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n =
        ::pread(file.fd(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_failure("read", name, errno);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<void> sync_file(const File& file, const std::filesystem::path& name) {
  if (::fdatasync(file.fd()) != 0) return system_failure("sync", name, errno);
  return {};
}

Result<void> sync_directory(const std::filesystem::path& path) {
  auto directory = open_file(path, O_RDONLY | O_DIRECTORY);
  if (!directory) return tl::unexpected(directory.error());
  if (::fsync(directory->fd()) != 0) return system_failure("sync", path, errno);
  return {};
}

Result<void> create_durably(const std::filesystem::path& path, std::span<const std::byte> bytes) {
  std::filesystem::path fresh = path;
  fresh += ".new";
  auto file = open_file(fresh, O_WRONLY | O_CREAT | O_TRUNC);
  if (!file) return tl::unexpected(file.error());
  if (auto ok = write_at(*file, fresh, 0, bytes); !ok) return ok;
  if (auto ok = sync_file(*file, fresh); !ok) return ok;
  if (::rename(fresh.c_str(), path.c_str()) != 0) return system_failure("create", path, errno);
  return sync_directory(path.parent_path());
}

}  // namespace fairsale
