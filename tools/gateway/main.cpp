// fairsale-gateway: a payment and fulfilment gateway for demonstrations and tests.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "api/auth.hpp"
#include "api/http/problem.hpp"
#include "projections/delivery/signature.hpp"
#include "tools/gateway/fake_gateway.hpp"
#include "tools/http_client.hpp"
#include "tools/version.hpp"

namespace {

using namespace fairsale;

int usage(const std::string& what) {
  fmt::print(stderr, "fairsale-gateway: {}\n", what);
  return 2;
}

Result<std::string> optional_secret(std::string_view setting, const char* variable,
                                    const std::string& file) {
  const char* value = file.empty() ? std::getenv(variable) : nullptr;
  if (file.empty() && (value == nullptr || *value == '\0')) return std::string{};
  return api::load_secret({setting, file, value != nullptr ? value : ""});
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "fairsale-gateway: a payment and fulfilment gateway that moves no money, with the "
      "faults of real ones. For demonstrations and tests."};
  app.name("fairsale-gateway");
  app.set_version_flag("--version", std::string("fairsale-gateway ") + kVersion);
  app.footer(
      "Shares are from 0 to 1. Exit codes: 0 ended by a signal; 1 the address cannot be "
      "served; 2 wrong usage.\nSecrets may also be given as FAIRSALE_PAYMENT_SECRET and "
      "FAIRSALE_GATEWAY_TOKEN.");
  gateway::Options o;
  std::string listen = "127.0.0.1:8090";
  std::string secret_file;
  std::string token_file;
  double delay = 0.05;
  double late_delay = 5;
  double hang = 20;
  app.add_option("--listen", listen, "ADDRESS:PORT; port 0: any free one")->capture_default_str();
  app.add_option("--callback", o.callback_url,
                 "Where outcomes of charges are told: http://HOST:PORT/v1/payments/callback");
  app.add_option("--payment-secret-file", secret_file, "Holds the secret that signs callbacks");
  app.add_option("--token-file", token_file, "Holds the token that requests must bear");
  auto& f = o.faults;
  app.add_option("--seed", f.seed, "Of the faults")->capture_default_str();
  const auto share = [&](const char* name, double& into, const char* help) {
    app.add_option(name, into, help)->check(CLI::Range(0.0, 1.0))->capture_default_str();
  };
  share("--decline-charges", f.decline_charges, "Share of payments that fail");
  share("--decline-captures", f.decline_captures, "Share of captures that are declined");
  share("--decline-handovers", f.decline_handovers, "Share of hand-overs that are declined");
  share("--errors", f.errors, "Share of requests answered 503, nothing done");
  share("--timeouts", f.timeouts, "Share of requests without an answer, nothing done");
  share("--lost", f.lost, "Share of requests carried out, with a 500 or no answer");
  share("--duplicates", f.duplicates, "Share of callbacks that are sent twice");
  share("--late", f.late, "Share of callbacks that come late");
  const auto seconds = [&](const char* name, double& into, const char* help) {
    app.add_option(name, into, help)->check(CLI::Range(0.0, 86'400.0))->capture_default_str();
  };
  seconds("--delay", delay, "Seconds before a callback, at the most");
  seconds("--late-delay", late_delay, "Seconds more before a late one");
  seconds("--hang", hang, "Seconds after which no answer becomes a 504");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e, std::cout, std::cerr) == 0 ? 0 : 2;
  }
  const auto ms = [](double s) {
    return std::chrono::milliseconds(static_cast<std::int64_t>(s * 1000));
  };
  f.delay = ms(delay);
  f.late_delay = ms(late_delay);
  f.hang = ms(hang);
  auto secret = optional_secret("payment-secret", "FAIRSALE_PAYMENT_SECRET", secret_file);
  if (!secret) return usage(secret.error().message);
  auto token = optional_secret("gateway-token", "FAIRSALE_GATEWAY_TOKEN", token_file);
  if (!token) return usage(token.error().message);
  if (!o.callback_url.empty()) {
    if (const auto wrong = wrong_with_url(o.callback_url); !wrong.empty()) return usage(wrong);
    if (!is_webhook_secret(*secret)) {
      return usage("--callback needs a payment secret: whsec_ and the base64 of 24 to 64 bytes");
    }
  }
  o.callback_secret = *secret;
  o.token = *token;
  const std::size_t colon = listen.rfind(':');
  const auto port =
      colon == std::string::npos ? std::nullopt : http::parse_number(listen.substr(colon + 1));
  if (!port || *port > 65'535 || colon == 0) return usage("--listen must be ADDRESS:PORT");

  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  start_http_clients();
  auto listening = http::listen(listen.substr(0, colon), static_cast<std::uint16_t>(*port), 1);
  if (!listening) {
    fmt::print(stderr, "fairsale-gateway: {}\n", listening.error().message);
    return 1;
  }
  http::Worker worker(std::move(listening->listeners[0]), {});
  gateway::FakeGateway service(std::move(o), worker);
  std::thread serving([&] { worker.run(service); });
  fmt::print("fairsale-gateway {} listens on http://{}:{}\n", kVersion, listen.substr(0, colon),
             listening->port);
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  worker.drain(std::chrono::milliseconds(500));
  serving.join();
  return 0;
}
