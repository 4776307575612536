// A CLI11 app as a list of its commands, as completions and the manual need it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace fairsale::cli {

struct OptionEntry {
  std::vector<std::string> names;    // "-n", "--lines"; none for a positional
  std::string positional;            // its name, else empty
  std::string description;           // in one line
  std::string type;                  // "TEXT", "UINT in [0 - 100000]"; empty for a flag
  std::string default_value;         // as shown by --help, or empty
  std::vector<std::string> choices;  // when only these are taken
  bool takes_value = false;
  bool required = false;
};

struct CommandEntry {
  std::string path;  // "fairsale log show"
  std::string name;
  std::string description;
  std::string footer;
  std::vector<OptionEntry> options;  // positionals among them, in order
  std::vector<std::string> commands;
};

// The app itself and, depth first, all its subcommands.
std::vector<CommandEntry> command_tree(const CLI::App&);

}  // namespace fairsale::cli
