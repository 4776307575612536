// Flips a bit or cuts off the end of every kind of file of a store, one at a time, and starts as a
// server would. Each is detected, with a message that says where it is and what to do, or does no
// harm: all that was acknowledged is read back as it was written, and gives the same states.
//
// All chance comes from one seed, which is printed. To repeat a case that failed:
//   FAIRSALE_FAULTS_SEED=<seed> FAIRSALE_FAULTS_CASE=<case> faults_test --gtest_filter=Corruption.*
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <numeric>
#include <optional>
#include <regex>
#include <set>

#include "core/engine/engine.hpp"
#include "tests/faults/child.hpp"
#include "tests/faults/projected.hpp"
#include "tests/faults/witness.hpp"
#include "tests/log/support.hpp"

namespace fairsale::faults {
namespace {

namespace fs = std::filesystem;
using fairsale::testing::TempDir;

std::uint64_t seed() { return from_environment("FAIRSALE_FAULTS_SEED", 20'261'127); }

// Kinds of files, and how many flips of each the long test makes.
struct Kind {
  const char* name;
  const char* files;  // of which path
  std::size_t flips;
};
constexpr Kind kKinds[] = {
    {"VERSION", "/VERSION", 128},
    {"ACKED", "/ACKED", 700},
    {"log: write-ahead log", "/log/[0-9]+[.]log", 2600},
    {"log: tables", "/log/[0-9]+[.]sst", 1800},
    {"log: MANIFEST", "/log/MANIFEST-[0-9]+", 1200},
    {"log: CURRENT", "/log/CURRENT", 128},
    {"log: OPTIONS", "/log/OPTIONS-[0-9]+", 100},
    {"log: IDENTITY", "/log/IDENTITY", 60},
    {"snapshots", "/snapshots/.*", 900},
    {"projections: write-ahead log", "/projections/[0-9]+[.]log", 400},
    {"projections: tables", "/projections/[0-9]+[.]sst", 700},
    {"projections: MANIFEST", "/projections/MANIFEST-[0-9]+", 300},
    {"projections: CURRENT", "/projections/CURRENT", 128},
    {"projections: OPTIONS", "/projections/OPTIONS-[0-9]+", 40},
    {"projections: IDENTITY", "/projections/IDENTITY", 20},
};
constexpr std::size_t kFirstOfProjections = 9;

// In the order of a kind's counts.
enum Outcome : std::size_t { kPlanted, kDetected, kHarmless, kSilent };
constexpr std::size_t kOutcomes = 4;
static_assert(std::size(kKinds) * kOutcomes < 62);

constexpr std::size_t kFlips = 60;  // among the numbers of the children, behind the outcomes
constexpr std::size_t kCuts = 61;
constexpr std::size_t kNext = 62;  // the case that comes next
constexpr std::size_t kAsserted = 63;

struct Nobody final : Answers, SaleObserver {
  void on_decided(const Ticket&, SkuId, Seq, const Event&, const Decision&, const Sale&) override {}
  void seed(SkuId, const Sale&) override {}
  void on_decision(SkuId, const Sale&, const Decision&) override {}
  void on_commit(SkuId, const Sale&) override {}
};

// What the flips are made in: a store as it is after its server stopped, and one whose server was
// killed between a commit and the record of its acknowledgement.
struct Stores {
  Tree tree[2];
};
constexpr const char* kStores[] = {"stopped", "killed"};

// Lives of a store, of which the last leaves something in the write-ahead logs.
void make_stores(const fs::path& root, const fs::path& stopped, const fs::path& killed) {
  Chance chance(seed());
  Disk disk;
  History history;
  const fs::path data = root / "data";
  fs::create_directory(root);
  {
    Recorder recorder(root, disk);
    for (int i = 0; i < 4; ++i) {
      RecoveryReport report;
      auto log = open_rocks_log({.directory = data}, report);
      ASSERT_TRUE(log) << log.error().message;
      const Expected before = history.expected(ULLONG_MAX - 1);
      Life& life = history.lives.emplace_back();
      life.opened = recorder.now();
      life.found = look(**log, before).found;
      Witness witness(**log, life, recorder);
      trade(witness, {.turns = 12, .threads = 1, .large = i == 0}, chance);
      const Projected projected = project(**log, data);
      ASSERT_EQ(projected.told + projected.wrong, "");
    }
  }
  write_tree(read_tree(root), stopped);

  NodeId node = 0;
  for (const Operation& o : disk.operations) {
    if (o.kind == Operation::Kind::create_file && o.name == "ACKED.new") node = o.node;
  }
  std::size_t last = 0;  // record of an acknowledgement
  for (std::size_t k = 0; k < disk.operations.size(); ++k) {
    const Operation& o = disk.operations[k];
    if (o.kind == Operation::Kind::write && o.node == node) last = k;
  }
  Replay replay(disk);
  replay.advance(last, chance);
  write_tree(replay.seen(), killed);

  // They are what the witness saw.
  for (const bool kill : {false, true}) {
    const Expected expected = history.expected(kill ? last : ULLONG_MAX - 1);
    RecoveryReport report;
    const auto log = open_rocks_log(
        {.directory = (kill ? killed : stopped) / "data", .mode = OpenMode::read_only}, report);
    ASSERT_TRUE(log) << log.error().message;
    look(**log, expected);
    const auto heads = (*log)->heads();
    const auto durable = (*log)->durable_heads();
    ASSERT_TRUE(heads && durable);
    const bool provisional =
        !std::equal(heads->begin(), heads->end(), durable->begin(), durable->end(),
                    [](const SkuHead& a, const SkuHead& b) { return a.head == b.head; });
    EXPECT_EQ(provisional, kill) << "one commit is provisional after the kill, and none else";
    std::size_t blocks = 0;
    for (const SkuHead& head : *durable) {
      EXPECT_TRUE((*log)->read(head.sku, Seq{1}, [&](const BlockView& view) {
        if (view.last() > head.head.seq) return false;
        ++blocks;
        return true;
      }));
    }
    std::size_t least = 0;
    for (const auto& [sku, e] : expected.skus) least += e.least;
    EXPECT_EQ(blocks, least);
  }
}

// What a store holds that nothing happened to.
struct Truth {
  Expected expected;
  std::map<SkuId, Digest> states;
};

Truth truth_of(const Tree& tree, const fs::path& directory) {
  write_tree(tree, directory);
  Truth truth;
  RecoveryReport report;
  const auto log =
      open_rocks_log({.directory = directory / "data", .mode = OpenMode::read_only}, report);
  EXPECT_TRUE(log) << log.error().message;
  const auto heads = (*log)->heads();
  const auto durable = (*log)->durable_heads();
  EXPECT_TRUE(heads && durable);
  for (const SkuHead& head : *heads) {
    Expected::Sku& sku = truth.expected.skus[head.sku];
    const auto acknowledged = std::find_if(durable->begin(), durable->end(), [&](const SkuHead& d) {
                                return d.sku == head.sku;
                              })->head.seq;
    EXPECT_TRUE((*log)->read(head.sku, Seq{1}, [&](const BlockView& view) {
      sku.blocks.push_back(
          std::make_shared<const std::vector<std::byte>>(view.bytes().begin(), view.bytes().end()));
      if (view.last() <= acknowledged) ++sku.least;
      return true;
    }));
  }
  truth.states = digests(**log);
  return truth;
}

struct Case {
  std::size_t kind = 0;
  std::size_t store = 0;
  std::string path;
  bool flip = true;
  std::uint64_t at = 0;  // bit to flip, or new size

  std::string describe() const {
    return fmt::format("{} store: {} {} {}", kStores[store], path,
                       flip ? "with a flipped bit:" : "cut off at byte", at);
  }
};

// Each bit of what is small, else a random part.
std::vector<Case> cases_of(const Stores& stores, Chance& chance) {
  std::vector<Case> all;
  for (std::size_t kind = 0; kind < std::size(kKinds); ++kind) {
    const std::regex files("/data" + std::string(kKinds[kind].files));
    struct File {
      std::size_t store;
      std::string path;
      const std::string* bytes;
    };
    std::vector<File> found;
    for (std::size_t store = 0; store < 2; ++store) {
      if (store == 1 && kind >= kFirstOfProjections) continue;
      for (const auto& [path, bytes] : stores.tree[store].files()) {
        if (!bytes->empty() && std::regex_match(path, files)) found.push_back({store, path, bytes});
      }
    }
    EXPECT_FALSE(found.empty()) << kKinds[kind].name;
    const std::size_t flips =
        soak() ? kKinds[kind].flips : std::max<std::size_t>(6, kKinds[kind].flips / 40);
    for (std::size_t i = 0; i < flips + flips / 5 && !found.empty(); ++i) {
      const File& file = found[below(chance, found.size())];
      // Of a log file that ends in zeros, what comes before matters more.
      std::size_t size = file.bytes->size();
      const std::size_t content = file.bytes->find_last_not_of('\0') + 1;
      if (content > 0 && !one_in(chance, 4)) size = content;
      Case c{.kind = kind, .store = file.store, .path = file.path, .flip = i < flips};
      c.at = c.flip ? below(chance, size * 8) : below(chance, size);
      // The most frequent truncations leave whole sectors, or nothing.
      if (!c.flip && one_in(chance, 3)) c.at = c.at / 512 * 512;
      if (c.flip && flips == file.bytes->size() * 8) c.at = i;
      all.push_back(std::move(c));
    }
  }
  return all;
}

struct Verdict {
  Outcome outcome = kHarmless;
  std::string why;
};

// Detected, if the message says where and what to do.
Verdict detected(const Error& e) {
  static const std::regex where("/data/|SKU ");
  static const std::regex what_to_do("Keep a copy|use that one|rebuilt|built anew");
  EXPECT_TRUE(std::regex_search(e.message, where)) << "says not where: " << e.message;
  EXPECT_TRUE(std::regex_search(e.message, what_to_do)) << "says not what to do: " << e.message;
  return {kDetected, e.message};
}

Verdict open_log(const fs::path& data, const Truth& truth) {
  RecoveryReport report;
  auto log = open_rocks_log({.directory = data}, report);
  if (!log) return detected(log.error());
  Nobody nobody;
  SaleObserver* const observers[] = {&nobody};
  const ManualClock clock(Timestamp{1'800'000'000'000});
  Verdict verdict;
  std::set<SkuId> unread;
  auto engine = Engine::open(**log, clock, observers, {});
  if (!engine) {
    verdict = detected(engine.error());
  }
  const auto heads = (*log)->heads();
  if (!heads) return detected(heads.error());
  for (const auto& [sku, expected] : truth.expected.skus) {
    std::vector<Block> blocks;
    const auto read = (*log)->read(sku, Seq{1}, [&](const BlockView& view) {
      blocks.push_back(
          std::make_shared<const std::vector<std::byte>>(view.bytes().begin(), view.bytes().end()));
      return true;
    });
    bool right = blocks.size() <= expected.blocks.size();
    for (std::size_t i = 0; right && i < blocks.size(); ++i) {
      right = *blocks[i] == *expected.blocks[i];
    }
    if (!right) return {kSilent, "blocks are not as they were written"};
    if (!read) {
      // Whoever reads a log that far is told the SKU and the position.
      EXPECT_NE(read.error().message.find("SKU "), std::string::npos) << read.error().message;
      if (verdict.outcome == kHarmless) verdict = {kDetected, read.error().message};
      continue;
    }
    if (blocks.size() < expected.least) {
      return {kSilent,
              fmt::format("{} of {} acknowledged blocks are there", blocks.size(), expected.least)};
    }
    if (blocks.size() < expected.blocks.size()) continue;
    const SkuHead* head = nullptr;
    for (const SkuHead& h : *heads) head = h.sku == sku ? &h : head;
    if (head == nullptr) return {kSilent, "a head is missing"};
    for (const FoldFrom from : {FoldFrom::start, FoldFrom::snapshot}) {
      const auto folded = fold(**log, *head, from, nullptr);
      if (!folded) return {kSilent, "a log that was read cannot be folded"};
      if (state_digest(folded->sale) != truth.states.at(sku)) return {kSilent, "another state"};
    }
    if (engine && (*engine)->shard(0).find(sku) == nullptr) return {kSilent, "a sale is missing"};
    if (engine && state_digest(*(*engine)->shard(0).find(sku)) != truth.states.at(sku)) {
      return {kSilent, "the server has another state"};
    }
  }
  return verdict;
}

Verdict open_projections(const fs::path& data, EventLog& log) {
  Projected projected = project(log, data);
  if (!projected.wrong.empty()) return {kSilent, projected.wrong};
  if (projected.told.empty()) return {};
  return {kDetected, projected.told};
}

void run_cases(const std::vector<Case>& cases, std::size_t from, std::size_t to, Stores& stores,
               const fs::path& directory, Children& children) {
  // As a program does; what it says goes to a file.
  advise_on_abort();
  ASSERT_NE(std::freopen((directory / "stderr").c_str(), "w", stderr), nullptr);
  const Truth truth[] = {truth_of(stores.tree[0], directory / "truth-0"),
                         truth_of(stores.tree[1], directory / "truth-1")};
  RecoveryReport report;
  const auto good = open_rocks_log({.directory = directory / "truth-0" / "data"}, report);
  ASSERT_TRUE(good) << good.error().message;
  for (std::size_t n = from; n < to && !::testing::Test::HasFailure(); ++n) {
    const Case& c = cases[n];
    const std::string what = fmt::format("case {}: {}", n, c.describe());
    children.doing(what);
    children[kNext] = n + 1;
    SCOPED_TRACE(what);
    // The files that matter, one of them changed.
    Tree& tree = stores.tree[c.store];
    std::string& bytes = tree.nodes.at(*tree.find(c.path)).bytes;
    const std::string original = bytes;
    if (c.flip) {
      bytes[c.at / 8] = static_cast<char>(bytes[c.at / 8] ^ (1 << c.at % 8));
    } else {
      bytes.resize(c.at);
    }
    const fs::path root = directory / fmt::format("case-{}", n);
    write_tree(tree, root);
    bytes = original;
    {
      Disk ignored{tree, {}};
      const Recorder recorder(root, ignored);
      const Verdict v = c.kind >= kFirstOfProjections ? open_projections(root / "data", **good)
                                                      : open_log(root / "data", truth[c.store]);
      EXPECT_NE(v.outcome, kSilent) << v.why;
      ++children[c.kind * kOutcomes + kPlanted];
      ++children[c.kind * kOutcomes + v.outcome];
      ++children[c.flip ? kFlips : kCuts];
      if (std::getenv("FAIRSALE_FAULTS_CASE") != nullptr) {
        fmt::print("{}: outcome {}: {}\n", what, static_cast<int>(v.outcome), v.why);
      }
    }
    fs::remove_all(root);
  }
}

// Whether the process was ended by an assertion of RocksDB's about a table, and said what to do.
bool asserted(const Case& c, const std::string& wrong, const fs::path& said) {
  const auto bytes = fairsale::testing::read_file(said);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return wrong.starts_with("Aborted") &&
         std::string_view(kKinds[c.kind].name).ends_with("tables") &&
         text.find("rocksdb") != text.npos && text.find("Assertion") != text.npos &&
         text.find("Keep a copy") != text.npos;
}

TEST(Corruption, OfAnyFileIsDetectedOrDoesNoHarm) {
  fmt::print("seed {}\n", seed());
  Children children;
  TempDir directory;
  const auto unmade = children.run(
      [&] { make_stores(directory / "disk", directory / "stopped", directory / "killed"); });
  ASSERT_FALSE(unmade) << *unmade;
  Stores stores{{read_tree(directory / "stopped"), read_tree(directory / "killed")}};
  Chance chance(seed());
  std::vector<Case> cases = cases_of(stores, chance);
  const std::uint64_t only = from_environment("FAIRSALE_FAULTS_CASE", ULLONG_MAX);
  constexpr std::size_t kBatch = 250;
  std::vector<std::string> failed;
  std::size_t next = only == ULLONG_MAX ? 0 : only;
  while (next < (only == ULLONG_MAX ? cases.size() : only + 1) && failed.size() < 20) {
    const std::size_t to = only == ULLONG_MAX ? std::min(next + kBatch, cases.size()) : next + 1;
    const fs::path scratch = directory / fmt::format("batch-{}", next);
    fs::create_directory(scratch);
    const auto wrong = children.run([&] { run_cases(cases, next, to, stores, scratch, children); });
    next = wrong ? children[kNext].load() : to;
    if (wrong && asserted(cases[next - 1], *wrong, scratch / "stderr")) {
      const std::size_t kind = cases[next - 1].kind;
      for (const std::size_t i : {kind * kOutcomes + kPlanted, kind * kOutcomes + kDetected,
                                  cases[next - 1].flip ? kFlips : kCuts, kAsserted}) {
        ++children[i];
      }
    } else if (wrong) {
      failed.push_back(
          fmt::format("{}\nrepeat with FAIRSALE_FAULTS_SEED={} FAIRSALE_FAULTS_CASE={} "
                      "faults_test --gtest_filter=Corruption.*",
                      *wrong, seed(), next - 1));
    }
    fs::remove_all(scratch);
  }
  fmt::print("{:<30} {:>8} {:>8} {:>8} {:>8}\n", "", "planted", "detected", "harmless", "silent");
  std::uint64_t silent = 0;
  for (std::size_t kind = 0; kind < std::size(kKinds); ++kind) {
    const auto count = [&](Outcome o) { return children[kind * kOutcomes + o].load(); };
    fmt::print("{:<30} {:>8} {:>8} {:>8} {:>8}\n", kKinds[kind].name, count(kPlanted),
               count(kDetected), count(kHarmless), count(kSilent));
    silent += count(kSilent);
  }
  fmt::print("{} of the detected by an assertion of RocksDB's\n", children[kAsserted].load());
  EXPECT_EQ(silent, 0U);
  for (const std::string& wrong : failed) ADD_FAILURE() << wrong;
  figure("bits flipped in files of the store", children[kFlips]);
  figure("files of the store cut off", children[kCuts]);
  figure("silent losses after a flip or a cut", silent);
}

}  // namespace
}  // namespace fairsale::faults
