// The commands of fairsale. Data goes to stdout, messages to stderr.
#pragma once

#include <string>
#include <string_view>

#include "core/log/result.hpp"

namespace CLI {
class App;
}

namespace fairsale::cli {

inline constexpr int kOk = 0;
inline constexpr int kCheckFailed = 1;
inline constexpr int kUsage = 2;
inline constexpr int kIo = 3;

// Each adds its subcommand to `app`; parsing runs it, and `exit_code` is then its outcome.
void add_audit(CLI::App& app, int& exit_code);
void add_rush(CLI::App& app, int& exit_code);
void add_check(CLI::App& app, int& exit_code);
void add_rebuild(CLI::App& app, int& exit_code);
void add_replay(CLI::App& app, int& exit_code);
void add_log(CLI::App& app, int& exit_code);
void add_diff(CLI::App& app, int& exit_code);
void add_token(CLI::App& app, int& exit_code);
void add_backup(CLI::App& app, int& exit_code);  // and restore
void add_repair(CLI::App& app, int& exit_code);
void add_cluster(CLI::App& app, int& exit_code);  // status and reseed
void add_completions(CLI::App& app, int& exit_code);
void add_man(CLI::App& app, int& exit_code);
void add_explain(CLI::App& app, int& exit_code);
void add_state(CLI::App& app, int& exit_code);
void add_what_if(CLI::App& app, int& exit_code);

// Says on stderr what is wrong and returns the exit code for it.
int complain(const Error&);

// The exit code of what had both outcomes: damage outweighs all else, and any failure success.
int worse(int a, int b);

// The first line of a file, without its end. Fails when there is none.
Result<std::string> read_secret(const std::string& path);

// From the file if one is named, else from the environment; empty when neither is there.
Result<std::string> token_from(const std::string& path, const char* variable);

// "1,234,567".
std::string grouped(unsigned long long);

// `s` as a JSON string, quotes included.
std::string json_string(std::string_view s);

// True after SIGINT or SIGTERM, once watch_signals() has run.
extern volatile int interrupted;
void watch_signals();

}  // namespace fairsale::cli
