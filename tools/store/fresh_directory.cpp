#include "tools/store/fresh_directory.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>

#include "core/log/files.hpp"

namespace fairsale::cli {

namespace fs = std::filesystem;

fs::path directory_path(const std::string& named) {
  std::error_code ec;
  fs::path path = fs::absolute(named, ec).lexically_normal();
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

}  // namespace fairsale::cli
