// fairsale-cluster-sim SEED [SEEDS] [--jobs N]: simulates SEEDS lives of a cluster, one a seed,
// each twice, which must take the same course. Exit code 1: something was not as promised; standard
// error tells the seed and how it came to that.
#include <fmt/format.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <vector>

#include "tests/sim/cluster/cluster.hpp"

static_assert(std::is_trivially_copyable_v<fairsale::sim::ClusterCounts>, "sent through a pipe");

namespace {

using fairsale::sim::ClusterCounts;
using fairsale::sim::ClusterReport;
using fairsale::sim::simulate_cluster;

constexpr std::uint64_t kEnoughToReachAll = 1'000;  // seeds

volatile std::uint64_t current_seed = 0;

// An invariant of the product aborts the process.
extern "C" void name_the_seed(int) {
  std::array<char, 64> text{"fairsale-cluster-sim: aborted; repeat with --trace "};
  char* at = text.data() + std::strlen(text.data());
  at = std::to_chars(at, text.data() + text.size() - 1, std::uint64_t{current_seed}).ptr;
  *at++ = '\n';
  (void)!::write(2, text.data(), static_cast<std::size_t>(at - text.data()));
  ::_exit(1);
}

ClusterCounts run(std::uint64_t first, std::uint64_t count) {
  ClusterCounts all;
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    current_seed = seed;
    const ClusterReport r = simulate_cluster(seed, nullptr);
    if (r.failure) {
      fmt::print(stderr, "fairsale-cluster-sim: seed {} fails; repeat with --trace {}\n", seed,
                 seed);
      const ClusterReport again = simulate_cluster(seed, stderr);
      fmt::print(stderr, "{}\n", again.failure.value_or("it did not fail again"));
      std::exit(1);
    }
    if (simulate_cluster(seed, nullptr).hash != r.hash) {
      fmt::print(stderr, "fairsale-cluster-sim: seed {} took another course the second time\n",
                 seed);
      std::exit(1);
    }
    all += r.counts;
  }
  return all;
}

ClusterCounts run_in_parallel(std::uint64_t first, std::uint64_t count, std::uint64_t jobs) {
  std::vector<std::pair<pid_t, int>> running;
  for (std::uint64_t j = 0; j < jobs; ++j) {
    const std::uint64_t from = first + count * j / jobs;
    const std::uint64_t to = first + count * (j + 1) / jobs;
    std::array<int, 2> ends;
    if (::pipe(ends.data()) != 0) std::exit(2);
    const pid_t pid = ::fork();
    if (pid == 0) {
      const ClusterCounts counts = run(from, to - from);
      ::_exit(::write(ends[1], &counts, sizeof counts) == sizeof counts ? 0 : 2);
    }
    ::close(ends[1]);
    running.emplace_back(pid, ends[0]);
  }
  ClusterCounts all;
  bool failed = false;
  for (const auto& [pid, out] : running) {
    ClusterCounts counts;
    int status = 0;
    const bool told = ::read(out, &counts, sizeof counts) == sizeof counts;
    ::waitpid(pid, &status, 0);
    if (!told || status != 0) failed = true;
    if (told) all += counts;
  }
  if (failed) std::exit(1);
  return all;
}

std::string grouped(std::uint64_t n) {
  std::string s = std::to_string(n);
  for (std::size_t i = s.size(); i > 3; i -= 3) s.insert(i - 3, ",");
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::uint64_t> numbers;
  std::uint64_t jobs = 1;
  bool trace = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    if (a == "--trace") {
      trace = true;
      continue;
    }
    const bool is_jobs = a == "--jobs" && i + 1 < argc;
    if (is_jobs) ++i;
    char* end = nullptr;
    const std::uint64_t n = std::strtoull(argv[i], &end, 10);
    if (*end != '\0' || argv[i][0] == '\0') numbers.assign(3, 0);
    (is_jobs ? jobs : numbers.emplace_back()) = n;
  }
  if (numbers.empty() || numbers.size() > 2 || jobs < 1 || jobs > 64) {
    fmt::print(stderr,
               "usage: fairsale-cluster-sim SEED [SEEDS] [--jobs N]\n"
               "       fairsale-cluster-sim --trace SEED\n");
    return 2;
  }
  if (trace) {
    const ClusterReport r = simulate_cluster(numbers[0], stdout);
    fmt::print("{}\n", r.failure.value_or(fmt::format("trace hash {:016x}", r.hash)));
    return r.failure ? 1 : 0;
  }
  ::signal(SIGABRT, name_the_seed);
  const std::uint64_t count = numbers.size() > 1 ? numbers[1] : 1;
  const auto began = std::chrono::steady_clock::now();
  const ClusterCounts s =
      jobs > 1 ? run_in_parallel(numbers[0], count, jobs) : run(numbers[0], count);
  const std::chrono::duration<double> real = std::chrono::steady_clock::now() - began;
  const std::vector<std::pair<std::string, std::uint64_t>> figures{
      {"lives of a cluster (seeds), each run twice", s.lives},
      {"batches that a stream stored", s.batches},
      {"answers let through, all true to the end", s.accepted},
      {"batches whose outcome an origin did not learn", s.lost_replies},
      {"messages lost", s.lost},
      {"messages repeated", s.repeated},
      {"messages overtaken by one that was sent later", s.overtaken},
      {"times that two processors decided a partition by different streams", s.two_owners},
      {"deaths of processors and origins", s.deaths},
      {"times that a processor went over to a partition's next stream", s.turnovers},
      {"blocks beyond a cut that were taken back", s.taken_back},
      {"losses of what a stream had acknowledged", s.stream_losses},
      {"partitions that stopped on a processor", s.stopped},
      {"logs that had parted", s.forks},
      {"streams made anew from the agreed log", s.reseeds},
      {"batches on which processors differed, none let through by both", s.disagreements},
      {"divergent answers let through", 0}};
  bool reached_all = true;
  for (const auto& [what, n] : figures) {
    fmt::print("{:<64} {:>14}\n", what, grouped(n));
    if (n == 0 && &what != &figures.back().first) {
      reached_all = false;
    }
  }
  fmt::print("{:<64} {:>12.1f} s\n", "real time", real.count());
  if (const char* file = std::getenv("FAIRSALE_FIGURES"); file != nullptr && *file != '\0') {
    std::ofstream out(file, std::ios::app);
    for (const auto& [what, n] : figures) out << what << '\t' << grouped(n) << '\n';
  }
  if (count >= kEnoughToReachAll && !reached_all) {
    fmt::print(stderr, "what no seed has led to is not tested\n");
    return 1;
  }
  return 0;
}
