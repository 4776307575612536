// What the command line tells about itself, apart from --help: completions for shells and a manual
// page. Made from the CLI11 app, so that nothing in them can be out of date.
#pragma once

#include <string>

namespace CLI {
class App;
}

namespace fairsale::cli {

enum class Shell { bash, zsh, fish };

// A script that makes the shell complete the app's commands, options, choices and files.
std::string completions(const CLI::App&, Shell);

// A manual page (roff, man macros) of section 1 for `version`, with every command and option.
std::string man_page(const CLI::App&, const std::string& version);

}  // namespace fairsale::cli
