// fairsale rebuild: builds stored projections anew from the log.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "core/json/json.hpp"
#include "tools/cli.hpp"
#include "tools/rebuild/rebuild.hpp"
#include "tools/store/progress.hpp"

namespace fairsale::cli {

namespace {

constexpr const char* kOperatorToken = "FAIRSALE_OPERATOR_TOKEN";

struct RebuildOptions {
  std::string directory;
  std::string projection;
  std::string server;
  std::string token_file;
  double patience_seconds = 30;
  bool force = false;
  bool drop_old = false;
  bool json = false;
};

std::string json_of(const std::vector<Rebuilt>& all) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().key("projections").begin_array();
  for (const Rebuilt& r : all) {
    json.begin_object()
        .member("projection", name_of(r.projection))
        .member("generation", r.generation)
        .member("switched", r.switched)
        .member("rows", r.rows)
        .key("mismatch");
    if (r.mismatch.empty()) {
      json.null();
    } else {
      json.value(std::string_view(r.mismatch));
    }
    json.end_object();
  }
  json.end_array().end_object();
  return out;
}

Result<std::vector<Rebuilt>> rebuild(const RebuildOptions& o, const RebuildOrder& order) {
  if (o.server.empty()) return rebuild_at_rest(o.directory, order);
  const auto endpoint = rush::parse_url(o.server);
  if (!endpoint) return tl::unexpected(endpoint.error());
  const auto token = token_from(o.token_file, kOperatorToken);
  if (!token) return tl::unexpected(token.error());
  if (token->empty()) {
    return fail(Fault::invalid, fmt::format("--server needs the operator's token: "
                                            "--operator-token-file or {}",
                                            kOperatorToken));
  }
  return rebuild_online(*endpoint, *token, order,
                        static_cast<std::int64_t>(o.patience_seconds * 1e6));
}

Result<int> run_rebuild(RebuildOptions o) {
  // With --server there is no directory to name.
  if (!o.server.empty()) {
    if (!o.projection.empty()) {
      return fail(Fault::invalid, "give a data directory or --server, not both");
    }
    o.projection.swap(o.directory);
  } else if (o.directory.empty()) {
    return fail(Fault::invalid, "give a data directory, or --server and the URL of a server");
  }
  RebuildOrder order{.projections = {kStoredProjections.begin(), kStoredProjections.end()},
                     .force = o.force,
                     .drop_old = o.drop_old,
                     .progress = {}};
  if (!o.projection.empty()) {
    const auto p = stored_projection(o.projection);
    if (!p) {
      return fail(Fault::invalid, fmt::format("there is no projection \"{}\": they are "
                                              "availability, timeline, orders and outbox",
                                              o.projection));
    }
    order.projections = {*p};
  }
  watch_signals();
  constexpr std::uint64_t kAll = 1000;
  std::optional<Progress> shown(std::in_place, "steps", kAll);
  std::uint64_t done = 0;
  order.progress = [&](double part) {
    const auto now = static_cast<std::uint64_t>(part * kAll);
    shown->add(now > done ? now - done : 0);
    done = std::max(done, now);
    return interrupted == 0;
  };
  const auto all = rebuild(o, order);
  shown.reset();
  if (!all) return tl::unexpected(all.error());
  bool refused = false;
  for (const Rebuilt& r : *all) {
    refused = refused || !r.switched;
    if (!r.mismatch.empty()) {
      fmt::print(stderr, "fairsale: {} generation {} differs from the one before. {}\n",
                 name_of(r.projection), r.generation, r.mismatch);
    }
    if (!o.json) {
      fmt::print("{:<13} generation {}, {} rows, {}\n", name_of(r.projection), r.generation,
                 grouped(r.rows),
                 r.switched ? "current" : "not switched to; --force does so all the same");
    }
  }
  if (o.json) fmt::print("{}\n", json_of(*all));
  return refused ? kCheckFailed : kOk;
}

}  // namespace

void add_rebuild(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<RebuildOptions>();
  CLI::App* c = app.add_subcommand(
      "rebuild",
      "Builds stored projections anew from the log and compares them with what is there: in the "
      "data directory of a server that is down, or through a running one");
  c->footer(
      "  fairsale rebuild DATA [PROJECTION]\n"
      "  fairsale rebuild --server URL [PROJECTION]\n"
      "Projections: availability, timeline, orders and outbox; all when none is named. Through a\n"
      "server the new generation is built while sales go on and becomes current in one step. It\n"
      "does not when its digest differs from that of the current one at the same position, unless\n"
      "--force is given. The generation before it is kept until it is dropped. What is\n"
      "interrupted goes on with the next start of the server or the next rebuild.\n"
      "Exit codes: 0 rebuilt; 1 it differed and was not switched to; 2 usage; 3 I/O or the "
      "server.");
  c->add_option("data", o->directory, "The data directory");
  c->add_option("projection", o->projection, "Only this projection");
  c->add_option("--server", o->server, "The URL of a running server, instead of a data directory");
  c->add_option("--operator-token-file", o->token_file,
                "File with the operator's token [FAIRSALE_OPERATOR_TOKEN]");
  c->add_option("--patience", o->patience_seconds,
                "Seconds without any answer until the server is given up")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_flag("--force", o->force, "Switch to what was built from the log even when it differs");
  c->add_flag("--drop-old", o->drop_old, "Delete the generations before it afterwards");
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_rebuild(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
