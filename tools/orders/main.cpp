// fairsale-orders: carries what was bought through payment and fulfilment.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>

#include "api/auth.hpp"
#include "api/config.hpp"
#include "api/logging.hpp"
#include "core/json/json.hpp"
#include "tools/http_client.hpp"
#include "tools/orders/gateway.hpp"
#include "tools/orders/monitor.hpp"
#include "tools/orders/order_store.hpp"
#include "tools/orders/processor.hpp"
#include "tools/orders/source.hpp"
#include "tools/version.hpp"

namespace {

using namespace fairsale;
using namespace fairsale::orders;

constexpr int kOk = 0;
constexpr int kFound = 1;
constexpr int kUsage = 2;
constexpr int kIo = 3;
constexpr std::size_t kMostUndelivered = 1'000;

int complain(const Error& e) {
  fmt::print(stderr, "fairsale-orders: {}\n", e.message);
  return e.fault == Fault::invalid ? kUsage : kIo;
}

struct Options {
  std::string store = "orders";
  GatewayOptions gateway;
  std::string gateway_token_file;
  std::string server_token_file;
  NatsSourceOptions nats;
  std::string nats_credentials_file;
  HttpSourceOptions http;
  ProcessorOptions processor;
  std::string metrics;
  api::LogConfig log;
  double timeout = 5;
  double retry_first = 0.2;
  double retry_most = 60;
  double ack_wait = 30;
  std::string purchase;
  std::string state;
  bool open = false;
  bool json = false;
  bool again = false;
};

std::chrono::milliseconds ms(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000));
}

// From the file or the variable; empty when neither is given and it may be left out.
Result<std::string> secret(std::string_view setting, const char* variable, const std::string& file,
                           bool required, std::size_t least = api::kMinSecretBytes) {
  const char* value = file.empty() ? std::getenv(variable) : nullptr;
  if (!required && file.empty() && (value == nullptr || *value == '\0')) return std::string{};
  return api::load_secret({setting, file, value != nullptr ? value : ""}, least);
}

Result<void> load_secrets(Options& o) {
  auto shop = secret("shop-token", "FAIRSALE_SHOP_TOKEN", o.server_token_file, true);
  if (!shop) return tl::unexpected(shop.error());
  auto gateway = secret("gateway-token", "FAIRSALE_GATEWAY_TOKEN", o.gateway_token_file, false);
  if (!gateway) return tl::unexpected(gateway.error());
  o.gateway.server_token = *shop;
  o.http.token = *shop;
  o.gateway.token = *gateway;
  return {};
}

Result<void> load_nats(Options& o) {
  if (o.nats.url.empty()) return {};
  if (const std::string wrong = api::wrong_with_nats(o.nats.url); !wrong.empty()) {
    return fail(Fault::invalid, "--nats " + wrong);
  }
  // Somebody else's, who decides how long they are.
  auto credentials =
      secret("nats-credentials", "FAIRSALE_NATS_CREDENTIALS", o.nats_credentials_file, false, 1);
  if (!credentials) return tl::unexpected(credentials.error());
  o.nats.credentials = *credentials;
  o.nats.ack_wait = ms(o.ack_wait);
  return {};
}

Result<int> run(Options o) {
  for (std::string* url : {&o.gateway.url, &o.gateway.server}) {
    while (url->ends_with('/')) url->pop_back();
    if (const std::string wrong = wrong_with_url(*url); !wrong.empty()) {
      return fail(Fault::invalid, wrong);
    }
  }
  if (auto ok = load_secrets(o); !ok) return tl::unexpected(ok.error());
  if (auto ok = load_nats(o); !ok) return tl::unexpected(ok.error());
  if (o.retry_most < o.retry_first) {
    return fail(Fault::invalid, "--retry-most must not be below --retry-first");
  }
  o.http.server = o.gateway.server;
  o.gateway.timeout = ms(o.timeout);
  o.processor.retry_first = ms(o.retry_first);
  o.processor.retry_most = ms(o.retry_most);

  // Signals are waited for, not handled: every thread inherits this mask.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGPIPE, SIG_IGN);
  if (auto ok = api::start_logging(o.log); !ok) return tl::unexpected(ok.error());
  start_http_clients();

  auto store = OrderStore::open(o.store);
  if (!store) return tl::unexpected(store.error());
  const pthread_t self = pthread_self();
  std::optional<Error> failure;
  std::mutex failure_mutex;
  auto processor = Processor::start(
      **store, [&] { return http_gateway(o.gateway); }, o.processor,
      [&](const Error& e) {
        {
          const std::scoped_lock lock(failure_mutex);
          failure = e;
        }
        pthread_kill(self, SIGTERM);
      });
  if (!processor) return tl::unexpected(processor.error());
  auto monitor = Monitor::start(o.metrics, **processor);
  if (!monitor) return tl::unexpected(monitor.error());
  const auto source = o.nats.url.empty() ? http_source(o.http) : nats_source(o.nats);
  // A source that fails does so because the store did, which ends the process.
  std::thread reading([&] { (void)source->run(**processor); });
  fmt::print("fairsale-orders {} keeps {}{}\n", kVersion, o.store,
             *monitor ? fmt::format(", metrics on port {}", (*monitor)->port()) : "");
  std::fflush(stdout);
  int signal = 0;
  sigwait(&signals, &signal);
  source->stop();
  reading.join();
  (*processor)->stop();
  monitor->reset();
  api::stop_logging();
  const std::scoped_lock lock(failure_mutex);
  if (failure) return tl::unexpected(*failure);
  return kOk;
}

void print(const Case& c, bool json) {
  if (json) {
    std::string out;
    JsonWriter w(out);
    w.begin_object()
        .member("id", std::string_view(c.id))
        .member("purchase", std::string_view(c.purchase))
        .member("state", name_of(c.state))
        .member("due", name_of(due(c.state)))
        .member("reference", std::string_view(c.reference))
        .member("amount", c.amount)
        .member("currency", std::string_view(c.currency))
        .member("quantity", c.quantity);
    if (!c.why.empty()) w.member("why", std::string_view(c.why));
    if (!c.trouble.empty()) w.member("trouble", std::string_view(c.trouble));
    if (c.tries != 0) w.member("tries", c.tries);
    w.end_object();
    fmt::print("{}\n", out);
    return;
  }
  std::string out =
      fmt::format("{:<24} {:<12} {:>10} {} ", c.purchase, name_of(c.state), c.amount, c.currency);
  append_word(out, c.reference);
  for (const std::string* text : {&c.why, &c.trouble}) {
    if (text->empty()) continue;
    out += "  ";
    append_word(out, *text);
  }
  fmt::print("{}\n", out);
}

Result<int> list(const Options& o) {
  std::optional<State> wanted;
  if (!o.state.empty()) {
    wanted = state_named(o.state);
    if (!wanted) {
      return fail(Fault::invalid,
                  fmt::format("--state '{}' is none of placed, captured, handed_over, failed, "
                              "returned, compensated, refund_due, refunded",
                              o.state));
    }
  }
  auto store = OrderStore::look(o.store);
  if (!store) return tl::unexpected(store.error());
  const auto visit = [&](const Case& c) {
    if (!wanted || c.state == *wanted) print(c, o.json);
    return true;
  };
  const auto ok = o.open ? (*store)->each_open(visit) : (*store)->each(visit);
  if (!ok) return tl::unexpected(ok.error());
  return kOk;
}

Result<int> show(const Options& o) {
  auto store = OrderStore::look(o.store);
  if (!store) return tl::unexpected(store.error());
  bool found = false;
  const auto ok = (*store)->each_of(o.purchase, [&](const Case& c) {
    found = true;
    print(c, o.json);
    return true;
  });
  if (!ok) return tl::unexpected(ok.error());
  if (!found) {
    fmt::print(stderr, "fairsale-orders: {} holds nothing of {}\n", o.store, o.purchase);
  }
  return found ? kOk : kFound;
}

// Everything that waits for a person.
Result<int> dead(Options o) {
  bool found = false;
  const auto line = [&](std::string_view kind, std::string_view id, std::string_view why,
                        std::string_view content) {
    found = true;
    std::string out;
    if (o.json) {
      JsonWriter(out)
          .begin_object()
          .member("kind", kind)
          .member("id", id)
          .member("why", why)
          .member("content", content)
          .end_object();
    } else {
      out = fmt::format("{:<12} ", kind);
      for (const std::string_view text : {id, why, content}) {
        append_word(out, text);
        out += "  ";
      }
    }
    fmt::print("{}\n", out);
  };
  if (!o.nats.url.empty()) {
    if (auto ok = load_nats(o); !ok) return tl::unexpected(ok.error());
    if (o.again) {
      const auto count = deliver_again(o.nats, kMostUndelivered);
      if (!count) return tl::unexpected(count.error());
      fmt::print(stderr, "{} put into the queue again\n", *count);
      return kOk;
    }
    const auto all = undelivered(o.nats, kMostUndelivered);
    if (!all) return tl::unexpected(all.error());
    for (const auto& u : *all) {
      line("undelivered", u.id.empty() ? std::to_string(u.sequence) : u.id,
           "delivered in vain as often as it may be", u.content);
    }
    return found ? kFound : kOk;
  }
  auto store = OrderStore::look(o.store);
  if (!store) return tl::unexpected(store.error());
  auto ok = (*store)->each_dead([&](const DeadLetter& d) {
    line("set_aside", d.id, d.why, d.content);
    return true;
  });
  if (ok) {
    ok = (*store)->each_open([&](const Case& c) {
      if (!c.refused && c.tries < Processor::kWorthALook) return true;
      line(c.refused ? "refused" : "unanswered", c.id,
           fmt::format("{} of {} is tried on: {}", name_of(due(c.state)), c.purchase, c.trouble),
           c.reference);
      return true;
    });
  }
  if (!ok) return tl::unexpected(ok.error());
  return found ? kFound : kOk;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{
      "fairsale-orders: carries orders through payment and fulfilment, and gives back what "
      "is due, once each."};
  app.name("fairsale-orders");
  app.set_version_flag("--version", std::string("fairsale-orders ") + kVersion);
  app.require_subcommand(1);
  app.footer(
      "Exit codes: 0 ok; 1 show: nothing there, dead: something there; 2 wrong usage; 3 a "
      "file, the network or the store failed.\nSecrets may also be given as "
      "FAIRSALE_SHOP_TOKEN, FAIRSALE_GATEWAY_TOKEN and FAIRSALE_NATS_CREDENTIALS.");
  Options o;
  Result<int> outcome = kOk;
  const auto with_store = [&](CLI::App* c) {
    c->add_option("--store", o.store, "Directory of this processor's orders; of it alone")
        ->capture_default_str();
    return c;
  };
  const auto with_nats = [&](CLI::App* c) {
    c->add_option("--nats", o.nats.url, "JetStream: nats://HOST:PORT, several with commas between");
    c->add_option("--nats-credentials-file", o.nats_credentials_file,
                  "Holds user:password or a token for NATS");
    c->add_option("--nats-creds-file", o.nats.creds_file, "A .creds file of NATS");
    return c;
  };
  const auto seconds = [](CLI::App* c, const char* name, double& into, const char* help) {
    c->add_option(name, into, help)->check(CLI::Range(0.01, 86'400.0))->capture_default_str();
  };

  CLI::App* c = with_nats(with_store(app.add_subcommand("run", "Processes orders until SIGTERM")));
  c->add_option("--gateway", o.gateway.url, "URL of the payment and fulfilment gateway")
      ->required();
  c->add_option("--gateway-token-file", o.gateway_token_file, "Holds the gateway's bearer token");
  c->add_option("--server", o.gateway.server, "URL of fairsaled")->required();
  c->add_option("--shop-token-file", o.server_token_file, "Holds the shop's token for fairsaled");
  c->add_option("--sku", o.http.skus,
                "Without --nats: sales whose orders are read from fairsaled (all)");
  c->add_flag("--restock", o.gateway.restock, "Units of refunded orders go back on sale");
  c->add_option("--workers", o.processor.workers, "Calls under way at once")
      ->check(CLI::Range(1, 256))
      ->capture_default_str();
  c->add_option("--max-open", o.processor.most_open, "Open orders; then no more are taken")
      ->check(CLI::Range(1, 10'000'000))
      ->capture_default_str();
  seconds(c, "--gateway-timeout", o.timeout, "Seconds for one call");
  seconds(c, "--retry-first", o.retry_first, "Seconds before a call is tried again; doubles");
  seconds(c, "--retry-most", o.retry_most, "Seconds between tries at the most");
  seconds(c, "--ack-wait", o.ack_wait, "Seconds after which NATS gives a message to another");
  c->add_option("--max-deliver", o.nats.max_deliver, "Times that NATS delivers a message")
      ->check(CLI::Range(1, 10'000))
      ->capture_default_str();
  c->add_option("--metrics", o.metrics, "ADDRESS:PORT to serve /metrics and /livez on (nowhere)");
  c->add_option("--log-level", o.log.level, "trace, debug, info, warn, error or off")
      ->capture_default_str();
  c->add_option("--log-format", o.log.format, "text or json")->capture_default_str();
  c->add_option("--log-file", o.log.file, "Instead of standard error");
  c->callback([&] { outcome = run(o); });

  c = with_store(app.add_subcommand("list", "Lists the orders and refunds of a store"));
  c->add_flag("--open", o.open, "Only those that are not at an end");
  c->add_option("--state", o.state, "Only those in this state");
  c->add_flag("--json", o.json, "A JSON object a line");
  c->callback([&] { outcome = list(o); });

  c = with_store(app.add_subcommand("show", "Shows what became of a purchase"));
  c->add_option("purchase", o.purchase, "Its id, sku:seq")->required();
  c->add_flag("--json", o.json, "A JSON object a line");
  c->callback([&] { outcome = show(o); });

  c = with_nats(with_store(app.add_subcommand(
      "dead", "Lists what waits for a person: of a store, or with --nats of the queue")));
  c->add_flag("--again", o.again, "Puts those of the queue into it again")->needs("--nats");
  c->add_flag("--json", o.json, "A JSON object a line");
  c->callback([&] { outcome = dead(o); });

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e, std::cout, std::cerr) == 0 ? kOk : kUsage;
  }
  return outcome ? *outcome : complain(outcome.error());
}
