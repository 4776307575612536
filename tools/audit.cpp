// fairsale audit: checks everything that a store says about its sales.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <thread>

#include "core/json/json.hpp"
#include "tools/audit/report.hpp"
#include "tools/cli.hpp"
#include "tools/store/progress.hpp"
#include "tools/store/store.hpp"
#include "tools/version.hpp"

namespace fairsale::cli {

namespace {

struct Options {
  std::string directory;
  std::vector<std::string> skus;
  std::string heads;
  std::string report;
  unsigned jobs = std::max(1U, std::thread::hardware_concurrency());
  bool fairness = false;
  bool json = false;
};

Result<audit::StoreReport> audit_directory(const Options& o) {
  const auto start = std::chrono::steady_clock::now();
  audit::StoreTasks wanted{.skus = o.skus, .saved = {}, .snapshots = {}};
  if (!o.heads.empty()) {
    auto saved = audit::read_saved_heads(o.heads);
    if (!saved) return tl::unexpected(saved.error());
    wanted.saved = std::move(*saved);
  }
  const SnapshotFiles files(std::filesystem::path(o.directory) / "snapshots", false);
  wanted.snapshots = files.all();
  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto plan = audit::plan_audit(*store->log, wanted);
  if (!plan) return tl::unexpected(plan.error());

  std::uint64_t events = 0;
  for (const audit::SaleTask& t : plan->tasks) events += t.head.head.seq.value;
  Progress progress("events", events);
  audit::StoreReport report{.store = o.directory,
                            .program = fmt::format("fairsale {}", kVersion),
                            .fairness = o.fairness,
                            .damage = plan->damage,
                            .sales = {},
                            .seconds = 0};
  report.sales = audit::audit_store(
      *store->log, files, plan->tasks,
      {.fairness = o.fairness, .jobs = o.jobs, .progress = [&progress](std::uint64_t n) {
         progress.add(n);
       }});
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

Result<void> write_page(const std::string& path, const std::string& page) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(page.data(), static_cast<std::streamsize>(page.size()));
  out.close();
  if (!out) return fail(Fault::io, fmt::format("cannot write {}", path));
  return {};
}

int run_audit(const Options& o) {
  const auto report = audit_directory(o);
  if (!report) {
    // Opening already refuses much of what an audit would find; it is a finding like another.
    if (o.json && report.error().fault == Fault::damaged) {
      std::string out;
      JsonWriter w(out);
      w.begin_object()
          .member("store", o.directory)
          .member("outcome", "refused")
          .member("sound", false)
          .member("error", report.error().message)
          .end_object();
      fmt::print("{}\n", out);
    }
    return complain(report.error());
  }
  if (o.json) {
    fmt::print("{}\n", audit::to_json(*report));
  } else {
    fmt::print("{}", audit::to_text(*report));
  }
  if (!o.report.empty()) {
    if (auto ok = write_page(o.report, audit::to_html(*report)); !ok) return complain(ok.error());
  }
  if (!report->sound() || !report->fair()) return kCheckFailed;
  return report->read() ? kOk : kIo;
}

}  // namespace

void add_audit(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "audit",
      "Checks every sale in a data directory from its first event: blocks, chain, encoding, "
      "decisions, invariants, snapshots, saved heads, and with --fairness who was served when; "
      "works beside a running server");
  c->footer(
      "docs/audit.md tells what each message means and what it proves.\n"
      "Exit codes: 0 everything checks out; 1 something diverges or was not fair, named by SKU and "
      "seq; 2 usage; 3 I/O.");
  c->add_option("data", o->directory, "The data directory, or a copy of one")->required();
  c->add_option("--sku", o->skus, "Only this sale; may be given again");
  c->add_option("--jobs", o->jobs, "Sales audited at the same time")
      ->check(CLI::Range(1U, 1024U))
      ->capture_default_str();
  c->add_option("--head", o->heads,
                "Saved heads to compare with: answers of GET /v1/sales/{sku}/audit-head, one a "
                "line");
  CLI::Option* fairness =
      c->add_flag("--fairness", o->fairness, "Also check that every sale was fair");
  c->add_option("--report", o->report, "Write the report as an HTML page to this file")
      ->needs(fairness);
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] { exit_code = run_audit(*o); });
}

}  // namespace fairsale::cli
