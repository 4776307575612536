// Scenarios written as plain text (README.md describes the form): read from files, run against the
// sale and, in step with it, against the model and a twin that is restored from its own bytes
// before every event.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace fairsale::test {

struct ScenarioLine {
  int number = 0;  // in its file, from 1
  std::string text;
};

struct Scenario {
  std::string heading;
  std::string expectation;  // the sentence for the shop owner
  int number = 0;           // line of the heading
  std::vector<ScenarioLine> lines;
};

// Throws std::runtime_error, naming file and line, when the file has not the form.
std::vector<Scenario> read_scenarios(const std::filesystem::path&);

// Returns nothing when every step did what its line says, else the first line that did not, with
// what was expected and what happened.
std::string run(const Scenario&, std::string_view file);

}  // namespace fairsale::test
