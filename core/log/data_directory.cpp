#include "core/log/data_directory.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace fairsale {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view kVersionText = "fairsale data 1\n";

Result<void> check_version(const fs::path& directory) {
  const fs::path path = directory / "VERSION";
  const auto file = open_file(path, O_RDONLY);
  if (!file) return tl::unexpected(file.error());
  std::array<std::byte, 64> bytes;
  const auto n = read_at(*file, path, 0, bytes);
  if (!n) return tl::unexpected(n.error());
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), *n);
  if (text == kVersionText) return {};
  constexpr std::string_view kFamily = "fairsale data ";
  if (text.starts_with(kFamily)) {
    return fail(Fault::unsupported,
                fmt::format("{} says \"{}\": written by a newer fairsale; use that one",
                            path.string(), text.substr(0, text.find('\n'))));
  }
  return fail(Fault::damaged,
              fmt::format("{} does not say \"{}\". {}", path.string(),
                          kVersionText.substr(0, kVersionText.size() - 1), kDamageAdvice));
}

tl::unexpected<Error> no_version(const fs::path& directory) {
  return fail(Fault::damaged, fmt::format("{} has a log but no VERSION file. {}",
                                          directory.string(), kDamageAdvice));
}

// Creates VERSION in a directory that holds nothing else, or checks it.
Result<void> prepare_version(const fs::path& directory) {
  std::error_code ec;
  if (fs::exists(directory / "VERSION", ec)) {
    if (auto ok = check_version(directory); !ok) return ok;
    // Whoever created it may have been killed before its name was durable.
    return sync_directory(directory);
  }
  if (fs::exists(directory / "log", ec)) return no_version(directory);
  for (auto it = fs::directory_iterator(directory, ec); !ec && it != fs::directory_iterator();
       it.increment(ec)) {
    const std::string name = it->path().filename().string();
    if (name == "LOCK" || name == "VERSION.new" || name == "lost+found") continue;
    return fail(Fault::invalid,
                fmt::format("{} holds other files ({}) and no fairsale data; give an empty or new "
                            "directory",
                            directory.string(), name));
  }
  if (ec) return system_failure("list", directory, ec.value());
  return create_durably(directory / "VERSION",
                        std::as_bytes(std::span(kVersionText.data(), kVersionText.size())));
}

}  // namespace

Result<void> ensure_directory(const fs::path& directory) {
  std::error_code ec;
  fs::path path = fs::absolute(directory, ec).lexically_normal();
  if (ec) return system_failure("find", directory, ec.value());
  if (!path.has_filename()) path = path.parent_path();
  std::vector<fs::path> missing;
  for (fs::path p = path; !fs::exists(p, ec) && p != p.parent_path(); p = p.parent_path()) {
    missing.push_back(p);
  }
  for (; !missing.empty(); missing.pop_back()) {
    fs::create_directory(missing.back(), ec);
    if (ec) return system_failure("create", missing.back(), ec.value());
    if (auto ok = sync_directory(missing.back().parent_path()); !ok) return ok;
  }
  // Whoever created it may have been killed, or not have cared, before its name was durable. Where
  // we may not look it was somebody else.
  const auto above = open_file(path.parent_path(), O_RDONLY | O_DIRECTORY);
  if (above && ::fsync(above->fd()) != 0) return system_failure("sync", path.parent_path(), errno);
  return {};
}

Result<File> take_directory(const fs::path& directory) {
  if (auto ok = ensure_directory(directory); !ok) return tl::unexpected(ok.error());
  auto lock = lock_directory(directory);
  if (!lock) return lock;
  if (auto ok = prepare_version(directory); !ok) return tl::unexpected(ok.error());
  return lock;
}

Result<File> lock_directory(const fs::path& directory) {
  const fs::path path = directory / "LOCK";
  auto file = open_file(path, O_RDWR | O_CREAT);
  if (!file) return file;
  // A reader that asks whether the lock is taken holds it for a moment (is_taken()).
  int locked = ::flock(file->fd(), LOCK_EX | LOCK_NB);
  for (int i = 0; i < 20 && locked != 0 && errno == EWOULDBLOCK; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    locked = ::flock(file->fd(), LOCK_EX | LOCK_NB);
  }
  if (locked != 0) {
    if (errno != EWOULDBLOCK) return system_failure("lock", path, errno);
    return fail(Fault::busy,
                fmt::format("{} is open in another process; stop that one first, or use another "
                            "directory",
                            directory.string()));
  }
  return file;
}

bool is_taken(const fs::path& directory) {
  const auto file = open_file(directory / "LOCK", O_RDONLY);
  // A shared lock keeps no other reader out, and is gone at once; a writer tries again.
  return file && ::flock(file->fd(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

Result<void> check_directory(const fs::path& directory) {
  auto ok = check_version(directory);
  std::error_code ec;
  if (!ok && ok.error().fault == Fault::not_found) {
    if (fs::exists(directory / "log", ec)) return no_version(directory);
    return fail(Fault::not_found,
                fmt::format("{} is not a fairsale data directory", directory.string()));
  }
  return ok;
}

ScratchDirectory::~ScratchDirectory() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
}

Result<ScratchDirectory> ScratchDirectory::create() {
  std::error_code ec;
  std::string name = (fs::temp_directory_path(ec) / "fairsale-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) return system_failure("create", name, errno);
  ScratchDirectory d;
  d.path_ = name;
  return d;
}

}  // namespace fairsale
