// The server's settings, from a file, the environment and flags: whatever stands there, they are
// understood within their bounds or refused in words, and nothing is thrown.
#include "api/config.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

using namespace api;

namespace {

bool sane(const Rate& r) {
  const bool unlimited = r.per_second == 0;
  return (unlimited || (r.per_second >= kMinRate && r.per_second <= kMaxRate)) && r.burst >= 1 &&
         r.burst <= kMaxBurst;
}

bool sane(std::chrono::milliseconds t) {
  return t >= std::chrono::milliseconds(10) && t <= std::chrono::milliseconds(86'400'000);
}

void judge_config(const ServerConfig& c) {
  expect(c.workers >= 1 && c.workers <= 256, "there are workers, and not too many");
  expect(sane(c.customer_rate) && sane(c.address_rate), "rates are within what limiters count");
  const http::Limits& l = c.limits;
  expect(l.connections >= 1 && l.pipeline >= 1 && l.header_bytes >= 512 && l.target_bytes >= 64 &&
             l.body_bytes >= 256 && l.body_bytes <= std::size_t{1} << 24,
         "no limit shuts everybody out");
  expect(sane(l.header_timeout) && sane(l.body_timeout) && sane(l.idle_timeout) &&
             sane(l.write_timeout) && sane(c.drain_timeout),
         "timeouts are within bounds");
  expect(!c.address.empty() && !c.data_dir.empty(), "nothing that is needed is empty");
}

}  // namespace

// Lines that begin with "--" are arguments, with "FAIRSALE_" the environment; the others the file.
void judge(std::string_view input) {
  static MemoryFile file;
  std::vector<std::string> args{"--config", file.path()};
  std::vector<std::string> environment;
  std::string content;
  Choices in(input);
  while (!in.rest().empty()) {
    const std::string line(in.line());
    // A file that the input names is none of the input's business.
    if (line.starts_with("--config") || line.starts_with("FAIRSALE_CONFIG")) continue;
    if (line.starts_with("--")) {
      args.push_back(line);
    } else if (line.starts_with("FAIRSALE_")) {
      environment.push_back(line);
    } else {
      content += line + '\n';
    }
  }
  file.write(content);
  const auto parsed = parse_config(args, environment, "1");
  if (const auto* config = std::get_if<ServerConfig>(&parsed)) return judge_config(*config);
  const Exit& exit = std::get<Exit>(parsed);
  expect(exit.code == 0 || exit.code == 2, "what cannot be used is misuse");
  expect(!exit.text.empty() && exit.text.back() == '\n', "and it is said why");
}

// Each setting, as the help lists them, with values at and over the edges.
std::vector<std::string> seeds() {
  std::vector<std::string> out;
  const auto help = parse_config({"--help"}, {}, "1");
  std::string_view text = std::get<Exit>(help).text;
  for (std::size_t at = text.find("--"); at != std::string_view::npos; at = text.find("--", at)) {
    at += 2;
    const std::size_t end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz-", at);
    const std::string name(text.substr(at, end - at));
    if (name.size() < 2 || name == "help" || name == "config") continue;
    for (const std::string_view value :
         {"0", "1", "0.001", "1e9", "99999999999999999999", "true"}) {
      out.push_back(name + " = " + std::string(value) + "\n");
    }
  }
  return out;
}

}  // namespace fairsale::fuzz
