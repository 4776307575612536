// The server's settings: flags win over environment variables, these over the config file, that
// over the defaults.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "api/auth.hpp"
#include "api/http/worker.hpp"
#include "api/logging.hpp"
#include "api/rate_limit.hpp"

namespace fairsale::api {

// What this server is: alone, or a node of a cluster (docs/cluster.md).
enum class NodeRole : std::uint8_t { alone, edge, processor };

struct ServerConfig {
  NodeRole role = NodeRole::alone;
  bool nats_outbox = false;      // as a node of a cluster
  std::string node;              // its name; empty: the host's and its port
  std::uint32_t partitions = 4;  // the same on all nodes
  std::string takes;             // partitions of a processor; empty: all
  std::size_t processors = 3;    // that take each partition
  std::size_t durable_on = 2;    // processors that must have what is acknowledged
  std::uint32_t stream_replicas = 3;
  std::uint32_t stream_megabytes = 1'024;
  std::string data_dir = "data";
  std::string address = "127.0.0.1";
  std::uint16_t port = 8080;  // 0: any free port
  std::size_t workers = 1;
  SecretSource operator_token{"operator-token", {}, {}};
  SecretSource shop_token{"shop-token", {}, {}};
  SecretSource customer_key{"customer-key", {}, {}};
  SecretSource payment_secret{
      "payment-secret", {}, {}};  // none: payments are told by the shop only
  Rate customer_rate{10, 20};
  Rate address_rate{200, 400};
  http::Limits limits;
  std::size_t max_streams = 10'000;
  std::chrono::milliseconds drain_timeout{10'000};
  std::uint64_t snapshot_every = 500'000;  // events of a SKU; 0: never
  LogConfig log;
  bool public_metrics = false;
  bool webhook_private_addresses = false;
  std::string webhook_ca_file;  // empty: the system's authorities
  std::chrono::milliseconds webhook_give_up_after = std::chrono::days(5);
  std::string nats;                                           // URL; empty: none
  std::string nats_creds_file;                                // as NATS makes them
  SecretSource nats_credentials{"nats-credentials", {}, {}};  // "user:password" or a token
  bool demo = false;
  std::string pay_url;     // where shoppers pay, with {purchase} in it; empty: not told
  bool in_memory = false;  // no data directory: nothing outlives the process
};

// The program should end: after --help or --version (code 0, text for standard output) or because
// of a setting that cannot be used (code 2, text for standard error).
struct Exit {
  int code = 0;
  std::string text;
};

// `args` without the program's name. `environment` is as in environ: "NAME=value"; a setting
// --some-name is FAIRSALE_SOME_NAME there, and some-name in the file (TOML or INI). Other FAIRSALE_
// variables are left alone, since orchestrators make some up.
std::variant<ServerConfig, Exit> parse_config(const std::vector<std::string>& args,
                                              const std::vector<std::string>& environment,
                                              std::string_view version);

// The same for main().
std::variant<ServerConfig, Exit> parse_config(int argc, char** argv, std::string_view version);

// What is wrong with the addresses of NATS servers ("nats://HOST:PORT", several with commas
// between), as the end of a sentence; empty when nothing is.
std::string wrong_with_nats(std::string_view urls);

}  // namespace fairsale::api
