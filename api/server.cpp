#include "api/server.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdlib>
#include <thread>

#include "api/desk.hpp"
#include "api/explainer.hpp"
#include "core/log/memory_log.hpp"
#include "core/log/rocks_log.hpp"

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

Result<std::unique_ptr<EventLog>> open_log(const ServerConfig& config, RecoveryReport& report) {
  if (!config.in_memory) return open_rocks_log({.directory = config.data_dir}, report);
  report.notes.push_back("The log is in memory only: nothing of it outlives this process");
  return std::make_unique<MemoryLog>();
}

}  // namespace

Result<void> serve(const ServerConfig& config,
                   const std::function<void(std::uint16_t, const Secrets&)>& on_ready,
                   const std::function<void()>& wait_for_stop) {
  Secrets secrets;
  for (const auto& [source, secret] : {std::pair{&config.operator_token, &secrets.operator_token},
                                       std::pair{&config.shop_token, &secrets.shop_token},
                                       std::pair{&config.customer_key, &secrets.customer_key}}) {
    auto loaded = load_secret(*source);
    if (!loaded) return tl::unexpected(loaded.error());
    *secret = std::move(*loaded);
  }
  if (auto ok = check(secrets); !ok) return ok;

  const auto begun = std::chrono::steady_clock::now();
  RecoveryReport report;
  auto log = open_log(config, report);
  if (!log) return tl::unexpected(log.error());
  for (const auto& note : report.notes) spdlog::warn("{}", note);

  const SystemClock clock;
  AvailabilityBoard board;
  std::vector<std::unique_ptr<ShardProjections>> projections;
  std::vector<SaleObserver*> observers;
  std::optional<Projector> projector;
  if (!config.in_memory) {
    projector.emplace(**log, config.workers,
                      ProjectorOptions{.directory = projections_directory(config.data_dir),
                                       .report = report_projections});
  }
  for (std::size_t i = 0; i < config.workers; ++i) {
    projections.push_back(
        std::make_unique<ShardProjections>(board, projector ? &projector->queue(i) : nullptr));
    observers.push_back(&projections.back()->all);
  }
  SequencerOptions options;
  options.snapshot_every = config.in_memory ? 0 : config.snapshot_every;
  auto engine = Engine::open(**log, clock, observers, options);
  if (!engine) return tl::unexpected(engine.error());
  if (config.demo) {
    if (auto ok = open_demo_sale(**engine, clock); !ok) return ok;
  }
  if (projector) {
    if (auto ok = projector->begin(); !ok) return ok;
    for (auto& shard : projections) shard->stored->begin();
  }
  std::size_t skus = 0;
  for (std::size_t i = 0; i < config.workers; ++i) skus += (*engine)->shard(i).skus();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  spdlog::info("Recovered {} SKUs from {} in {:.3f} s", skus, config.data_dir, took.count());

  auto listening = http::listen(config.address, config.port, config.workers);
  if (!listening) return tl::unexpected(listening.error());

  Metrics metrics;
  RateLimiter customer_limiter(config.customer_rate, std::size_t{1} << 20);
  RateLimiter address_limiter(config.address_rate);
  Office office{.config = config,
                .engine = **engine,
                .clock = clock,
                .board = board,
                .metrics = metrics,
                .customer_limiter = customer_limiter,
                .address_limiter = address_limiter,
                .projector = projector ? &*projector : nullptr,
                .openapi = openapi_json(),
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
  Explainer explainer(**log, [&office](std::uint16_t origin, AnswerMail mail) {
    std::vector<Mail> batch;
    batch.emplace_back(std::move(mail));
    office.mailboxes[origin]->put_answers(batch);
    office.workers[origin]->wake();
  });
  office.explainer = &explainer;
  std::vector<std::unique_ptr<Desk>> desks;
  for (std::size_t i = 0; i < config.workers; ++i) {
    desks.push_back(std::make_unique<Desk>(office, i, secrets, *projections[i]));
  }
  office.serving = config.workers;
  if (projector) projector->start();
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < config.workers; ++i) {
      threads.emplace_back([&, i] {
        workers[i]->run(*desks[i]);
        desks[i]->serve_others();
        if (config.in_memory) return;
        if (const auto last = (*engine)->shard(i).stop(); last.snapshot_error) {
          spdlog::warn("A snapshot could not be written, so the next start takes longer: {}",
                       last.snapshot_error->message);
        }
      });
    }
    on_ready(listening->port, secrets);
    wait_for_stop();
    spdlog::info("Stopping: no new work, what was admitted is finished");
    for (auto& worker : workers) worker->drain(config.drain_timeout);
    explainer.stop();
    (*engine)->snapshotter().stop();
  }
  if (projector) projector->stop();
  spdlog::info("Stopped: {} requests served", static_cast<std::uint64_t>(metrics.requests.Value()));
  return {};
}

}  // namespace fairsale::api
