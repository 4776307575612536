#include "tests/faults/child.hpp"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>

namespace fairsale::faults {

namespace {
// Seconds, counted one by one, so that a machine that stood still for a while is not a hang.
constexpr int kPatience = 60;
volatile std::sig_atomic_t silent_for = 0;

void on_second(int) {
  silent_for = silent_for + 1;
  if (silent_for < kPatience) return;
  std::signal(SIGALRM, SIG_DFL);
  ::raise(SIGALRM);
}
}  // namespace

Children::Children() {
  void* memory =
      ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  shared_ = new (memory) Shared();
}

Children::~Children() { ::munmap(shared_, sizeof(Shared)); }

std::optional<std::string> Children::run(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child == 0) {
    doing("starting");
    std::signal(SIGALRM, on_second);
    const itimerval second{{1, 0}, {1, 0}};
    ::setitimer(ITIMER_REAL, &second, nullptr);
    try {
      body();
    } catch (const std::exception& e) {
      ADD_FAILURE() << "an exception: " << e.what();
    }
    std::fflush(nullptr);
    ::_exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child) return "no child process";
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
  const std::string how = !WIFSIGNALED(status)          ? "failed"
                          : WTERMSIG(status) == SIGALRM ? "hangs"
                                                        : strsignal(WTERMSIG(status));
  return fmt::format("{}: {}", how, shared_->doing);
}

void Children::doing(const std::string& what) {
  std::strncpy(shared_->doing, what.c_str(), sizeof(shared_->doing) - 1);
  silent_for = 0;
}

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

bool soak() { return std::getenv("FAIRSALE_SOAK") != nullptr; }

void figure(const std::string& what, std::uint64_t value) {
  const char* name = std::getenv("FAIRSALE_FIGURES");
  if (name == nullptr || !soak()) return;
  std::string digits = std::to_string(value);
  for (std::size_t at = digits.size(); at > 3;) digits.insert(at -= 3, ",");
  if (std::FILE* file = std::fopen(name, "a")) {
    fmt::print(file, "{}\t{}\n", what, digits);
    std::fclose(file);
  }
}

}  // namespace fairsale::faults
