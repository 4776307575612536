// Stands between this program and the system: sees every call that changes a file under one
// directory, makes a Disk of them, and lets calls fail that a test wants to fail.
//
// The functions of the C library that files are changed with are defined here once more, and the
// loader prefers a program's own to those of libraries. So this covers RocksDB, the standard
// library and our own code alike. What is not covered would show: a test compares what was recorded
// with what lies in the directory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/faults/disk.hpp"

namespace fairsale::faults {

enum class Call { open, read, write, resize, rename, sync };
inline constexpr Call kCalls[] = {Call::open,   Call::read,   Call::write,
                                  Call::resize, Call::rename, Call::sync};

std::string_view name_of(Call);

// Which calls fail, and how.
struct Failure {
  Call call = Call::sync;
  std::function<bool(std::string_view path)> of;  // relative to the root; none: any file
  std::uint64_t after = 0;                        // as many of these calls go well before
  int error = 5;                                  // errno
  bool lasting = false;                           // all of them fail from then on
};

// A call that was made to fail.
struct Failed {
  std::size_t at;  // as many operations had been recorded
  Call call;
  std::string path;
  bool room_ahead;  // it was to write nothing but zeros
  std::thread::id thread;
};

// At most one at a time. It records from its construction on, on all threads; files that are open
// by then are not seen. Syncs under the directory are recorded but not passed on, since nobody
// pulls the plug of the machine that runs the tests.
class Recorder {
 public:
  // Goes on recording a disk whose tree, after all its operations, is what lies under `root`.
  Recorder(std::filesystem::path root, Disk& disk);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  // As many operations have been recorded.
  std::size_t now() const;

  void fail(std::optional<Failure>);
  std::vector<Failed> failed() const;
  // How often this has been called so far.
  std::uint64_t calls(Call) const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace fairsale::faults
