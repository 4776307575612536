// fairsale token: mints a customer's token without asking the server.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>

#include "api/auth.hpp"
#include "tools/cli.hpp"

namespace fairsale::cli {

namespace {

struct TokenOptions {
  std::string customer;
  std::int64_t ttl_seconds = 900;
  std::string key_file;
  bool json = false;
};

Result<int> run_token(const TokenOptions& o) {
  if (!api::is_customer_name(o.customer)) {
    return fail(Fault::invalid,
                "--customer takes 1 to 64 visible ASCII characters other than \" and \\");
  }
  auto key = api::load_secret({"customer-key", o.key_file, {}});
  if (!key) return tl::unexpected(key.error());
  const auto now = std::chrono::duration_cast<std::chrono::seconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count();
  const std::int64_t expires_at = now + o.ttl_seconds;
  const std::string token = api::Authenticator({.customer_key = *key}).mint(o.customer, expires_at);
  if (o.json) {
    fmt::print(R"({{"token":{},"customer":{},"expires_at_seconds":{}}})"
               "\n",
               json_string(token), json_string(o.customer), expires_at);
  } else {
    fmt::print("{}\n", token);
  }
  return kOk;
}

}  // namespace

void add_token(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<TokenOptions>();
  CLI::App* c = app.add_subcommand(
      "token", "Mints a customer's token with the key that the server signs them with");
  c->footer("Exit codes: 0 ok; 2 usage; 3 the key cannot be read.");
  c->add_option("--customer", o->customer, "Whose token")->required();
  c->add_option("--ttl", o->ttl_seconds, "Seconds that it is good for")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{86'400}))
      ->capture_default_str();
  c->add_option("--key-file", o->key_file,
                "File with the customer key (fairsaled --customer-key-file)")
      ->required();
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_token(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
