#include "tools/rebuild/rebuild.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <thread>

#include "core/log/data_directory.hpp"
#include "projections/stored/projector.hpp"
#include "tools/rush/one_request.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace {

constexpr auto kPollEvery = std::chrono::milliseconds(200);

tl::unexpected<Error> stopped() {
  return fail(Fault::busy, "stopped; the rebuild is not done, and the next server goes on with it");
}

std::string text_of(const Mismatch& m) {
  return fmt::format("SKU {:016x}, position {}: digest {} where the current generation has {}",
                     m.sku.value, m.position.value, to_hex(m.built), to_hex(m.current));
}

const ProjectionStatus& of(const std::vector<ProjectionStatus>& all, StoredProjection p) {
  return *std::find_if(all.begin(), all.end(),
                       [&](const ProjectionStatus& s) { return s.projection == p; });
}

std::uint32_t newest(const ProjectionStatus& s) {
  return s.generations.empty() ? 0 : s.generations.back().number;
}

void drop_old(Projector& projector, const RebuildOrder& order) {
  for (const ProjectionStatus& s : projector.status()) {
    if (std::find(order.projections.begin(), order.projections.end(), s.projection) ==
        order.projections.end()) {
      continue;
    }
    for (const Generation& g : s.generations) {
      if (g.state == GenerationState::old || g.state == GenerationState::refused) {
        projector.drop(s.projection, g.number);
      }
    }
  }
}

// Works until there is nothing to do.
Result<void> work(Projector& projector, const RebuildOrder& order) {
  while (projector.work()) {
    const auto all = projector.status();
    double done = 1;
    for (const ProjectionStatus& s : all) done = std::min(done, s.progress);
    if (order.progress && !order.progress(done)) return stopped();
  }
  if (const auto error = projector.error()) return tl::unexpected(*error);
  return {};
}

}  // namespace

Result<std::vector<Rebuilt>> rebuild_at_rest(const std::string& directory,
                                             const RebuildOrder& order) {
  // The log is judged before the lock is taken: to whom it is locked, a log looks like one that is
  // being written to. A server that starts in between finds the lock free, and we not.
  const auto store = open_store(directory);
  if (!store) return tl::unexpected(store.error());
  const auto lock = take_directory(directory);
  if (!lock && lock.error().fault == Fault::busy) {
    return fail(Fault::busy, fmt::format("a server has {} open: rebuild through it, with --server "
                                         "and its URL, or stop it first",
                                         directory));
  }
  if (!lock) return tl::unexpected(lock.error());

  const auto at = projections_directory(directory);
  std::error_code ec;
  const bool fresh = !std::filesystem::exists(at / "CURRENT", ec);
  Projector projector(*store->log, 0,
                      {.directory = at, .piece = 65'536, .report = [](const Error& e) {
                         fmt::print(stderr, "{}\n", e.message);
                       }});
  if (auto ok = projector.begin(); !ok) return tl::unexpected(ok.error());
  // Those before the current one go first: only so many may be kept.
  if (order.drop_old) {
    drop_old(projector, order);
    if (auto ok = work(projector, order); !ok) return tl::unexpected(ok.error());
  }
  // What did not exist is built anew in any case.
  for (const StoredProjection p : order.projections) {
    if (fresh) break;
    switch (projector.rebuild(p, order.force)) {
      case GenerationChange::done:
      case GenerationChange::under_way: break;  // begun before: it goes on
      case GenerationChange::too_many:
        return fail(Fault::busy, fmt::format("as many generations of {} are kept as may be: "
                                             "--drop-old lets go of them",
                                             name_of(p)));
      default:
        return tl::unexpected(projector.error().value_or(
            Error{Fault::io, fmt::format("{} cannot be written", at.string())}));
    }
  }
  auto before = projector.status();
  if (auto ok = work(projector, order); !ok) return tl::unexpected(ok.error());

  std::vector<Rebuilt> out;
  const auto after = projector.status();
  for (const StoredProjection p : order.projections) {
    const ProjectionStatus& s = of(after, p);
    Rebuilt r{.projection = p,
              .generation = newest(of(before, p)),
              .switched = s.generation == newest(of(before, p)),
              .rows = s.rows,
              .mismatch = {}};
    if (s.mismatch) r.mismatch = text_of(*s.mismatch);
    out.push_back(std::move(r));
  }
  if (order.drop_old) {
    drop_old(projector, order);
    if (auto ok = work(projector, order); !ok) return tl::unexpected(ok.error());
  }
  return out;
}

// ---- Through a server ----

namespace {

// A projection as GET /v1/projections tells of it.
struct Told {
  std::uint32_t current = 0;
  std::uint64_t rows = 0;
  double progress = 0;
  std::vector<std::pair<std::uint32_t, std::string>> generations;
  std::string mismatch;
  std::uint32_t mismatched = 0;

  std::string_view state_of(std::uint32_t generation) const {
    for (const auto& [number, state] : generations) {
      if (number == generation) return state;
    }
    return {};
  }
  std::uint32_t building() const {
    for (const auto& [number, state] : generations) {
      if (state == "building") return number;
    }
    return 0;
  }
};

class Server {
 public:
  Server(const rush::Endpoint& endpoint, std::string_view token, std::int64_t patience_us)
      : endpoint_(endpoint), token_(token), patience_us_(patience_us) {}

  Result<rush::Reply> ask(std::string_view method, std::string_view path, std::string_view body) {
    std::string request = fmt::format("{} {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n",
                                      method, path, endpoint_.authority, token_);
    if (!body.empty()) {
      request +=
          fmt::format("Content-Type: application/json\r\nContent-Length: {}\r\n", body.size());
    }
    request += "\r\n";
    request += body;
    return rush::ask(endpoint_, request, patience_us_);
  }

  Result<Told> look(StoredProjection p) {
    const auto reply = ask("GET", "/v1/projections", {});
    if (!reply) return tl::unexpected(reply.error());
    if (reply->status != 200) return refused("GET /v1/projections", *reply);
    simdjson::dom::element document;
    simdjson::dom::array all;
    if (parser_.parse(reply->body().data(), reply->body().size()).get(document) ==
            simdjson::SUCCESS &&
        document["projections"].get(all) == simdjson::SUCCESS) {
      for (const simdjson::dom::element e : all) {
        std::string_view name;
        if (e["projection"].get(name) == simdjson::SUCCESS && name == name_of(p)) return read(e);
      }
    }
    return fail(Fault::io, fmt::format("the server's answer to GET /v1/projections says nothing "
                                       "of {}",
                                       name_of(p)));
  }

  // Lets go of the generations that are not of use any more.
  Result<void> drop_old(StoredProjection p) {
    const auto told = look(p);
    if (!told) return tl::unexpected(told.error());
    for (const auto& [number, state] : told->generations) {
      if (state != "old" && state != "refused") continue;
      const std::string path = fmt::format("/v1/projections/{}/generations/{}", name_of(p), number);
      const auto reply = ask("DELETE", path, {});
      if (!reply) return tl::unexpected(reply.error());
      if (reply->status != 204 && reply->status != 404) return refused("DELETE " + path, *reply);
    }
    return {};
  }

  static tl::unexpected<Error> refused(std::string_view what, const rush::Reply& reply) {
    return fail(Fault::io,
                fmt::format("the server refused {}: {} {}", what, reply.status, reply.body()));
  }

 private:
  static Told read(const simdjson::dom::element& e) {
    Told told;
    const auto number = [](simdjson::simdjson_result<simdjson::dom::element> from) {
      std::uint64_t n = 0;
      return from.get(n) == simdjson::SUCCESS ? n : 0;
    };
    const auto text = [](simdjson::simdjson_result<simdjson::dom::element> from) {
      std::string_view s;
      return from.get(s) == simdjson::SUCCESS ? s : std::string_view{};
    };
    told.current = static_cast<std::uint32_t>(number(e["generation"]));
    told.rows = number(e["rows"]);
    if (e["progress"].get(told.progress) != simdjson::SUCCESS) told.progress = 0;
    simdjson::dom::array generations;
    if (e["generations"].get(generations) == simdjson::SUCCESS) {
      for (const simdjson::dom::element g : generations) {
        told.generations.emplace_back(static_cast<std::uint32_t>(number(g["generation"])),
                                      text(g["state"]));
      }
    }
    simdjson::dom::element m;
    if (e["mismatch"].get(m) == simdjson::SUCCESS && !m.is_null()) {
      told.mismatched = static_cast<std::uint32_t>(number(m["generation"]));
      told.mismatch = fmt::format(
          "SKU {}, position {}: digest {} where the current generation has {}", text(m["sku_id"]),
          number(m["position"]), text(m["built_digest"]), text(m["current_digest"]));
    }
    return told;
  }

  const rush::Endpoint& endpoint_;
  std::string_view token_;
  std::int64_t patience_us_;
  simdjson::dom::parser parser_;
};

}  // namespace

Result<std::vector<Rebuilt>> rebuild_online(const rush::Endpoint& endpoint,
                                            std::string_view operator_token,
                                            const RebuildOrder& order, std::int64_t patience_us) {
  Server server(endpoint, operator_token, patience_us);
  std::vector<Rebuilt> out;
  for (const StoredProjection p : order.projections) {
    // Those before the current one go first: only so many may be kept.
    if (order.drop_old) {
      if (auto ok = server.drop_old(p); !ok) return tl::unexpected(ok.error());
    }
    const std::string path = fmt::format("/v1/projections/{}/rebuild", name_of(p));
    const auto reply = server.ask("POST", path, order.force ? R"({"force":true})" : "{}");
    if (!reply) return tl::unexpected(reply.error());
    const bool under_way =
        reply->status == 409 && reply->body().find("rebuild_under_way") != std::string_view::npos;
    if (reply->status != 202 && !under_way) return Server::refused("POST " + path, *reply);
    const auto told = server.look(p);
    if (!told) return tl::unexpected(told.error());
    // It may be done already: then its generation is the newest.
    const std::uint32_t newest =
        told->generations.empty() ? told->current : told->generations.back().first;
    out.push_back({.projection = p,
                   .generation = told->building() != 0 ? told->building() : newest,
                   .mismatch = {}});
  }
  for (;;) {
    double done = 1;
    for (Rebuilt& r : out) {
      const auto told = server.look(r.projection);
      if (!told) return tl::unexpected(told.error());
      const std::string_view state = told->state_of(r.generation);
      if (state == "building") {
        done = std::min(done, told->progress);
        if (done >= 1) done = 0.9999;
        continue;
      }
      if (state.empty()) {
        return fail(Fault::io, fmt::format("generation {} of {} was deleted before it was done",
                                           r.generation, name_of(r.projection)));
      }
      r.switched = state != "refused";
      r.rows = told->rows;
      if (told->mismatched == r.generation) r.mismatch = told->mismatch;
    }
    if (order.progress && !order.progress(done)) {
      return fail(Fault::busy, "stopped waiting; the server goes on with the rebuild");
    }
    if (done >= 1) break;
    std::this_thread::sleep_for(kPollEvery);
  }
  for (const Rebuilt& r : out) {
    if (!order.drop_old) break;
    if (auto ok = server.drop_old(r.projection); !ok) return tl::unexpected(ok.error());
  }
  return out;
}

}  // namespace fairsale::cli
