#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <iostream>
#include <sstream>

#include "core/log/rocks_log.hpp"
#include "tools/cli.hpp"
#include "tools/store/output.hpp"
#include "tools/version.hpp"

int main(int argc, char** argv) {
  using namespace fairsale;
  CLI::App app{"fairsale: tools around a flash sale that is fair and never sells too much."};
  app.name("fairsale");
  app.set_version_flag("--version", std::string("fairsale ") + kVersion);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 ok; 1 a check failed; 2 wrong usage; 3 a file, the network or the server "
      "failed.");
  int exit_code = cli::kOk;
  advise_on_abort();
  cli::add_rush(app, exit_code);
  cli::add_check(app, exit_code);
  cli::add_rebuild(app, exit_code);
  cli::add_replay(app, exit_code);
  cli::add_log(app, exit_code);
  cli::add_diff(app, exit_code);
  cli::add_audit(app, exit_code);
  cli::add_token(app, exit_code);
  cli::add_backup(app, exit_code);
  cli::add_repair(app, exit_code);
  cli::add_cluster(app, exit_code);
  cli::add_completions(app, exit_code);
  cli::add_man(app, exit_code);
  cli::add_explain(app, exit_code);
  cli::add_state(app, exit_code);
  cli::add_what_if(app, exit_code);
  cli::Output rest(stdout);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    std::ostringstream help;
    exit_code = app.exit(e, help, std::cerr) == 0 ? cli::kOk : cli::kUsage;
    rest.text() = help.str();
  } catch (const std::exception& e) {
    return cli::complain({Fault::io, e.what()});
  }
  // With it whatever went to stdout otherwise than through an Output.
  const auto written = rest.flush();
  if (!written && exit_code == cli::kOk) return cli::complain(written.error());
  return exit_code;
}
