// Directories that appear whole under their name or not at all.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>

#include "core/log/result.hpp"

namespace fairsale::cli {

// The absolute path of a directory that the user named, whatever links lead there: what is made
// beside it is on the same disk. Without a slash at its end: with one, what is appended to the path
// would lie inside of the directory.
std::filesystem::path directory_path(const std::string& named);

// A directory that is made beside another, to take its place. Removed with all it holds unless it
// does.
class FreshDirectory {
 public:
  // "<target>.<doing>-<process id>"; it is not created yet. Fails with invalid when something of
  // that name is there already: it is not ours to remove.
  static Result<FreshDirectory> beside(const std::filesystem::path& target, std::string_view doing);

  FreshDirectory(FreshDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  FreshDirectory& operator=(FreshDirectory&&) = delete;
  ~FreshDirectory();

  const std::filesystem::path& path() const { return path_; }

  // Renames it, onto nothing or an empty directory, and returns after that is durable.
  Result<void> move_to(const std::filesystem::path& target);

  // Takes the place of `target`, which is then found at `aside`; in one step where the file system
  // can, so that nobody finds `target` missing. Returns after that is durable. On failure `target`
  // is as it was, unless the message tells where it is.
  Result<void> replace(const std::filesystem::path& target, const std::filesystem::path& aside);

 private:
  explicit FreshDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;  // empty once it has been moved
};

}  // namespace fairsale::cli
