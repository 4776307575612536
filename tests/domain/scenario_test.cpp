// Every scenario in scenarios/*.txt is a test of its own, named by its file and heading.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <set>

#include "tests/domain/scenario.hpp"

namespace fairsale::test {
namespace {

class ScenarioTest : public testing::Test {
 public:
  ScenarioTest(Scenario scenario, std::string file)
      : scenario_(std::move(scenario)), file_(std::move(file)) {}

  void TestBody() override {
    const std::string failure = run(scenario_, file_);
    if (!failure.empty()) FAIL() << failure;
  }

 private:
  Scenario scenario_;
  std::string file_;
};

// A file that can't be read must not pass as a file without scenarios.
class UnreadableFile : public testing::Test {
 public:
  explicit UnreadableFile(std::string why) : why_(std::move(why)) {}
  void TestBody() override { FAIL() << why_; }

 private:
  std::string why_;
};

std::string test_name(const std::string& heading) {
  std::string name;
  for (const char c : heading) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      name += c;
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  while (!name.empty() && name.back() == '_') name.pop_back();
  return name;
}

bool register_all() {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(FAIRSALE_SCENARIOS)) {
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const auto& path : files) {
    const std::string file = path.stem().string();
    try {
      std::set<std::string> names;
      const auto scenarios = read_scenarios(path);
      for (const Scenario& s : scenarios) {
        const std::string name = test_name(s.heading);
        if (!names.insert(name).second) {
          throw std::runtime_error(path.string() + ": two scenarios are called '" + s.heading +
                                   "'");
        }
      }
      for (const Scenario& s : scenarios) {
        testing::RegisterTest(
            file.c_str(), test_name(s.heading).c_str(), nullptr, nullptr, path.c_str(), s.number,
            [s, name = path.string()]() -> ScenarioTest* { return new ScenarioTest(s, name); });
      }
    } catch (const std::exception& e) {
      testing::RegisterTest(
          "unreadable", file.c_str(), nullptr, nullptr, path.c_str(), 1,
          [why = std::string(e.what())]() -> UnreadableFile* { return new UnreadableFile(why); });
    }
  }
  return !files.empty();
}

[[maybe_unused]] const bool registered = register_all();

TEST(Scenarios, AreFound) { EXPECT_TRUE(registered); }

// The form itself: a scenario whose expectation is wrong must fail, and say where.
TEST(Scenarios, AWrongExpectationFails) {
  Scenario s{.heading = "wrong", .expectation = " Nobody expects this.", .number = 1, .lines = {}};
  s.lines = {{2, "sale stock=1"}, {3, "attempt A 1 -> reserved A until 601s"}};
  const std::string failure = run(s, "made_up");
  EXPECT_NE(failure.find("made_up:3"), std::string::npos) << failure;
  EXPECT_NE(failure.find("expected: reserved A until 601s"), std::string::npos) << failure;
  EXPECT_NE(failure.find("actual:   reserved A until 600s"), std::string::npos) << failure;
}

TEST(Scenarios, AnUnexpectedDecisionFails) {
  Scenario s{.heading = "more", .expectation = " Silence.", .number = 1, .lines = {}};
  s.lines = {{2, "sale stock=1"},
             {3, "attempt A 1 -> reserved A until 600s"},
             {4, "tick 600s -> nothing"}};
  EXPECT_NE(run(s, "made_up").find("actual:   expired A"), std::string::npos);
}

TEST(Scenarios, AMistakeInTheTextFails) {
  for (const char* line : {"atempt A 1 -> nothing", "attempt A one -> nothing", "attempt A 1",
                           "tick 5 -> nothing", "cancel Z -> nothing", "pause now -> paused",
                           "counts avialable=1", "attempt A 1 kye=1 -> nothing"}) {
    Scenario s{.heading = "typo", .expectation = " An error.", .number = 1, .lines = {}};
    s.lines = {{2, "sale stock=1"}, {3, line}};
    EXPECT_NE(run(s, "made_up").find("made_up:3"), std::string::npos) << line;
  }
}

}  // namespace
}  // namespace fairsale::test
