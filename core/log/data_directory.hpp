// The frame of a data directory: its LOCK and VERSION files. rocks_log.hpp tells the whole.
#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

#include "core/log/files.hpp"
#include "core/log/result.hpp"

namespace fairsale {

// What to do about damage; ends the message of each refusal.
inline constexpr std::string_view kDamageAdvice =
    "Keep a copy of the directory as it is, then restore a backup; `fairsale "
    "repair` says what can be kept.";

// Creates the directory and those above it unless they are there, and makes its name durable.
Result<void> ensure_directory(const std::filesystem::path& directory);

// Creates the directory and its VERSION when they do not exist, checks VERSION otherwise, and
// locks the directory for as long as the returned file lives. Fails with busy, unsupported,
// damaged, invalid (the directory holds other things), full or io.
Result<File> take_directory(const std::filesystem::path&);

// Locks a directory in whatever state it is, for as long as the returned file lives. Adds a LOCK
// file when there is none. Fails with busy or io.
Result<File> lock_directory(const std::filesystem::path&);

// Whether a process has the directory open for writing.
bool is_taken(const std::filesystem::path&);

// Checks VERSION and changes nothing. Fails with not_found when this is no data directory.
Result<void> check_directory(const std::filesystem::path&);

// A new directory for temporary files, removed with all it holds at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() = default;
  ScratchDirectory(ScratchDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  ScratchDirectory& operator=(ScratchDirectory&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~ScratchDirectory();

  static Result<ScratchDirectory> create();

  // Empty for a default-constructed one.
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace fairsale
