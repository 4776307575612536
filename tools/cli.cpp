#include "tools/cli.hpp"

#include "core/json/json.hpp"

#include <fmt/format.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

namespace fairsale::cli {

volatile int interrupted = 0;

int complain(const Error& e) {
  fmt::print(stderr, "fairsale: {}\n", e.message);
  switch (e.fault) {
    case Fault::invalid: return kUsage;
    case Fault::damaged: return kCheckFailed;
    case Fault::not_found:
    case Fault::busy:
    case Fault::unsupported:
    case Fault::full:
    case Fault::io: return kIo;
  }
  return kIo;
}

int worse(int a, int b) {
  for (const int code : {kCheckFailed, kIo, kUsage}) {
    if (a == code || b == code) return code;
  }
  return kOk;
}

Result<std::string> read_secret(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!in || !std::getline(in, line)) {
    return fail(Fault::io, fmt::format("cannot read {}: {}", path,
                                       errno != 0 ? std::strerror(errno) : "it is empty"));
  }
  while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
  if (line.empty()) return fail(Fault::invalid, path + ": its first line is empty");
  return line;
}

Result<std::string> token_from(const std::string& path, const char* variable) {
  if (!path.empty()) return read_secret(path);
  const char* value = std::getenv(variable);
  return std::string(value == nullptr ? "" : value);
}

std::string grouped(unsigned long long n) {
  std::string s = std::to_string(n);
  for (std::size_t i = s.size(); i > 3; i -= 3) s.insert(i - 3, ",");
  return s;
}

std::string json_string(std::string_view s) {
  std::string out;
  append_json_string(out, s);
  return out;
}

void watch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = 1; };
  sigemptyset(&action.sa_mask);
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // a second Ctrl-C ends at once
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

}  // namespace fairsale::cli
