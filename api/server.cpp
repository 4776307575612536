#include "api/server.hpp"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <thread>

#include "api/audits.hpp"
#include "api/clerk.hpp"
#include "api/cluster/cluster.hpp"
#include "api/cluster/take_back.hpp"
#include "api/desk.hpp"
#include "api/explainer.hpp"
#include "core/log/memory_log.hpp"
#include "core/log/priority.hpp"
#include "core/log/rocks_log.hpp"
#include "projections/delivery/nats.hpp"
#include "projections/delivery/signature.hpp"
#include "projections/delivery/webhooks.hpp"
#include "projections/outbox/dispatcher.hpp"

namespace fairsale::api {

namespace {

[[noreturn]] void log_failed(const Error& error) {
  spdlog::critical(
      "The log failed and the server stops: {} Nothing that was not durable has been acknowledged. "
      "After the cause is mended, start again; clients may retry with their Idempotency-Keys.",
      error.message);
  stop_logging();
  std::_Exit(kLogFailedExit);
}

// Sales go on whatever befalls what is stored of them.
void report_projections(const Error& error) {
  switch (error.fault) {
    case Fault::damaged:
      spdlog::error("Projections: {}. Their store is moved aside and built anew from the log",
                    error.message);
      return;
    case Fault::invalid: spdlog::error("Projections: {}", error.message); return;
    default: spdlog::warn("Projections: {}. Sales go on; it is tried again", error.message);
  }
}

// Sales go on whatever befalls those whom they are told to.
void report_delivery(std::string_view consumer, const Error& error) {
  spdlog::warn("Outbox: {}: {}. Sales go on; what was not taken is kept", consumer, error.message);
}

struct NoAnswers final : Answers {
  void on_decided(const fairsale::Ticket&, SkuId, Seq, const Event&, const Decision&,
                  const Sale&) override {}
};

// Schedules the sale "demo", unless an earlier run did.
Result<void> open_demo_sale(Engine& engine, const Clock& clock) {
  const auto sku = *SkuName::from("demo");
  const SkuId id = sku_id(sku.view());
  Sequencer& shard = engine.shard(engine.shard_of(id));
  if (shard.find(id) != nullptr) return {};
  SaleScheduled event{.sku = sku, .actor = *Actor::from("demo")};
  event.terms = Terms{.stock = Quantity{1000},
                      .price = {MinorUnits{4900}, Currency{{'E', 'U', 'R'}}},
                      .starts_at = clock.now().wall,
                      .hold = Duration{120'000},
                      .grace = Duration{5'000},
                      .limit_per_customer = Quantity{2},
                      .units_per_purchase = Quantity{2},
                      .line_limit = 100'000};
  NoAnswers nobody;
  shard.submit(id, event, {});
  if (auto turn = shard.turn(nobody); !turn) return tl::unexpected(turn.error());
  return {};
}

// A log that cannot open its next file ends the sale, so connections never get all descriptors:
// enough are kept for what RocksDB may have open for the log and the projections, for snapshots,
// and for the workers themselves.
http::Limits within_descriptors(http::Limits limits, std::size_t workers) {
  constexpr rlim_t kFiles = 768;
  constexpr rlim_t kOfWorker = http::kRefusedConnections + 8;
  rlimit all{};
  if (::getrlimit(RLIMIT_NOFILE, &all) != 0 || all.rlim_cur == RLIM_INFINITY) return limits;
  const rlim_t kept = std::min(kFiles, all.rlim_cur / 2);
  const rlim_t each = (all.rlim_cur - kept) / workers;
  const rlim_t most = each > kOfWorker ? each - kOfWorker : 1;
  if (limits.connections > most) {
    spdlog::warn(
        "Each worker takes {} connections at most, and not {}: this process may have {} "
        "descriptors open. Raise that (ulimit -n, LimitNOFILE) or set --max-connections",
        most, limits.connections, all.rlim_cur);
    limits.connections = most;
  }
  return limits;
}

void seed(Reminders& reminders, Engine& engine) {
  for (std::size_t i = 0; i < engine.shards(); ++i) {
    const Sequencer& shard = engine.shard(i);
    shard.for_each_head([&](SkuId sku, const Head&) { reminders.seed(sku, *shard.find(sku)); });
  }
}

DispatcherOptions delivery_options(Reminders& reminders) {
  DispatcherOptions options;
  options.reminders = &reminders;
  // A receiver that is back is found soon, and one that stays away costs little.
  options.retry_last = std::chrono::seconds(10);
  options.report = report_delivery;
  return options;
}

Result<std::unique_ptr<Webhooks>> open_webhooks(const ServerConfig& config, Dispatcher& dispatcher,
                                                Dispatcher::StoreSource store) {
  WebhookOptions options;
  options.sender.private_addresses = config.webhook_private_addresses;
  options.sender.ca_file = config.webhook_ca_file;
  options.give_up_after = config.webhook_give_up_after;
  options.report = report_delivery;
  return Webhooks::open(webhooks_directory(config.data_dir), dispatcher, std::move(store),
                        std::move(options));
}

// The secret by which a server is known to NATS; empty without one.
Result<std::string> nats_credentials(const ServerConfig& config) {
  if (config.nats_credentials.file.empty() && config.nats_credentials.value.empty()) {
    return std::string{};
  }
  return load_secret(config.nats_credentials, 1);
}

Result<void> add_nats(const ServerConfig& config, Dispatcher& dispatcher) {
  if (config.nats.empty()) return {};
  if (config.role != NodeRole::alone && !config.nats_outbox) return {};
  NatsOptions options{.url = config.nats,
                      .creds_file = config.nats_creds_file,
                      .warn = [](const std::string& what) { spdlog::warn("{}", what); }};
  auto credentials = nats_credentials(config);
  if (!credentials) return tl::unexpected(credentials.error());
  options.credentials = std::move(*credentials);
  return dispatcher.add(nats_consumer(std::move(options)));
}

Result<ClusterOptions> cluster_options(const ServerConfig& config) {
  auto credentials = nats_credentials(config);
  if (!credentials) return tl::unexpected(credentials.error());
  auto takes = cluster::PartitionSet::parse(config.takes, {config.partitions});
  if (!takes) return fail(Fault::invalid, "--takes: " + takes.error().message);
  std::string name = config.node;
  if (name.empty()) {
    std::array<char, 256> host{};
    ::gethostname(host.data(), host.size() - 1);
    name = fmt::format("{}:{}", host.data(), config.port);
  }
  return ClusterOptions{.bus = {.url = config.nats,
                                .credentials = std::move(*credentials),
                                .creds_file = config.nats_creds_file,
                                .name = std::move(name),
                                .streams = {.replicas = config.stream_replicas,
                                            .megabytes = config.stream_megabytes}},
                        .processor = config.role == NodeRole::processor,
                        .partitions = config.partitions,
                        .takes = std::move(*takes),
                        .durable_on = config.durable_on,
                        .processors = config.processors,
                        .data = config.data_dir};
}

Result<std::unique_ptr<EventLog>> open_log(const ServerConfig& config, RecoveryReport& report) {
  // An edge has no log, and its engine no sales.
  if (config.role == NodeRole::edge) return std::make_unique<MemoryLog>();
  if (!config.in_memory) return open_rocks_log({.directory = config.data_dir}, report);
  report.notes.push_back("The log is in memory only: nothing of it outlives this process");
  return std::make_unique<MemoryLog>();
}

}  // namespace

Result<void> serve(const ServerConfig& given,
                   const std::function<void(std::uint16_t, const Secrets&)>& on_ready,
                   const std::function<void()>& wait_for_stop,
                   const std::function<void()>& begin_anew) {
  ServerConfig config = given;
  if (config.role != NodeRole::alone) {
    if (config.nats.empty()) {
      return fail(Fault::invalid, "--role needs --nats, where the cluster's streams are");
    }
    if (config.in_memory || config.demo) {
      return fail(Fault::invalid, "a node of a cluster is neither --in-memory nor a --demo");
    }
    config.in_memory = config.role == NodeRole::edge;
  }
  Secrets secrets;
  for (const auto& [source, secret] : {std::pair{&config.operator_token, &secrets.operator_token},
                                       std::pair{&config.shop_token, &secrets.shop_token},
                                       std::pair{&config.customer_key, &secrets.customer_key}}) {
    auto loaded = load_secret(*source);
    if (!loaded) return tl::unexpected(loaded.error());
    *secret = std::move(*loaded);
  }
  if (!config.payment_secret.file.empty() || !config.payment_secret.value.empty()) {
    auto loaded = load_secret(config.payment_secret);
    if (!loaded) return tl::unexpected(loaded.error());
    if (!is_webhook_secret(*loaded)) {
      return fail(Fault::invalid,
                  "payment-secret must be whsec_ and the base64 of 24 to 64 bytes (try: echo "
                  "whsec_$(openssl rand -base64 32))");
    }
    secrets.payment_secret = std::move(*loaded);
  }
  if (auto ok = check(secrets); !ok) return ok;
  if (config.role == NodeRole::alone && config.in_memory && !config.nats.empty()) {
    return fail(Fault::invalid,
                "--nats needs a data directory, where the outbox waits: leave out --in-memory");
  }

  const auto begun = std::chrono::steady_clock::now();
  RecoveryReport report;
  auto log = open_log(config, report);
  if (!log) return tl::unexpected(log.error());
  if (config.role == NodeRole::processor) {
    auto taken = take_back(**log, config.data_dir, {config.partitions});
    if (!taken) return tl::unexpected(taken.error());
    report.notes.insert(report.notes.end(), taken->begin(), taken->end());
  }
  for (const auto& note : report.notes) spdlog::warn("{}", note);

  const SystemClock clock;
  AvailabilityBoard board;
  std::vector<std::unique_ptr<ShardProjections>> projections;
  std::vector<SaleObserver*> observers;
  std::optional<Projector> projector;
  const Cluster* joined_cluster = nullptr;  // once it has
  std::optional<Reminders> reminders;
  std::optional<Dispatcher> dispatcher;
  std::unique_ptr<Webhooks> webhooks;
  std::optional<MessageHub> hub;  // of who reads the outbox
  if (!config.in_memory) {
    projector.emplace(**log, config.workers,
                      ProjectorOptions{.directory = projections_directory(config.data_dir),
                                       .outbox_grew =
                                           [&dispatcher, &hub](SkuId sku) {
                                             if (dispatcher) dispatcher->grew(sku);
                                             if (hub) hub->grew(sku);
                                           },
                                       .report = report_projections});
  }
  for (std::size_t i = 0; i < config.workers; ++i) {
    projections.push_back(
        std::make_unique<ShardProjections>(board, projector ? &projector->queue(i) : nullptr));
    observers.push_back(&projections.back()->all);
  }
  SequencerOptions options;
  options.snapshot_every = config.in_memory ? 0 : config.snapshot_every;
  options.ordered_elsewhere = config.role != NodeRole::alone;
  auto engine = Engine::open(**log, clock, observers, options);
  if (!engine) return tl::unexpected(engine.error());
  if (config.demo) {
    if (auto ok = open_demo_sale(**engine, clock); !ok) return ok;
  }
  if (projector) {
    if (auto ok = projector->begin(); !ok) return ok;
    for (auto& shard : projections) shard->stored->begin();
    auto cursors = CursorStore::open(outbox_directory(config.data_dir));
    if (!cursors) return tl::unexpected(cursors.error());
    const auto store = [&projector] { return projector->store(); };
    // What a node of a cluster has not heard of yet may have been paid for.
    reminders.emplace(**log, store, board, clock, RemindersOptions{.current = [&joined_cluster] {
      return joined_cluster == nullptr || joined_cluster->why_not_ready().empty();
    }});
    seed(*reminders, **engine);
    dispatcher.emplace(**log, store, std::move(*cursors), delivery_options(*reminders));
    auto opened = open_webhooks(config, *dispatcher, store);
    if (!opened) return tl::unexpected(opened.error());
    webhooks = std::move(*opened);
    if (auto ok = add_nats(config, *dispatcher); !ok) return ok;
  }
  std::size_t skus = 0;
  for (std::size_t i = 0; i < config.workers; ++i) skus += (*engine)->shard(i).skus();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  spdlog::info("Recovered {} SKUs from {} in {:.3f} s", skus, config.data_dir, took.count());

  auto listening = http::listen(config.address, config.port, config.workers);
  if (!listening) return tl::unexpected(listening.error());

  Metrics metrics;
  const Pages pages(config.demo, config.pay_url);
  RateLimiter customer_limiter(config.customer_rate, std::size_t{1} << 20);
  RateLimiter address_limiter(config.address_rate);
  StreamCount streams(config.max_streams);
  Office office{.config = config,
                .engine = **engine,
                .clock = clock,
                .board = board,
                .metrics = metrics,
                .customer_limiter = customer_limiter,
                .address_limiter = address_limiter,
                .projector = projector ? &*projector : nullptr,
                .streams = &streams,
                .openapi = openapi_json(),
                .pages = pages,
                .mailboxes = {},
                .workers = {},
                .fail = log_failed};
  const http::Limits limits = within_descriptors(config.limits, config.workers);
  std::vector<std::unique_ptr<http::Worker>> workers;
  for (auto& listener : listening->listeners) {
    workers.push_back(std::make_unique<http::Worker>(std::move(listener), limits));
    office.workers.push_back(workers.back().get());
    office.mailboxes.push_back(std::make_unique<Mailbox>());
  }
  if (projector) {
    hub.emplace([&projector] { return projector->store(); }, config.workers,
                [&office](std::size_t desk) { office.workers[desk]->wake(); },
                MessageHubOptions{.report = [&projector](const Error& error) {
                  if (error.fault == Fault::damaged) projector->suspect(error);
                  spdlog::warn("Event streams wait: {}", error.message);
                }});
    office.hub = &*hub;
  }
  std::unique_ptr<Cluster> cluster;
  if (config.role != NodeRole::alone) {
    auto cluster_with = cluster_options(config);
    if (!cluster_with) return tl::unexpected(cluster_with.error());
    cluster_with->begin_anew = begin_anew;
    auto joined = Cluster::join(std::move(*cluster_with), **engine, clock, board,
                                config.role == NodeRole::processor ? log->get() : nullptr,
                                [&office](std::size_t desk) { office.workers[desk]->wake(); });
    if (!joined) return tl::unexpected(joined.error());
    cluster = std::move(*joined);
    office.cluster = cluster.get();
    joined_cluster = cluster.get();
  }
  Explainer explainer(**log, [&office](std::uint16_t origin, AnswerMail mail) {
    office.deliver(origin, std::move(mail));
  });
  office.explainer = &explainer;
  const WebhookRoutes webhook_routes(dispatcher ? &*dispatcher : nullptr, webhooks.get());
  office.webhooks = &webhook_routes;
  office.dispatcher = dispatcher ? &*dispatcher : nullptr;
  Clerk clerk;
  Clerk redeliveries;
  office.clerk = &clerk;
  office.redeliveries = &redeliveries;
  std::optional<Audits> audits;
  if (!config.in_memory) audits.emplace(config.data_dir);
  office.audits = audits ? &*audits : nullptr;
  std::vector<std::unique_ptr<Desk>> desks;
  for (std::size_t i = 0; i < config.workers; ++i) {
    desks.push_back(std::make_unique<Desk>(office, i, secrets, *projections[i]));
  }
  office.serving = config.workers;
  if (projector) {
    projector->start();
    dispatcher->start();
    hub->start();
  }
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < config.workers; ++i) {
      threads.emplace_back([&, i] {
        work_promptly();
        workers[i]->run(*desks[i]);
        desks[i]->serve_others();
        if (config.in_memory) return;
        if (const auto last = (*engine)->shard(i).stop(); last.snapshot_error) {
          spdlog::warn("A snapshot could not be written, so the next start takes longer: {}",
                       last.snapshot_error->message);
        }
      });
    }
    if (cluster) cluster->start();
    on_ready(listening->port, secrets);
    wait_for_stop();
    spdlog::info("Stopping: no new work, what was admitted is finished");
    for (auto& worker : workers) worker->drain(config.drain_timeout);
    explainer.stop();
    if (webhooks) webhooks->interrupt();
    clerk.stop();
    redeliveries.stop();
    if (audits && audits->stop()) {
      spdlog::warn("The audit that was under way is broken off: begin it again after the start");
    }
    (*engine)->snapshotter().stop();
  }
  if (cluster) cluster->stop();
  if (projector) {
    dispatcher->stop();
    hub->stop();
    projector->stop();
  }
  spdlog::info("Stopped: {} requests served", static_cast<std::uint64_t>(metrics.requests.Value()));
  return {};
}

}  // namespace fairsale::api
