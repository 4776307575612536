#include "tools/store/fresh_directory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "core/log/files.hpp"

namespace fairsale::cli {

namespace fs = std::filesystem;

fs::path directory_path(const std::string& named) {
  std::error_code ec;
  const fs::path absolute = fs::absolute(named, ec);
  fs::path path = fs::weakly_canonical(absolute, ec);
  if (ec) path = absolute.lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return path;
}

Result<FreshDirectory> FreshDirectory::beside(const fs::path& target, std::string_view doing) {
  fs::path path = target;
  path += fmt::format(".{}-{}", doing, ::getpid());
  std::error_code ec;
  if (fs::exists(fs::symlink_status(path, ec))) {
    return fail(Fault::invalid,
                fmt::format("{} is in the way: something that was cut short has left it; move it "
                            "away or remove it",
                            path.string()));
  }
  return FreshDirectory(std::move(path));
}

FreshDirectory::~FreshDirectory() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

Result<void> FreshDirectory::move_to(const fs::path& target) {
  if (std::rename(path_.c_str(), target.c_str()) != 0) {
    return system_failure(fmt::format("move {} to", path_.string()), target, errno);
  }
  path_.clear();
  return sync_directory(target.parent_path());
}

Result<void> FreshDirectory::replace(const fs::path& target, const fs::path& aside) {
  std::error_code ec;
  if (fs::exists(fs::symlink_status(aside, ec))) {
    return fail(Fault::invalid, fmt::format("{} is in the way; move it away", aside.string()));
  }
  if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target.c_str(), RENAME_EXCHANGE) == 0) {
    const fs::path original = std::exchange(path_, {});
    if (std::rename(original.c_str(), aside.c_str()) != 0) {
      return fail(Fault::io, fmt::format("{} was replaced, but the original is left as {}: {}",
                                         target.string(), original.string(), std::strerror(errno)));
    }
    return sync_directory(target.parent_path());
  }
  if (errno == EBUSY) {
    return fail(Fault::io,
                fmt::format("{} cannot be renamed, as a mount point cannot; copy it to a directory "
                            "of its own and repair that",
                            target.string()));
  }
  if (errno != EINVAL && errno != ENOSYS) {
    return system_failure(fmt::format("move {} to", path_.string()), target, errno);
  }
  if (std::rename(target.c_str(), aside.c_str()) != 0) {
    return system_failure(fmt::format("move {} to", target.string()), aside, errno);
  }
  auto moved = move_to(target);
  if (moved || path_.empty()) return moved;
  if (std::rename(aside.c_str(), target.c_str()) != 0) {
    moved.error().message += fmt::format("; and {} is now {}", target.string(), aside.string());
  }
  return moved;
}

}  // namespace fairsale::cli
