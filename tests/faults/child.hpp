// Work in child processes, so that one that aborts, hangs or is refused memory is a failed test
// and not the end of all of them.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

namespace fairsale::faults {

// Shared by a process and its children.
class Children {
 public:
  Children();
  ~Children();
  Children(const Children&) = delete;
  Children& operator=(const Children&) = delete;

  // Runs `body` in a child. Returns what went wrong when the child failed a test, died, or said
  // nothing (doing()) for a minute; nothing when all is well. The parent must not have used
  // RocksDB, whose threads a child would miss, nor have failed a test, since the child inherits
  // that.
  std::optional<std::string> run(const std::function<void()>& body);

  // Called in the child: what it does now, which is told if it does not come to an end.
  void doing(const std::string& what);

  // Numbers that children add to.
  std::atomic<std::uint64_t>& operator[](std::size_t i) { return shared_->counts[i]; }

 private:
  struct Shared {
    std::array<std::atomic<std::uint64_t>, 64> counts;
    char doing[1024];
  };
  Shared* shared_;
};

// A number that the environment may give.
std::uint64_t from_environment(const char* name, std::uint64_t otherwise);

// Whether the long tests were asked for.
bool soak();

// Adds a line to the file that FAIRSALE_FIGURES names, if this is a soak.
void figure(const std::string& what, std::uint64_t value);

}  // namespace fairsale::faults
