// The store after a power failure at any operation: whatever the disk may hold then, it opens, has
// everything that was acknowledged and nothing that was not submitted, and goes on.
//
// All chance comes from one seed, which is printed. To repeat a run that failed:
//   FAIRSALE_FAULTS_SEED=<seed> FAIRSALE_FAULTS_RUN=<run> faults_test --gtest_filter=...
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <climits>

#include "tests/faults/child.hpp"
#include "tests/faults/projected.hpp"
#include "tests/faults/witness.hpp"
#include "tests/log/support.hpp"

namespace fairsale::faults {
namespace {

namespace fs = std::filesystem;
using fairsale::testing::TempDir;

enum Count : std::size_t {
  kPoints,  // crash points
  kKills,   // of these, as after a kill: the system lives on
  kLost,
  kKept,  // acknowledged events that had to be there and were
  kNotes,
  kSnapshots,
  kInjected,
  kRefusedStarts,
  kEvents,
};

std::uint64_t seed() { return from_environment("FAIRSALE_FAULTS_SEED", 20'261'127); }

std::size_t random_write_buffer(Chance& chance) {
  return one_in(chance, 3) ? std::size_t{64} << 20 : std::size_t{64} << 10;
}

// Runs `body(run, chance)` in a child for each run, or for the one that the environment names.
void each_run(Children& children, const char* test, std::uint64_t runs,
              const std::function<void(std::uint64_t, Chance&)>& body) {
  const std::uint64_t only = from_environment("FAIRSALE_FAULTS_RUN", ULLONG_MAX);
  for (std::uint64_t run = 0; run < runs; ++run) {
    if (only != ULLONG_MAX && run != only) continue;
    const auto wrong = children.run([&] {
      Chance chance(seed() * 100'000 + run);
      body(run, chance);
    });
    if (!wrong) continue;
    FAIL() << *wrong << "\nrepeat with FAIRSALE_FAULTS_SEED=" << seed()
           << " FAIRSALE_FAULTS_RUN=" << run << " faults_test --gtest_filter=" << test;
  }
}

// Opens the store, looks at it, and begins a life with what was found. `counts` as it must be.
std::unique_ptr<EventLog> begin_life(const fs::path& data, const Expected& expected,
                                     std::size_t write_buffer, const Recorder& recorder,
                                     Children& children, Life& life) {
  RecoveryReport report;
  auto log = open_rocks_log({.directory = data, .write_buffer = write_buffer}, report);
  if (!log) {
    ADD_FAILURE() << "refused: " << log.error().message;
    children[kLost] += expected.events();
    return nullptr;
  }
  life.opened = recorder.now();
  const Look found = look(**log, expected);
  life.found = found.found;
  children[kLost] += found.lost;
  children[kKept] += expected.events();
  children[kNotes] += report.notes.size();
  children[kSnapshots] += found.snapshots;
  return std::move(*log);
}

// Opens, trades and closes a store some times.
void live(const fs::path& root, unsigned lives, Disk& disk, History& history, Children& children,
          Chance& chance) {
  Recorder recorder(root, disk);
  for (unsigned i = 0; i < lives; ++i) {
    const Expected expected = history.expected(ULLONG_MAX - 1);
    Life& life = history.lives.emplace_back();
    life.opened = ULLONG_MAX;
    const auto log =
        begin_life(root / "data", expected, random_write_buffer(chance), recorder, children, life);
    if (!log) return;
    Witness witness(*log, life, recorder);
    trade(witness,
          {.turns = 1 + static_cast<unsigned>(below(chance, 12)),
           .threads = one_in(chance, 3) ? 2U : 1U},
          chance);
    for (const auto& c : life.commits) EXPECT_TRUE(c.acknowledged);
  }
}

// Lets a disk's files be as they may be after a crash before operation k. Returns the disk that
// whoever comes next finds: after a kill, with a cache that still has to be written.
Disk crash(const Disk& disk, Replay& replay, std::size_t k, bool kill, const fs::path& to,
           Chance& chance) {
  replay.advance(k, chance);
  if (kill) {
    write_tree(replay.seen(), to);
    return {disk.start,
            {disk.operations.begin(), disk.operations.begin() + static_cast<std::ptrdiff_t>(k)}};
  }
  Disk left{replay.after_power_failure(chance), {}};
  write_tree(left.start, to);
  return left;
}

// Fails when a file is not as the recorder says it must be.
void expect_all_recorded(const Disk& disk, const fs::path& root) {
  Chance chance(1);
  Replay replay(disk);
  replay.advance(disk.operations.size(), chance);
  const Tree recorded = replay.seen();
  const Tree there = read_tree(root);
  const auto a = recorded.files();
  const auto b = there.files();
  ASSERT_EQ(a.size(), b.size());
  for (auto i = a.begin(), j = b.begin(); i != a.end(); ++i, ++j) {
    EXPECT_EQ(i->first, j->first);
    EXPECT_TRUE(*i->second == *j->second) << i->first << " was changed behind the recorder's back";
  }
}

// What a reader finds on a store at rest is what the next writer will find, and nothing is changed.
void expect_readable(const fs::path& data, const Expected& expected) {
  RecoveryReport report;
  const auto log = open_rocks_log({.directory = data, .mode = OpenMode::read_only}, report);
  if (!log) {
    EXPECT_EQ(log.error().fault, fairsale::Fault::not_found) << log.error().message;
    EXPECT_EQ(expected.events(), 0U) << log.error().message;
    return;
  }
  look(**log, expected);
}

// An operation from `first` on, or the end. Most there is to lose just before a sync returns.
std::size_t any_moment(const Disk& disk, std::size_t first, Chance& chance) {
  std::size_t k = first + below(chance, disk.operations.size() + 1 - first);
  if (one_in(chance, 2)) return k;
  while (k < disk.operations.size() && disk.operations[k].kind != Operation::Kind::sync) ++k;
  return k;
}

// Crashes a disk before operation k. What is left must open and go on, and what that leaves is
// crashed again: amid the recovery, or after new commits.
void crash_twice(const Disk& disk, const History& history, Replay& replay, std::size_t k, bool kill,
                 const fs::path& directory, Children& children, Chance& chance) {
  const fs::path once = directory / fmt::format("crash-{}", children[kPoints].load());
  const std::string what =
      fmt::format("crash {} before operation {} of {}{}", children[kPoints].load(), k,
                  disk.operations.size(), kill ? " (a kill)" : "");
  children.doing(what);
  SCOPED_TRACE(what);
  Disk left = crash(disk, replay, k, kill, once, chance);
  const std::size_t begun = left.operations.size();
  ++children[kPoints];
  if (kill) ++children[kKills];
  History after{.before = history.expected(k), .lives = {}};
  if (one_in(chance, 8)) {
    Disk ignored;
    const Recorder quick(once, ignored);
    expect_readable(once / "data", after.before);
  }
  live(once, 1, left, after, children, chance);
  if (::testing::Test::HasFailure()) return;

  const std::size_t k2 = any_moment(left, begun, chance);
  const fs::path twice = directory / fmt::format("crash-{}", children[kPoints].load());
  const std::string again =
      fmt::format("and crash {} before operation {} of {}, {} of them before",
                  children[kPoints].load(), k2, left.operations.size(), begun);
  children.doing(what + " " + again);
  SCOPED_TRACE(again);
  Replay second(left);
  Disk last = crash(left, second, k2, false, twice, chance);
  ++children[kPoints];
  {
    Recorder recorder(twice, last);
    Life life;
    begin_life(twice / "data", after.expected(k2), std::size_t{64} << 20, recorder, children, life);
  }
  if (::testing::Test::HasFailure()) return;
  fs::remove_all(once);
  fs::remove_all(twice);
}

// The same at some of the operations from `first` on.
void crash_at(const Disk& disk, const History& history, std::size_t first, std::size_t points,
              const fs::path& directory, Children& children, Chance& chance) {
  std::vector<std::size_t> at;
  for (std::size_t i = 0; i < points; ++i) at.push_back(any_moment(disk, first, chance));
  std::sort(at.begin(), at.end());
  Replay replay(disk);
  for (const std::size_t k : at) {
    if (::testing::Test::HasFailure()) return;
    crash_twice(disk, history, replay, k, one_in(chance, 8), directory, children, chance);
  }
}

// What a run is about: a disk, beside room for what it may hold after a crash.
struct Machine {
  Machine() { fs::create_directory(root); }

  TempDir directory;
  const fs::path root = directory / "disk";
  Disk disk;
  History history;
};

TEST(Crashes, OfPowerAtAnyOperationLoseNothingThatWasAcknowledged) {
  fmt::print("seed {}\n", seed());
  Children children;
  const std::uint64_t runs = soak() ? 140 : 6;
  const std::size_t points = soak() ? 40 : 30;
  each_run(children, "Crashes.*", runs, [&](std::uint64_t, Chance& chance) {
    Machine m;
    live(m.root, 1 + static_cast<unsigned>(below(chance, 6)), m.disk, m.history, children, chance);
    expect_all_recorded(m.disk, m.root);
    if (::testing::Test::HasFailure()) return;
    crash_at(m.disk, m.history, 0, points, m.directory.path(), children, chance);
  });
  fmt::print(
      "{} crash points, {} of them kills: {} acknowledged events kept, {} lost; {} notes, {} "
      "snapshots usable\n",
      children[kPoints].load(), children[kKills].load(), children[kKept].load(),
      children[kLost].load(), children[kNotes].load(), children[kSnapshots].load());
  EXPECT_EQ(children[kLost], 0U);
  figure("crash points of the store", children[kPoints]);
  figure("acknowledged events that had to be there after a crash", children[kKept]);
  figure("acknowledged events lost", children[kLost]);
}

// Killed at each operation of the first start, started again, and then the power fails: names that
// the killed process left are not durable by themselves. Gone were VERSION and the data directory
// itself (seed 20261127, runs 25 and 133 of the long test above) and CURRENT (seed 2, run 1).
TEST(Crashes, AmidTheFirstStartLoseNothingThatIsAcknowledgedAfterIt) {
  fmt::print("seed {}\n", seed());
  Children children;
  each_run(children, "Crashes.Amid*", 3, [&](std::uint64_t, Chance& chance) {
    Machine m;
    live(m.root, 1, m.disk, m.history, children, chance);
    Replay replay(m.disk);
    for (std::size_t k = 0; k < m.history.lives[0].opened && !::testing::Test::HasFailure(); ++k) {
      crash_twice(m.disk, m.history, replay, k, true, m.directory.path(), children, chance);
    }
    // The moment after CURRENT was named, some times: which names a disk keeps is chance.
    const auto& all = m.disk.operations;
    const auto named = std::find_if(all.begin(), all.end(), [](const Operation& o) {
      return o.kind == Operation::Kind::rename && o.new_name == "CURRENT";
    });
    ASSERT_NE(named, all.end());
    for (int i = 0; i < (soak() ? 80 : 8) && !::testing::Test::HasFailure(); ++i) {
      Replay again(m.disk);
      crash_twice(m.disk, m.history, again, static_cast<std::size_t>(named - all.begin()) + 1, true,
                  m.directory.path(), children, chance);
    }
  });
  EXPECT_EQ(children[kLost], 0U);
}

// Nothing of the projections is synced, so a power failure may leave any part of them. Whatever is
// left is brought up to date or made anew.
TEST(Crashes, LeaveProjectionsThatCanBeMadeRight) {
  fmt::print("seed {}\n", seed());
  Children children;
  each_run(children, "Crashes.LeaveProj*", soak() ? 40 : 3, [&](std::uint64_t, Chance& chance) {
    Machine m;
    {
      Recorder recorder(m.root, m.disk);
      for (int i = 0; i < 3; ++i) {
        const Expected expected = m.history.expected(ULLONG_MAX - 1);
        Life& life = m.history.lives.emplace_back();
        life.opened = ULLONG_MAX;
        const auto log =
            begin_life(m.root / "data", expected, std::size_t{64} << 20, recorder, children, life);
        ASSERT_TRUE(log);
        Witness witness(*log, life, recorder);
        for (int part = 0; part < 3; ++part) {
          trade(witness, {.turns = 4, .threads = 1, .large = part == 0}, chance);
          const Projected projected = project(witness, m.root / "data");
          ASSERT_EQ(projected.told + projected.wrong, "");
        }
      }
    }
    Replay replay(m.disk);
    std::vector<std::size_t> at;
    for (int i = 0; i < 30; ++i) at.push_back(any_moment(m.disk, 0, chance));
    std::sort(at.begin(), at.end());
    for (const std::size_t k : at) {
      const fs::path left = m.directory / fmt::format("crash-{}", children[kPoints].load());
      const std::string what =
          fmt::format("crash before operation {} of {}", k, m.disk.operations.size());
      children.doing(what);
      SCOPED_TRACE(what);
      Disk rest = crash(m.disk, replay, k, one_in(chance, 8), left, chance);
      ++children[kPoints];
      {
        Recorder recorder(left, rest);
        Life life;
        const auto log = begin_life(left / "data", m.history.expected(k), std::size_t{64} << 20,
                                    recorder, children, life);
        if (!log) return;
        const Projected projected = project(*log, left / "data");
        EXPECT_EQ(projected.wrong, "") << "told: " << projected.told;
        if (!projected.told.empty()) ++children[kNotes];
      }
      if (::testing::Test::HasFailure()) return;
      fs::remove_all(left);
    }
  });
  fmt::print("{} crash points, the operator was told something at {}\n", children[kPoints].load(),
             children[kNotes].load());
  figure("crash points of the store with its projections", children[kPoints]);
}

// A call that is likely to matter.
Failure any_failure(Chance& chance) {
  static constexpr Call kMutating[] = {Call::sync, Call::sync,   Call::write, Call::write,
                                       Call::open, Call::rename, Call::resize};
  static constexpr std::string_view kFiles[] = {"", ".log", ".log", "MANIFEST", ".sst", "ACKED"};
  Failure f{.call = kMutating[below(chance, std::size(kMutating))],
            .of = {},
            .after = below(chance, one_in(chance, 2) ? 60 : 8),
            .error = one_in(chance, 2) ? EIO : ENOSPC,
            .lasting = one_in(chance, 2)};
  if (f.call == Call::sync || f.call == Call::write) {
    const std::string_view part = kFiles[below(chance, std::size(kFiles))];
    f.of = [part](std::string_view path) { return path.find(part) != std::string_view::npos; };
  }
  return f;
}

// What is said about a start that failed because a call did: what the system said, and no word of
// damage.
void expect_clear(const Error& e) {
  EXPECT_TRUE(e.fault == fairsale::Fault::io || e.fault == fairsale::Fault::full) << e.message;
  EXPECT_GE(e.message.size(), 20U) << e.message;
}

// No thread that saw a write or a sync of the log or of ACKED fail acknowledges the commit that it
// was for, or a later one.
void expect_no_promise_after(const std::vector<Failed>& failed, const Life& life) {
  for (const Failed& f : failed) {
    const bool of_a_commit = (f.call == Call::sync || (f.call == Call::write && !f.room_ahead)) &&
                             (f.path.ends_with(".log") || f.path.ends_with("ACKED"));
    if (!of_a_commit) continue;
    for (const Life::Commit& c : life.commits) {
      if (c.thread != f.thread || !c.acknowledged || *c.acknowledged < f.at) continue;
      EXPECT_EQ(*c.acknowledged, f.at) << "a commit was acknowledged after a " << name_of(f.call)
                                       << " of " << f.path << " had failed";
      EXPECT_LT(c.begun, f.at);
    }
  }
}

TEST(Failures, OfCallsAreFollowedByNoPromiseAndByAStartThatHasEverything) {
  fmt::print("seed {}\n", seed());
  Children children;
  each_run(children, "Failures.OfCalls*", soak() ? 60 : 4, [&](std::uint64_t, Chance& chance) {
    Machine m;
    live(m.root, 1 + static_cast<unsigned>(below(chance, 4)), m.disk, m.history, children, chance);
    const Expected expected = m.history.expected(ULLONG_MAX - 1);
    for (int i = 0; i < 12 && !::testing::Test::HasFailure(); ++i) {
      const Failure failure = any_failure(chance);
      const fs::path twin = m.directory / fmt::format("failure-{}", i);
      const std::string what = fmt::format("failure {}: {} {} after {}{}", i, name_of(failure.call),
                                           failure.error == EIO ? "EIO" : "ENOSPC", failure.after,
                                           failure.lasting ? ", lasting" : "");
      children.doing(what);
      SCOPED_TRACE(what);
      Disk left{read_tree(m.root), {}};
      write_tree(left.start, twin);
      History after{.before = expected, .lives = {}};
      std::vector<Failed> failed;
      {
        Recorder recorder(twin, left);
        recorder.fail(failure);
        RecoveryReport report;
        auto log = open_rocks_log(
            {.directory = twin / "data", .write_buffer = random_write_buffer(chance)}, report);
        if (!log) {
          EXPECT_FALSE(recorder.failed().empty()) << log.error().message;
          expect_clear(log.error());
          ++children[kRefusedStarts];
        } else {
          Life& life = after.lives.emplace_back();
          life.opened = recorder.now();
          life.found = look(**log, expected).found;
          Witness witness(**log, life, recorder);
          trade(witness, {.turns = 20, .threads = one_in(chance, 4) ? 2U : 1U, .large = false},
                chance);
          expect_no_promise_after(recorder.failed(), life);
        }
        log = {};
        failed = recorder.failed();
        recorder.fail({});
      }
      if (failed.empty()) continue;
      ++children[kInjected];
      // The same machine, a new process.
      {
        const std::size_t begun = left.operations.size();
        SCOPED_TRACE(
            fmt::format("{} of {}; a start after it", name_of(failed[0].call), failed[0].path));
        live(twin, 1, left, after, children, chance);
        EXPECT_GT(left.operations.size(), begun);
      }
      crash_at(left, after, failed[0].at, 2, m.directory.path(), children, chance);
      fs::remove_all(twin);
    }
  });
  fmt::print(
      "{} failures of calls, {} of them at a start, and {} crash points after them: {} "
      "acknowledged events kept, {} lost\n",
      children[kInjected].load(), children[kRefusedStarts].load(), children[kPoints].load(),
      children[kKept].load(), children[kLost].load());
  EXPECT_GT(children[kInjected], 0U);
  EXPECT_EQ(children[kLost], 0U);
  figure("calls of the system that failed under the store", children[kInjected]);
  figure("crash points after such a failure", children[kPoints]);
  figure("acknowledged events lost after such a failure", children[kLost]);
}

// The half of a commit that a full disk took is cut off when the log is closed; a power failure may
// bring it back, when the next process has long committed to another file (seed 102, run 18 of the
// soak: the store did not open again).
TEST(Failures, OfACommitLeaveNothingThatComesBack) {
  fmt::print("seed {}\n", seed());
  Children children;
  each_run(children, "Failures.OfACommit*", 4, [&](std::uint64_t, Chance& chance) {
    Machine m;
    live(m.root, 2, m.disk, m.history, children, chance);
    {
      Recorder recorder(m.root, m.disk);
      const Expected expected = m.history.expected(ULLONG_MAX - 1);
      Life& life = m.history.lives.emplace_back();
      life.opened = ULLONG_MAX;
      const auto log =
          begin_life(m.root / "data", expected, std::size_t{64} << 20, recorder, children, life);
      ASSERT_TRUE(log);
      recorder.fail(Failure{.call = Call::write,
                            .of = [](std::string_view path) { return path.ends_with(".log"); },
                            .after = 1,
                            .error = ENOSPC});
      Witness witness(*log, life, recorder);
      trade(witness, {.turns = 3, .threads = 1, .large = false}, chance);
      ASSERT_EQ(recorder.failed().size(), 1U);
    }
    live(m.root, 1, m.disk, m.history, children, chance);
    for (int i = 0; i < 12 && !::testing::Test::HasFailure(); ++i) {
      Replay replay(m.disk);
      crash_twice(m.disk, m.history, replay, m.disk.operations.size(), false, m.directory.path(),
                  children, chance);
    }
  });
  EXPECT_EQ(children[kLost], 0U);
}

TEST(Failures, OfReadsLoseNothing) {
  fmt::print("seed {}\n", seed());
  Children children;
  each_run(children, "Failures.OfReads*", soak() ? 40 : 3, [&](std::uint64_t, Chance& chance) {
    Machine m;
    live(m.root, 1 + static_cast<unsigned>(below(chance, 4)), m.disk, m.history, children, chance);
    const Expected expected = m.history.expected(ULLONG_MAX - 1);
    for (int i = 0; i < 20 && !::testing::Test::HasFailure(); ++i) {
      const fs::path twin = m.directory / fmt::format("failure-{}", i);
      const OpenMode mode = one_in(chance, 3) ? OpenMode::read_only : OpenMode::read_write;
      const Failure failure{.call = one_in(chance, 8) ? Call::open : Call::read,
                            .of = {},
                            .after = below(chance, 60),
                            .error = one_in(chance, 5) ? EMFILE : EIO,
                            .lasting = one_in(chance, 3)};
      const std::string what = fmt::format("failure {}: {} after {}{}", i, name_of(failure.call),
                                           failure.after, failure.lasting ? ", lasting" : "");
      children.doing(what);
      SCOPED_TRACE(what);
      write_tree(read_tree(m.root), twin);
      Disk ignored{read_tree(twin), {}};
      Recorder recorder(twin, ignored);
      recorder.fail(failure);
      {
        RecoveryReport report;
        const auto log = open_rocks_log({.directory = twin / "data", .mode = mode}, report);
        if (!log) {
          EXPECT_FALSE(recorder.failed().empty());
          expect_clear(log.error());
          ++children[kRefusedStarts];
        } else {
          look(**log, expected, true);
        }
        if (!recorder.failed().empty()) ++children[kInjected];
      }
      recorder.fail({});
      Life life;
      begin_life(twin / "data", expected, std::size_t{64} << 20, recorder, children, life);
      fs::remove_all(twin);
    }
  });
  fmt::print("{} failures of reads, {} of them refused at the start; {} lost\n",
             children[kInjected].load(), children[kRefusedStarts].load(), children[kLost].load());
  EXPECT_GT(children[kInjected], 0U);
  EXPECT_EQ(children[kLost], 0U);
  figure("reads that failed under the store", children[kInjected]);
}

}  // namespace
}  // namespace fairsale::faults
