// fairsale-sim SEED [SEEDS]: simulates SEEDS lives of a shop, one a seed, each twice.
//
// The first time everything is checked, the second time must take the same course. Exit code 0:
// all was as promised. 1: it was not; what happened is written to standard error, shortened to the
// steps that matter.
#include <fcntl.h>
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <string>

#include "core/domain/decision.hpp"
#include "sim_commit.hpp"
#include "tests/sim/simulation.hpp"

// There in a build with a sanitizer, which ends the process in its own way.
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*)());

namespace {

using namespace fairsale;
using namespace fairsale::sim;

constexpr unsigned kMaxAttempts = 400;         // at making a failure smaller
constexpr int kMaxSeconds = 15;                // of the same
constexpr long kMaxCpuSeconds = 3;             // of one life: it takes milliseconds
constexpr std::size_t kMaxLines = 120;         // of a trace
constexpr unsigned kEnoughToReachAll = 2'000;  // seeds

const char* commit() {
  const char* given = std::getenv("FAIRSALE_COMMIT");
  return given != nullptr ? given : FAIRSALE_SIM_COMMIT;
}

constexpr std::array kFatal{SIGABRT, SIGSEGV, SIGBUS, SIGVTALRM};

// An endless loop is a failure too.
void limit_cpu_time() {
  const itimerval limit{.it_interval = {}, .it_value = {.tv_sec = kMaxCpuSeconds, .tv_usec = 0}};
  ::setitimer(ITIMER_VIRTUAL, &limit, nullptr);
}

// Runs the seed in a process of its own, which may abort. Returns how it ended, as waitpid() does:
// 0 when all was as promised.
int status_of(std::uint64_t seed, const std::vector<bool>& skip, std::FILE* text) {
  const pid_t child = ::fork();
  if (child == 0) {
    for (const int s : kFatal) ::signal(s, SIG_DFL);
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(text != nullptr ? ::fileno(text) : nowhere, STDERR_FILENO);
    if (text != nullptr) std::setvbuf(text, nullptr, _IOLBF, 0);
    limit_cpu_time();
    const Report r = simulate(seed, {.text = text, .skip = &skip});
    if (r.failure && text != nullptr) std::fprintf(text, "%s\n", r.failure->c_str());
    if (text != nullptr) std::fflush(text);
    ::_exit(r.failure ? 1 : 0);
  }
  int status = 0;
  return child < 0 || ::waitpid(child, &status, 0) != child ? 0 : status;
}

// Delta debugging (A. Zeller, R. Hildebrandt, "Simplifying and isolating failure-inducing input",
// 2002) over the steps, which do not depend on one another's chance.
std::vector<bool> shorten(std::uint64_t seed) {
  std::vector<bool> skip(steps_of(seed), false);
  unsigned attempts = 0;
  const auto began = std::chrono::steady_clock::now();
  for (std::size_t size = skip.size(); size >= 1; size /= 2) {
    for (std::size_t end = skip.size(); end > 0 && attempts < kMaxAttempts;) {
      if (std::chrono::steady_clock::now() - began > std::chrono::seconds(kMaxSeconds)) return skip;
      const std::size_t begin = end > size ? end - size : 0;
      std::vector<bool> fewer = skip;
      for (std::size_t i = begin; i < end; ++i) fewer[i] = true;
      if (fewer != skip && ++attempts > 0 && status_of(seed, fewer, nullptr) != 0) skip = fewer;
      end = begin;
    }
  }
  return skip;
}

// Tells what goes wrong with a seed that is known to fail.
[[noreturn]] void explain(std::uint64_t seed) {
  const std::vector<bool> skip = shorten(seed);
  std::size_t left = 0;
  for (const bool skipped : skip) left += !skipped;
  fmt::print(stderr,
             "\nfairsale-sim: seed {} fails at commit {}; repeat with: fairsale-sim {}\n"
             "{} of its {} steps suffice; the last of them:\n",
             seed, commit(), seed, left, skip.size());
  std::FILE* text = std::tmpfile();
  const int status = text == nullptr ? 0 : status_of(seed, skip, text);
  if (status == 0) {
    fmt::print(stderr, "it did not fail again\n");
    std::exit(1);
  }
  std::rewind(text);
  std::vector<std::string> lines;
  std::array<char, 512> line;
  while (std::fgets(line.data(), line.size(), text) != nullptr) lines.emplace_back(line.data());
  for (std::size_t i = lines.size() > kMaxLines ? lines.size() - kMaxLines : 0; i < lines.size();
       ++i) {
    std::fputs(lines[i].c_str(), stderr);
  }
  if (WIFSIGNALED(status)) fmt::print(stderr, "ended by SIG{}\n", ::sigabbrev_np(WTERMSIG(status)));
  std::exit(1);
}

// An invariant of the product aborts the process. A new one then finds out how it came to that.
volatile std::uint64_t current_seed = 0;

extern "C" void explain_in_a_new_process(int) {
  std::array<char, 24> seed{};
  std::to_chars(seed.data(), seed.data() + seed.size() - 1, std::uint64_t{current_seed});
  std::array<char, 16> program{"fairsale-sim"};
  std::array<char, 16> flag{"--explain"};
  std::array<char*, 4> arguments{program.data(), flag.data(), seed.data(), nullptr};
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execv("/proc/self/exe", arguments.data());
  ::_exit(1);
}

// Tells where a seed takes another course the second time.
[[noreturn]] void explain_difference(std::uint64_t seed) {
  fmt::print(stderr, "fairsale-sim: seed {} at commit {} took another course the second time\n",
             seed, commit());
  std::array<std::FILE*, 2> text{std::tmpfile(), std::tmpfile()};
  for (std::size_t i = 0; i < 2; ++i) {
    if (text[i] == nullptr) std::exit(1);
    const Report r = simulate(seed, {.check = i == 0, .text = text[i]});
    std::fprintf(text[i], "%s\ntrace hash %016llx\n", r.failure.value_or("").c_str(),
                 static_cast<unsigned long long>(r.hash));
    std::rewind(text[i]);
  }
  std::array<std::array<char, 512>, 2> line;
  while (std::fgets(line[0].data(), 512, text[0]) != nullptr &&
         std::fgets(line[1].data(), 512, text[1]) != nullptr) {
    if (std::strcmp(line[0].data(), line[1].data()) == 0) continue;
    fmt::print(stderr, "first  {}second {}", line[0].data(), line[1].data());
    break;
  }
  std::exit(1);
}

struct Totals {
  std::uint64_t seeds = 0;
  std::uint64_t steps = 0;
  std::uint64_t events = 0;
  std::int64_t simulated_ms = 0;
  std::uint64_t restarts = 0;
  std::uint64_t refusals = 0;
  std::uint64_t commits_found = 0;
  std::uint64_t commits_lost = 0;
  std::uint64_t from_snapshot = 0;
  std::uint64_t kinds = 0;
  std::uint64_t reasons = 0;

  void add(const Totals& t) {
    seeds += t.seeds;
    steps += t.steps;
    events += t.events;
    simulated_ms += t.simulated_ms;
    restarts += t.restarts;
    refusals += t.refusals;
    commits_found += t.commits_found;
    commits_lost += t.commits_lost;
    from_snapshot += t.from_snapshot;
    kinds |= t.kinds;
    reasons |= t.reasons;
  }
};

Totals run(std::uint64_t first, std::uint64_t count) {
  Totals all;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    current_seed = seed;
    limit_cpu_time();
    const Report r = simulate(seed, {});
    if (r.failure) explain(seed);
    const Report again = simulate(seed, {.check = false});
    if (again.hash != r.hash) explain_difference(seed);
    all.add({1, r.steps, r.events, r.simulated_ms, r.restarts, r.refusals, r.commits_found,
             r.commits_lost, r.from_snapshot, r.kinds, r.reasons});
  }
  return all;
}

// Each job takes a part of the seeds in a process of its own.
Totals run_in_parallel(std::uint64_t first, std::uint64_t count, unsigned jobs) {
  struct Job {
    pid_t pid;
    int out;
  };
  std::vector<Job> running;
  for (unsigned j = 0; j < jobs; ++j) {
    const std::uint64_t from = first + count * j / jobs;
    const std::uint64_t to = first + count * (j + 1) / jobs;
    std::array<int, 2> ends;
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) std::exit(2);
    const pid_t pid = ::fork();
    if (pid == 0) {
      const Totals t = run(from, to - from);
      const bool told = ::write(ends[1], &t, sizeof(t)) == sizeof(t);
      ::_exit(told ? 0 : 2);
    }
    ::close(ends[1]);
    running.push_back({pid, ends[0]});
  }
  Totals all;
  int code = 0;
  for (std::size_t n = running.size(); n > 0; --n) {
    int status = 0;
    const pid_t pid = ::wait(&status);
    for (const Job& job : running) {
      if (job.pid != pid) {
        // One failure is enough to know.
        if (status != 0 && code == 0) ::kill(job.pid, SIGTERM);
        continue;
      }
      Totals t;
      if (status == 0 && ::read(job.out, &t, sizeof(t)) == sizeof(t)) all.add(t);
    }
    if (status != 0) code = 1;
  }
  if (code != 0) std::exit(code);
  return all;
}

// What no seed has led to is not tested.
bool reached_all(const Totals& t) {
  bool all = true;
  for (unsigned k = 1; k <= static_cast<unsigned>(DecisionKind::noted); ++k) {
    if ((t.kinds >> k & 1) != 0) continue;
    fmt::print(stderr, "no seed led to the decision {}\n", name_of(static_cast<DecisionKind>(k)));
    all = false;
  }
  for (unsigned r = 0; r <= static_cast<unsigned>(Reason::event_unsupported); ++r) {
    const auto reason = static_cast<Reason>(r);
    // Two billion attempts fill a sale; rules version 1 knows every event.
    if (reason == Reason::sale_full || reason == Reason::event_unsupported) continue;
    if ((t.reasons >> r & 1) != 0) continue;
    fmt::print(stderr, "no seed led to the reason {}\n", name_of(reason));
    all = false;
  }
  for (const auto& [count, what] : {std::pair{t.refusals, "a damaged store"},
                                    {t.commits_found, "a commit found"},
                                    {t.commits_lost, "a commit lost"},
                                    {t.from_snapshot, "a recovery from a snapshot"}}) {
    if (count != 0) continue;
    fmt::print(stderr, "no seed led to {}\n", what);
    all = false;
  }
  return all;
}

std::string grouped(std::uint64_t n) {
  std::string s = std::to_string(n);
  for (std::size_t i = s.size(); i > 3; i -= 3) s.insert(i - 3, ",");
  return s;
}

std::optional<std::uint64_t> number(const char* s) {
  std::uint64_t n = 0;
  const char* end = s + std::strlen(s);
  const auto [at, error] = std::from_chars(s, end, n);
  if (error != std::errc() || at != end) return std::nullopt;
  return n;
}

int usage() {
  fmt::print(stderr,
             "usage: fairsale-sim SEED [SEEDS] [--jobs N]\n"
             "       fairsale-sim --trace SEED      the whole course of one seed\n"
             "       fairsale-sim --explain SEED    the same of one that fails, shortened\n");
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  // Processes of the simulation take and free some large buffers each.
  ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
  ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
  std::vector<std::uint64_t> seeds;
  std::uint64_t jobs = 1;
  std::string flag;
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    const bool is_jobs = a == "--jobs" && i + 1 < argc;
    if (is_jobs) ++i;
    const auto n = number(argv[i]);
    if (a == "--trace" || a == "--explain") {
      flag = a;
    } else if (!n) {
      return usage();
    } else if (is_jobs) {
      jobs = *n;
    } else {
      seeds.push_back(*n);
    }
  }
  if (seeds.empty() || seeds.size() > 2 || jobs < 1 || jobs > 64) return usage();
  if (flag == "--explain") explain(seeds[0]);
  if (flag == "--trace") {
    const Report r = simulate(seeds[0], {.text = stdout});
    fmt::print("{}\n", r.failure.value_or(fmt::format("trace hash {:016x}", r.hash)));
    return r.failure ? 1 : 0;
  }

  for (const int s : kFatal) ::signal(s, explain_in_a_new_process);
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback([] { explain_in_a_new_process(0); });
  }
  const std::uint64_t count = seeds.size() > 1 ? seeds[1] : 1;
  const auto began = std::chrono::steady_clock::now();
  const Totals t = jobs > 1 ? run_in_parallel(seeds[0], count, static_cast<unsigned>(jobs))
                            : run(seeds[0], count);
  const std::chrono::duration<double> real = std::chrono::steady_clock::now() - began;
  const double speed = static_cast<double>(t.simulated_ms) / 1000 / real.count();

  const std::vector<std::pair<std::string, std::string>> figures{
      {"simulated lives (seeds), each run twice", grouped(t.seeds)},
      {"steps of them", grouped(t.steps)},
      {"events folded", grouped(t.events)},
      {"deaths and restarts of a simulated process", grouped(t.restarts)},
      {"damaged stores, all refused", grouped(t.refusals)},
      {"commits that a crash left in doubt: found whole", grouped(t.commits_found)},
      {"commits that a crash left in doubt: lost whole", grouped(t.commits_lost)},
      {"recoveries of a sale from a snapshot", grouped(t.from_snapshot)},
      {"simulated time", fmt::format("{} days", t.simulated_ms / 86'400'000)},
      {"simulated time / real time", grouped(static_cast<std::uint64_t>(speed))},
      {"promises broken in simulation", "0"}};
  for (const auto& [what, value] : figures) fmt::print("{:<48} {}\n", what, value);
  fmt::print("{:<48} {:.1f} s\n", "real time", real.count());
  if (const char* file = std::getenv("FAIRSALE_FIGURES"); file != nullptr && *file != '\0') {
    std::ofstream out(file, std::ios::app);
    for (const auto& [what, value] : figures) out << what << '\t' << value << '\n';
  }
  if (count >= 100 && speed < 1000) {
    fmt::print(stderr, "simulated time runs only {:.0f} times as fast as real time\n", speed);
    return 1;
  }
  return count >= kEnoughToReachAll && !reached_all(t) ? 1 : 0;
}
