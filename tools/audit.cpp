// fairsale audit: checks everything that a store says about its sales.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>

#include "core/json/json.hpp"
#include "tools/audit/report.hpp"
#include "tools/cli.hpp"
#include "tools/store/output.hpp"
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
  audit::StoreTasks wanted;
  wanted.skus = o.skus;
  std::vector<std::string> notes;
  if (!o.heads.empty()) {
    auto saved = audit::read_saved_heads(o.heads);
    if (!saved) return tl::unexpected(saved.error());
    wanted.saved = std::move(saved->heads);
    for (const std::string& note : saved->passed_over) {
      notes.push_back(fmt::format("{}: {}", o.heads, note));
      fmt::print(stderr, "fairsale: {}\n", notes.back());
    }
  }
  const SnapshotFiles files(std::filesystem::path(o.directory) / "snapshots", false);
  wanted.snapshots = files.all();
  // Before the log: it reaches whatever these were made of.
  const auto projections = ProjectionStore::open_view(projections_directory(o.directory));
  if (projections) {
    wanted.projections = projections->get();
  } else if (projections.error().fault != Fault::not_found &&
             projections.error().fault != Fault::damaged) {
    return tl::unexpected(projections.error());
  }
  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto plan = audit::plan_audit(*store->log, wanted);
  if (!plan) return tl::unexpected(plan.error());

  std::uint64_t events = 0;
  for (const audit::SaleTask& t : plan->tasks) events += t.durable.seq.value;
  Progress progress("events", events);
  audit::StoreReport report;
  report.store = o.directory;
  report.program = fmt::format("fairsale {}", kVersion);
  report.fairness = o.fairness;
  report.damage = plan->damage;
  if (!report.damage && !projections && projections.error().fault == Fault::damaged) {
    report.damage = projections.error();
  }
  report.notes = std::move(notes);
  const auto done =
      audit::audit_store(*store->log, files, plan->tasks,
                         {.fairness = o.fairness,
                          .projections = wanted.projections,
                          .jobs = o.jobs,
                          .progress = [&progress](std::uint64_t n) { progress.add(n); }},
                         [&report](audit::SaleReport&& r) { report.add(std::move(r)); });
  if (!done) return tl::unexpected(done.error());
  report.finish();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

using Write = Result<void>(const audit::StoreReport&, std::string&, const audit::Pass&);

Result<void> write(Write& what, const audit::StoreReport& report, std::FILE* file,
                   std::string_view end) {
  Output out(file);
  if (auto ok = what(report, out.text(), [&out] { return out.pass(); }); !ok) return ok;
  out.text() += end;
  return out.flush();
}

Result<void> write_page(const std::string& path, const audit::StoreReport& report) {
  const auto cannot = [&path] {
    return fail(Fault::io, fmt::format("cannot write {}: {}", path, std::strerror(errno)));
  };
  std::FILE* file = std::fopen(path.c_str(), "wb");
  if (file == nullptr) return cannot();
  const auto written = write(audit::write_html, report, file, "");
  if (std::fclose(file) != 0 && written) return cannot();
  return written;
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
  const auto written = o.json ? write(audit::write_json, *report, stdout, "\n")
                              : write(audit::write_text, *report, stdout, "");
  const auto page = o.report.empty() ? Result<void>{} : write_page(o.report, *report);
  int code = report->unread() > 0 ? kIo : kOk;
  if (!written) code = complain(written.error());
  if (!page) code = complain(page.error());
  // What was found to be wrong is told before anything else.
  return report->found_wrong() ? kCheckFailed : code;
}

}  // namespace

void add_audit(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<Options>();
  CLI::App* c = app.add_subcommand(
      "audit",
      "Checks every sale in a data directory from its first event: blocks, chain, encoding, "
      "decisions, invariants, snapshots, stored projections, saved heads, and with --fairness who "
      "was served when; "
      "works beside a running server");
  c->footer(
      "docs/audit.md tells what each message means and what it proves.\n"
      "Exit codes: 0 everything checks out; 1 something diverges or was not fair, named by SKU and "
      "seq, whatever else could not be read or written; 2 usage; 3 I/O.");
  c->add_option("data", o->directory, "The data directory, or a copy of one")->required();
  c->add_option("--sku", o->skus, "Only this sale; may be given again");
  c->add_option("--jobs", o->jobs, "Sales audited at the same time")
      ->check(CLI::Range(1U, 1024U))
      ->capture_default_str();
  c->add_option("--head", o->heads,
                "Saved heads to compare with: answers of GET /v1/sales/{sku}/audit-head, one a "
                "line, or a file of backup --heads");
  CLI::Option* fairness =
      c->add_flag("--fairness", o->fairness, "Also check that every sale was fair");
  c->add_option("--report", o->report, "Write the report as an HTML page to this file")
      ->needs(fairness);
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] { exit_code = run_audit(*o); });
}

}  // namespace fairsale::cli
