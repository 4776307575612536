// fairsale repair: makes a store that opens again from what checks out in one that does not.
#include <fmt/chrono.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>

#include "core/json/json.hpp"
#include "core/log/data_directory.hpp"
#include "core/log/rocks_log.hpp"
#include "core/log/salvage.hpp"
#include "tools/cli.hpp"
#include "tools/store/fresh_directory.hpp"
#include "tools/store/output.hpp"
#include "tools/store/progress.hpp"

namespace fairsale::cli {

namespace fs = std::filesystem;

namespace {

struct RepairOptions {
  std::string directory;
  bool yes = false;
  bool json = false;
};

// What is wrong with a store, or nothing when every block of it checks out.
Result<void> check_all(const std::string& directory) {
  RecoveryReport recovery;
  const auto log = open_rocks_log({.directory = directory, .mode = OpenMode::read_only}, recovery);
  if (!log) return tl::unexpected(log.error());
  const auto heads = (*log)->heads();
  if (!heads) return tl::unexpected(heads.error());
  const auto last_blocks = (*log)->last_blocks();
  if (!last_blocks) return tl::unexpected(last_blocks.error());
  std::map<SkuId, Seq> last;
  for (const LastBlock& b : *last_blocks) last[b.sku] = b.first;
  for (const SkuHead& h : *heads) {
    Result<void> legible;
    Seq first;
    const auto done = (*log)->read(h.sku, Seq{1}, [&](const BlockView& b) {
      first = b.header().first;
      legible = b.for_each([](Seq, const Event&) {});
      return legible.has_value();
    });
    if (!done) return done;
    if (!legible) {
      return fail(legible.error().fault,
                  fmt::format("SKU {:016x}: {}", h.sku.value, legible.error().message));
    }
    if (last[h.sku] > first) {
      return fail(Fault::damaged,
                  fmt::format("SKU {:016x}: a block under position {} lies behind the recorded end",
                              h.sku.value, last[h.sku].value));
    }
    last.erase(h.sku);
  }
  if (!last.empty()) {
    return fail(Fault::damaged, fmt::format("SKU {:016x}: it has blocks, but no record of its end",
                                            last.begin()->first.value));
  }
  return {};
}

std::uint64_t lost_of(const Salvaged& s) {
  return s.known && *s.known > s.kept.seq ? s.known->value - s.kept.seq.value : 0;
}

std::string title_of(const Salvaged& s) {
  return s.name.empty() ? fmt::format("{:016x}", s.sku.value) : s.name;
}

void print_text(Output& out, const SalvageReport& r) {
  for (const std::string& note : r.notes) out.print("{}\n", note);
  std::uint64_t whole = 0;
  for (const Salvaged& s : r.skus) {
    if (s.why.empty()) {
      ++whole;
      continue;
    }
    out.print("sku {}: kept up to position {}", title_of(s), s.kept.seq.value);
    if (const std::uint64_t lost = lost_of(s); lost > 0) {
      out.print("; lost: positions {} to {}, {} events{}", s.kept.seq.value + 1, s.known->value,
                grouped(lost),
                s.acked && *s.acked > s.kept.seq ? ", ACKNOWLEDGED to customers" : "");
    }
    out.print(". What is wrong at {}\n", s.why);
  }
  if (r.more_may_be_lost) {
    out.print(
        "{} of {} sales check out as far as they are legible. Commits are lost of which "
        "nothing tells what sales they were of: any sale may have gone further\n",
        grouped(whole), grouped(r.skus.size()));
  } else {
    out.print("{} of {} sales are whole\n", grouped(whole), grouped(r.skus.size()));
  }
}

std::string json_of(const SalvageReport& r, bool replaced, std::string_view kept_at) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("replaced", replaced).member("more_may_be_lost", r.more_may_be_lost);
  if (replaced) json.member("original", kept_at);
  json.key("notes").begin_array();
  for (const std::string& note : r.notes) json.value(std::string_view(note));
  json.end_array().key("sales").begin_array();
  for (const Salvaged& s : r.skus) {
    json.begin_object().member("sku", std::string_view(title_of(s)));
    json.member("kept", s.kept.seq.value).member("lost_events", lost_of(s));
    if (s.known) json.member("known", s.known->value);
    if (s.acked) json.member("acknowledged", s.acked->value);
    if (!s.why.empty()) json.member("why", std::string_view(s.why));
    json.end_object();
  }
  json.end_array().end_object();
  return out;
}

Result<int> written(Output& out, int code) {
  if (auto ok = out.flush(); !ok) return worse(code, complain(ok.error()));
  return code;
}

Result<int> run_repair(const RepairOptions& o) {
  std::error_code ec;
  const fs::path data = directory_path(o.directory);
  if (!fs::is_directory(data, ec)) {
    return fail(Fault::not_found, o.directory +
                                      " is not a directory: give the data directory that "
                                      "fairsaled --data names");
  }
  Output out(stdout);
  const auto wrong = check_all(o.directory);
  if (wrong) {
    fmt::print(stderr, "Nothing to repair: every block of {} checks out.\n", o.directory);
    if (o.json) out.print("{}\n", json_of({}, false, {}));
    return written(out, kOk);
  }
  if (wrong.error().fault == Fault::io) {
    return fail(Fault::io, fmt::format("{}. If the disk is failing, copy what it still gives to "
                                       "another one (ddrescue) and repair the copy.",
                                       wrong.error().message));
  }
  if (wrong.error().fault != Fault::damaged) return tl::unexpected(wrong.error());
  // Until the end: in the place of what was looked at, nothing else is replaced.
  const auto lock = lock_directory(data);
  if (!lock) return tl::unexpected(lock.error());
  fmt::print(stderr, "{}\n", wrong.error().message);

  auto fresh = FreshDirectory::beside(data, "repaired");
  if (!fresh) return tl::unexpected(fresh.error());
  const auto report = [&] {
    Progress progress("events kept", 0);
    return salvage(data, fresh->path(), [&](std::uint64_t n) { progress.add(n); });
  }();
  if (!report) return tl::unexpected(report.error());
  if (!o.json) print_text(out, *report);
  if (!o.yes) {
    if (o.json) out.print("{}\n", json_of(*report, false, {}));
    fmt::print(stderr,
               "Nothing was changed. With --yes the store is replaced by what is kept, and the "
               "original stays beside it. If there is a backup, compare first: fairsale diff.\n");
    return written(out, kCheckFailed);
  }
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  const std::string dated =
      data.string() + fmt::format(".damaged-{:%Y%m%dT%H%M%SZ}", fmt::gmtime(now));
  fs::path original = dated;
  for (int i = 2; fs::exists(fs::symlink_status(original, ec)); ++i) {
    original = fmt::format("{}-{}", dated, i);
  }
  if (auto ok = fresh->replace(data, original); !ok) return tl::unexpected(ok.error());
  if (o.json) {
    out.print("{}\n", json_of(*report, true, original.string()));
  } else {
    out.print("{} was replaced; the original is {}\n", o.directory, original.string());
  }
  return written(out, kOk);
}

}  // namespace

void add_repair(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<RepairOptions>();
  CLI::App* c = app.add_subcommand(
      "repair",
      "For a data directory that refuses to open: says what can be kept and what is lost; with "
      "--yes puts a store of what is kept in its place");
  c->footer(
      "Kept is, for each sale, the longest run of events from the first that checks out. The "
      "original is never changed, only renamed.\n"
      "Exit codes: 0 nothing to repair, or repaired; 1 there is something to repair and --yes was "
      "not given; 2 usage; 3 I/O.");
  c->add_option("data", o->directory, "The data directory; no server may have it open")->required();
  c->add_flag("--yes", o->yes, "Replace the store");
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_repair(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
