// fairsale completions and fairsale man: what the command line tells about itself.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "tools/cli.hpp"
#include "tools/manual/manual.hpp"
#include "tools/store/output.hpp"
#include "tools/version.hpp"

namespace fairsale::cli {

namespace {

int print(const std::string& text) {
  Output out(stdout);
  out.text() = text;
  const auto ok = out.flush();
  return ok ? kOk : complain(ok.error());
}

}  // namespace

void add_completions(CLI::App& app, int& exit_code) {
  auto shell = std::make_shared<std::string>();
  CLI::App* c = app.add_subcommand(
      "completions", "Prints a script that makes a shell complete fairsale's commands and options");
  c->footer(
      "bash: source <(fairsale completions bash)\n"
      "zsh:  source <(fairsale completions zsh)\n"
      "fish: fairsale completions fish | source\n"
      "Exit codes: 0 ok; 2 usage; 3 I/O.");
  c->add_option("shell", *shell, "The shell")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  c->callback([shell, &app, &exit_code] {
    exit_code = print(completions(app, *shell == "bash"  ? Shell::bash
                                       : *shell == "zsh" ? Shell::zsh
                                                         : Shell::fish));
  });
}

void add_man(CLI::App& app, int& exit_code) {
  CLI::App* c = app.add_subcommand("man", "Prints the manual page, in roff");
  c->footer(
      "Example: fairsale man | man -l -\n"
      "Exit codes: 0 ok; 2 usage; 3 I/O.");
  c->callback([&app, &exit_code] { exit_code = print(man_page(app, kVersion)); });
}

}  // namespace fairsale::cli
