#include "api/config.hpp"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <utility>

#include <fmt/format.h>
#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "api/http/problem.hpp"

namespace fairsale::api {

namespace {

// Puts a text into the configuration; gives what is wrong with it, or nothing.
using Apply = std::function<std::string(const std::string&, ServerConfig&)>;

struct Setting {
  std::string name;
  std::string value_name;  // empty: a switch
  std::string help;
  Apply apply;
};

template <class T>
Apply whole(T& (*field)(ServerConfig&), std::uint64_t low, std::uint64_t high) {
  return [=](const std::string& text, ServerConfig& config) -> std::string {
    const auto n = http::parse_number(text);
    if (!n || *n < low || *n > high) {
      return fmt::format("must be a whole number from {} to {}", low, high);
    }
    field(config) = static_cast<T>(*n);
    return {};
  };
}

std::optional<double> parse_decimal(const std::string& text) {
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value, std::chars_format::fixed);
  if (error != std::errc{} || stop != end || !std::isfinite(value)) return std::nullopt;
  return value;
}

Apply per_second(Rate& (*field)(ServerConfig&)) {
  return [=](const std::string& text, ServerConfig& config) -> std::string {
    const auto n = parse_decimal(text);
    if (!n || (*n != 0 && (*n < kMinRate || *n > kMaxRate))) {
      return fmt::format("must be a number from {} to {:.0f}, or 0 for no limit", kMinRate,
                         kMaxRate);
    }
    field(config).per_second = *n;
    return {};
  };
}

Apply duration(std::chrono::milliseconds& (*field)(ServerConfig&)) {
  return [=](const std::string& text, ServerConfig& config) -> std::string {
    const auto n = parse_decimal(text);
    if (!n || *n < 0.01 || *n > 86'400) return "must be a number of seconds from 0.01 to 86400";
    field(config) = std::chrono::milliseconds(std::llround(*n * 1000));
    return {};
  };
}

Apply text_of(std::string& (*field)(ServerConfig&)) {
  return [=](const std::string& text, ServerConfig& config) -> std::string {
    if (text.empty()) return "must not be empty";
    field(config) = text;
    return {};
  };
}

Apply one_of(std::string& (*field)(ServerConfig&), std::vector<std::string> choices) {
  return [field, choices = std::move(choices)](const std::string& text,
                                               ServerConfig& config) -> std::string {
    if (std::find(choices.begin(), choices.end(), text) == choices.end()) {
      return fmt::format("must be one of {}", fmt::join(choices, ", "));
    }
    field(config) = text;
    return {};
  };
}

Apply yes_or_no(bool& (*field)(ServerConfig&)) {
  return [=](const std::string& text, ServerConfig& config) -> std::string {
    if (text != "true" && text != "false" && text != "1" && text != "0") {
      return "must be true or false";
    }
    field(config) = text == "true" || text == "1";
    return {};
  };
}

std::string apply_days(const std::string& text, ServerConfig& config) {
  const auto n = parse_decimal(text);
  if (!n || *n < 0.00001 || *n > 365) return "must be a number of days up to 365";
  config.webhook_give_up_after = std::chrono::milliseconds(std::llround(*n * 86'400'000));
  return {};
}

// "HOST" or "HOST:PORT", where an IPv6 address stands in brackets.
bool is_host_and_port(std::string_view text) {
  std::string_view host = text.substr(0, text.find(':'));
  const bool bracketed = text.starts_with('[');
  if (bracketed) host = text.substr(0, text.find(']') + 1);
  const bool plain = std::all_of(host.begin(), host.end(), [](char c) {
    return c > ' ' && c <= '~' && std::string_view("/?#@\\\"'<>").find(c) == std::string_view::npos;
  });
  if (host.empty() || (bracketed && host.size() < 3) || !plain) return false;
  text.remove_prefix(host.size());
  if (text.empty()) return true;
  const auto port = text.front() == ':' ? http::parse_number(text.substr(1)) : std::nullopt;
  return port && *port > 0 && *port <= 65'535;
}

std::string apply_nats(const std::string& text, ServerConfig& config) {
  config.nats = text;
  return wrong_with_nats(text);
}

std::string apply_role(const std::string& text, ServerConfig& config) {
  if (text == "edge") {
    config.role = NodeRole::edge;
  } else if (text == "processor" || text == "all") {
    config.role = NodeRole::processor;
  } else {
    return "must be edge, processor or all (a processor that serves clients as well)";
  }
  return {};
}

std::string apply_listen(const std::string& text, ServerConfig& config) {
  const std::size_t colon = text.rfind(':');
  std::string wrong = "must be ADDRESS:PORT, such as 127.0.0.1:8080, 0.0.0.0:80 or [::]:80";
  if (colon == std::string::npos || colon == 0) return wrong;
  std::string address = text.substr(0, colon);
  const bool bracketed = address.size() > 2 && address.front() == '[' && address.back() == ']';
  if (bracketed) address = address.substr(1, address.size() - 2);
  if (!bracketed && address.find(':') != std::string::npos) return wrong;
  const auto port = http::parse_number(std::string_view(text).substr(colon + 1));
  if (!port || *port > 65'535) return wrong;
  config.address = address;
  config.port = static_cast<std::uint16_t>(*port);
  return {};
}

// It becomes a link, so it is an address and nothing else: "javascript:" is none.
std::string apply_pay_url(const std::string& text, ServerConfig& config) {
  const bool address = text.starts_with("https://") || text.starts_with("http://");
  const bool visible = std::all_of(text.begin(), text.end(), [](char c) {
    return c > ' ' && c <= '~' && c != '"' && c != '<' && c != '>';
  });
  std::string_view host = text;
  host.remove_prefix(address ? text.find("://") + 3 : 0);
  host = host.substr(0, host.find_first_of("/?#"));
  if (!address || !visible || !is_host_and_port(host) || host.find('{') != std::string_view::npos ||
      text.find("{purchase}") == std::string::npos) {
    return "must be an address with {purchase} in it, such as "
           "https://shop.example/pay?purchase={purchase}";
  }
  config.pay_url = text;
  return {};
}

// A member's path cannot stand in parentheses. NOLINTBEGIN(bugprone-macro-parentheses)
#define FIELD(path)                \
  +[](ServerConfig & c) -> auto& { \
    return c.path;                 \
  }
// NOLINTEND(bugprone-macro-parentheses)

const std::vector<Setting>& settings() {
  static const std::vector<Setting> all = {
      {"data", "DIR", "where the event log is kept (data)", text_of(FIELD(data_dir))},
      {"listen", "ADDRESS:PORT", "where to serve HTTP; port 0: any free one (127.0.0.1:8080)",
       apply_listen},
      {"workers", "N", "threads that serve HTTP (1)", whole(FIELD(workers), 1, 256)},
      {"operator-token-file", "FILE", "holds the operator's token",
       text_of(FIELD(operator_token.file))},
      {"shop-token-file", "FILE", "holds the shop's token", text_of(FIELD(shop_token.file))},
      {"customer-key-file", "FILE", "holds the key that signs customer tokens",
       text_of(FIELD(customer_key.file))},
      {"payment-secret-file", "FILE",
       "holds the secret that signs POST /v1/payments/callback, whsec_...",
       text_of(FIELD(payment_secret.file))},
      {"customer-rate", "N", "requests a second of one customer; 0: no limit (10)",
       per_second(FIELD(customer_rate))},
      {"customer-burst", "N", "requests a customer may make at once (20)",
       whole(FIELD(customer_rate.burst), 1, kMaxBurst)},
      {"address-rate", "N", "requests a second of one client address; 0: no limit (200)",
       per_second(FIELD(address_rate))},
      {"address-burst", "N", "requests an address may make at once (400)",
       whole(FIELD(address_rate.burst), 1, kMaxBurst)},
      {"max-connections", "N", "open connections of each worker (20000)",
       whole(FIELD(limits.connections), 1, 1'000'000)},
      {"max-streams", "N", "open event streams of the server (10000)",
       whole(FIELD(max_streams), 1, 1'000'000)},
      {"max-pipeline", "N", "unanswered requests of one connection (64)",
       whole(FIELD(limits.pipeline), 1, 1024)},
      {"max-header-bytes", "N", "of one request (8192)",
       whole(FIELD(limits.header_bytes), 512, 1 << 20)},
      {"max-target-bytes", "N", "of one request (1024)",
       whole(FIELD(limits.target_bytes), 64, 1 << 16)},
      {"max-body-bytes", "N", "of one request (16384)",
       whole(FIELD(limits.body_bytes), 256, 1 << 24)},
      {"header-timeout", "SECONDS", "for a request's header to arrive (10)",
       duration(FIELD(limits.header_timeout))},
      {"body-timeout", "SECONDS", "for a request's body to arrive (10)",
       duration(FIELD(limits.body_timeout))},
      {"idle-timeout", "SECONDS", "between the requests of a connection (75)",
       duration(FIELD(limits.idle_timeout))},
      {"write-timeout", "SECONDS", "for a client to take some of its answer (10)",
       duration(FIELD(limits.write_timeout))},
      {"drain-timeout", "SECONDS", "for open requests when stopping (10)",
       duration(FIELD(drain_timeout))},
      {"snapshot-every", "N", "events of a SKU between snapshots; 0: never (500000)",
       whole(FIELD(snapshot_every), 0, 1'000'000'000'000)},
      {"log-level", "LEVEL", "trace, debug, info, warn, error or off (info)",
       one_of(FIELD(log.level), {"trace", "debug", "info", "warn", "error", "off"})},
      {"log-format", "FORMAT", "text or json (text)", one_of(FIELD(log.format), {"text", "json"})},
      {"log-file", "FILE", "instead of standard error", text_of(FIELD(log.file))},
      {"webhook-private-addresses", "",
       "webhooks may go to loopback, private and link-local addresses",
       yes_or_no(FIELD(webhook_private_addresses))},
      {"webhook-ca-file", "FILE", "whom webhooks by https trust (the system's authorities)",
       text_of(FIELD(webhook_ca_file))},
      {"webhook-give-up-after", "DAYS", "a webhook that fails for so long is disabled (5)",
       apply_days},
      {"nats", "URLS",
       "JetStream, nats://HOST:PORT,...: of a cluster (--role) the servers that order its log; "
       "else where orders, notifications and reminders are published",
       apply_nats},
      {"nats-credentials-file", "FILE", "holds user:password or a token for NATS",
       text_of(FIELD(nats_credentials.file))},
      {"nats-creds-file", "FILE", "a .creds file of NATS", text_of(FIELD(nats_creds_file))},
      {"nats-outbox", "", "a node of a cluster sends its outbox to NATS as well, as one alone does",
       yes_or_no(FIELD(nats_outbox))},
      {"role", "ROLE", "of a cluster's node: edge, processor or all; needs --nats", apply_role},
      {"node", "NAME", "of this node, as others see it (the host and the port)",
       text_of(FIELD(node))},
      {"partitions", "N", "of a cluster, the same on all its nodes (4)",
       whole(FIELD(partitions), 1, 1024)},
      {"takes", "LIST", "partitions that this processor takes, such as 0-3,8 (all)",
       text_of(FIELD(takes))},
      {"processors", "N",
       "that take each partition, running or not; the same on all nodes of a cluster (3)",
       whole(FIELD(processors), 1, 64)},
      {"durable-on", "N", "processors that must have what is acknowledged (2)",
       whole(FIELD(durable_on), 1, 64)},
      {"stream-replicas", "N", "NATS servers that hold each stream (3)",
       whole(FIELD(stream_replicas), 1, 5)},
      {"stream-megabytes", "N",
       "that NATS keeps of a stream, and reserves: of six for a partition (1024)",
       whole(FIELD(stream_megabytes), 1, 1'048'576)},
      {"public-metrics", "", "serve /metrics without a token", yes_or_no(FIELD(public_metrics))},
      {"pay-url", "ADDRESS", "where the pages send shoppers to pay, with {purchase} in it",
       apply_pay_url},
      {"in-memory", "", "keep the log in memory only: for trials, all is lost at the end",
       yes_or_no(FIELD(in_memory))},
      {"demo", "", "open a demo sale and print ready-made tokens", yes_or_no(FIELD(demo))},
  };
  return all;
}

#undef FIELD

std::string variable_of(std::string_view setting) {
  std::string out = "FAIRSALE_";
  for (const char c : setting) {
    out += c == '-' ? '_' : (c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c);
  }
  return out;
}

using Values = std::map<std::string, std::string, std::less<>>;  // by setting

Exit misuse(std::string text) { return {2, "fairsaled: " + std::move(text) + "\nTry --help.\n"}; }

// The file's settings, or what is wrong with it.
std::variant<Values, Exit> read_file(const std::string& path) {
  std::ifstream file(path);
  if (!file) return misuse(fmt::format("config: cannot read {}", path));
  std::vector<CLI::ConfigItem> items;
  try {
    items = CLI::ConfigTOML().from_config(file);
  } catch (const std::exception& e) {
    return misuse(fmt::format("config: {}: {}", path, e.what()));
  }
  Values out;
  for (const auto& item : items) {
    if (item.name == "++" || item.name == "--") continue;  // a section's begin and end
    const std::string name = item.fullname();
    const bool known = std::any_of(settings().begin(), settings().end(),
                                   [&](const Setting& s) { return s.name == name; });
    if (!known) return misuse(fmt::format("config: {}: unknown setting '{}'", path, name));
    if (item.inputs.size() != 1 || out.contains(name)) {
      return misuse(fmt::format("config: {}: '{}' must be given once, with one value", path, name));
    }
    out[name] = item.inputs.front();
  }
  return out;
}

// What was given, unless there may be credentials in it: complaints end up in logs.
std::string shown(const std::string& text) {
  return text.find('@') == std::string::npos ? fmt::format("'{}'", text) : "what was given";
}

// A token or key may come from its variable, which wins over a file named in the config file and
// loses to one named by a flag.
std::optional<Exit> choose_secret(SecretSource& source, const Values& flags,
                                  const Values& environment, const Values& variables) {
  const auto value = variables.find(variable_of(source.setting));
  if (value == variables.end() || value->second.empty()) return std::nullopt;
  const std::string file_setting = std::string(source.setting) + "-file";
  if (flags.contains(file_setting)) return std::nullopt;
  if (environment.contains(file_setting)) {
    return misuse(fmt::format("set {} or {}, not both", value->first, variable_of(file_setting)));
  }
  source.value = value->second;
  source.file.clear();
  return std::nullopt;
}

}  // namespace

std::string wrong_with_nats(std::string_view text) {
  for (std::string_view rest = text;;) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view url = rest.substr(0, comma);
    // Command lines are for all to see.
    if (url.find('@') != std::string_view::npos) {
      return "must not hold credentials: give them by --nats-credentials-file";
    }
    const std::size_t scheme = url.starts_with("nats://") ? 7 : url.starts_with("tls://") ? 6 : 0;
    if (scheme == 0 || !is_host_and_port(url.substr(scheme))) {
      return "must be nats://HOST:PORT or tls://HOST:PORT, or several with commas between";
    }
    if (comma == rest.size()) return {};
    rest.remove_prefix(comma + 1);
  }
}

std::variant<ServerConfig, Exit> parse_config(const std::vector<std::string>& args,
                                              const std::vector<std::string>& environment,
                                              std::string_view version) {
  CLI::App app(
      "fairsaled, the fair flash-sale server.\n"
      "Every setting may also stand in the environment (--some-name is FAIRSALE_SOME_NAME) or in\n"
      "the config file (some-name = value); flags win over the environment, that over the file.\n"
      "Secrets may also be given as FAIRSALE_OPERATOR_TOKEN, FAIRSALE_SHOP_TOKEN,\n"
      "FAIRSALE_CUSTOMER_KEY, FAIRSALE_PAYMENT_SECRET and FAIRSALE_NATS_CREDENTIALS.",
      "fairsaled");
  app.set_version_flag("--version", "fairsaled " + std::string(version));
  std::deque<std::pair<CLI::Option*, std::string>> given;  // stable addresses
  for (const Setting& s : settings()) {
    auto& [option, text] = given.emplace_back();
    if (s.value_name.empty()) {
      option = app.add_flag("--" + s.name + "{true}", text, s.help);
    } else {
      option = app.add_option("--" + s.name, text, s.help)->option_text(s.value_name);
    }
  }
  std::string config_path;
  CLI::Option* const config_option =
      app.add_option("--config", config_path, "a file of settings, TOML or INI")
          ->option_text("FILE");
  try {
    // CLI11 takes a vector's arguments from its end.
    app.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::ParseError& e) {
    std::ostringstream out;
    std::ostringstream err;
    if (app.exit(e, out, err) == 0) return Exit{0, out.str()};
    return misuse(e.what());
  }

  Values flags;
  Values from_environment;
  Values variables;
  for (const std::string& entry : environment) {
    const std::size_t equals = entry.find('=');
    if (equals != std::string::npos && entry.starts_with("FAIRSALE_")) {
      variables[entry.substr(0, equals)] = entry.substr(equals + 1);
    }
  }
  for (std::size_t i = 0; i < settings().size(); ++i) {
    const std::string& name = settings()[i].name;
    if (given[i].first->count() > 0) flags[name] = given[i].second;
    // An empty variable is as good as none: that is how orchestrators leave something out.
    const auto variable = variables.find(variable_of(name));
    if (variable != variables.end() && !variable->second.empty()) {
      from_environment[name] = variable->second;
    }
  }
  if (config_option->count() == 0) {
    const auto variable = variables.find("FAIRSALE_CONFIG");
    if (variable != variables.end()) config_path = variable->second;
  }
  Values from_file;
  if (!config_path.empty()) {
    auto read = read_file(config_path);
    if (auto* exit = std::get_if<Exit>(&read)) return std::move(*exit);
    from_file = std::get<Values>(std::move(read));
  }

  ServerConfig config;
  for (const Setting& s : settings()) {
    const std::string* text = nullptr;
    std::string from;
    if (const auto flag = flags.find(s.name); flag != flags.end()) {
      text = &flag->second;
      from = "--" + s.name;
    } else if (const auto env = from_environment.find(s.name); env != from_environment.end()) {
      text = &env->second;
      from = variable_of(s.name);
    } else if (const auto file = from_file.find(s.name); file != from_file.end()) {
      text = &file->second;
      from = fmt::format("{} in {}", s.name, config_path);
    }
    if (text == nullptr) continue;
    if (const std::string wrong = s.apply(*text, config); !wrong.empty()) {
      return misuse(fmt::format("{}: {} {}", from, shown(*text), wrong));
    }
  }
  for (SecretSource* source : {&config.operator_token, &config.shop_token, &config.customer_key,
                               &config.payment_secret, &config.nats_credentials}) {
    if (auto exit = choose_secret(*source, flags, from_environment, variables)) return *exit;
  }
  return config;
}

std::variant<ServerConfig, Exit> parse_config(int argc, char** argv, std::string_view version) {
  const std::vector<std::string> args(argv + std::min(argc, 1), argv + argc);
  std::vector<std::string> environment;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    environment.emplace_back(*entry);
  }
  return parse_config(args, environment, version);
}

}  // namespace fairsale::api
