// fairsale backup and restore: verified copies of the logs in a data directory.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <system_error>

#include "core/json/json.hpp"
#include "core/log/copy_log.hpp"
#include "core/log/digest.hpp"
#include "core/log/files.hpp"
#include "core/log/rocks_log.hpp"
#include "tools/cli.hpp"
#include "tools/store/progress.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace fs = std::filesystem;

namespace {

struct BackupOptions {
  std::string from;
  std::string to;
  std::string heads;
  bool json = false;
};

// Copies what `to` lacks, then reads all of `to` back and compares its heads with the source's.
Result<CopyReport> copy_store(const Store& source, const std::string& to) {
  std::uint64_t events = 0;
  for (const SkuHead& h : source.heads) events += h.head.seq.value;
  Result<CopyReport> copied;
  {
    RecoveryReport recovery;
    auto target = open_rocks_log({.directory = to}, recovery);
    if (!target) return tl::unexpected(target.error());
    for (const std::string& note : recovery.notes) fmt::print(stderr, "{}\n", note);
    const auto there = (*target)->heads();
    if (!there) return tl::unexpected(there.error());
    for (const SkuHead& h : *there) events -= std::min(events, h.head.seq.value);
    Progress progress("events copied", events);
    copied = copy_log(*source.log, **target, [&](std::uint64_t n) { progress.add(n); });
    if (!copied) return copied;
  }
  const auto copy = open_store(to);
  if (!copy) return tl::unexpected(copy.error());
  if (copy->heads.size() != source.heads.size()) {
    return fail(Fault::damaged, fmt::format("{} has {} sales, the source {}", to,
                                            copy->heads.size(), source.heads.size()));
  }
  Progress progress("blocks verified", 0);
  for (std::size_t i = 0; i < source.heads.size(); ++i) {
    const SkuHead& expected = source.heads[i];
    Head end;
    const auto done = copy->log->read(expected.sku, Seq{1}, [&](const BlockView& b) {
      end = {b.last(), b.header().time, b.digest()};
      progress.add(1);
      return true;
    });
    if (!done) return tl::unexpected(done.error());
    if (copy->heads[i].sku != expected.sku || end != expected.head) {
      return fail(Fault::damaged,
                  fmt::format("SKU {:016x}: the copy does not end in the head of the source",
                              expected.sku.value));
    }
  }
  return copied;
}

// One line for each sale, as `audit --head` takes them.
Result<void> write_heads(const Store& store, const std::string& path) {
  std::string text;
  for (const SkuHead& h : store.heads) {
    JsonWriter json(text);
    const std::string name = sku_name(*store.log, h.sku);
    const std::string digest = to_hex(h.head.digest);
    json.begin_object()
        .member("sku", std::string_view(name))
        .member("position", h.head.seq.value)
        .member("head", std::string_view(digest))
        .end_object();
    text += '\n';
  }
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  if (!out.write(text.data(), static_cast<std::streamsize>(text.size())).flush()) {
    return fail(Fault::io, fmt::format("cannot write {}: {}", path, std::strerror(errno)));
  }
  return {};
}

void print_report(const BackupOptions& o, const Store& source, const CopyReport& r,
                  std::string_view did) {
  std::uint64_t events = 0;
  for (const SkuHead& h : source.heads) events += h.head.seq.value;
  if (!o.json) {
    fmt::print(
        "{} {} to {}: {} events in {} blocks of {} sales copied ({} bytes); all {} events "
        "of {} sales verified there\n",
        did, o.from, o.to, grouped(r.events), grouped(r.blocks), grouped(r.skus), grouped(r.bytes),
        grouped(events), grouped(source.heads.size()));
    return;
  }
  std::string out;
  JsonWriter(out)
      .begin_object()
      .member("from", std::string_view(o.from))
      .member("to", std::string_view(o.to))
      .member("copied_events", r.events)
      .member("copied_blocks", r.blocks)
      .member("copied_bytes", r.bytes)
      .member("verified_sales", source.heads.size())
      .member("verified_events", events)
      .end_object();
  fmt::print("{}\n", out);
}

Result<int> run_backup(const BackupOptions& o) {
  const auto source = open_store(o.from);
  if (!source) return tl::unexpected(source.error());
  std::error_code ec;
  if (fs::equivalent(o.from, o.to, ec)) {
    return fail(Fault::invalid, "a backup goes to another directory than the data directory");
  }
  const auto copied = copy_store(*source, o.to);
  if (!copied) return tl::unexpected(copied.error());
  if (!o.heads.empty()) {
    if (auto ok = write_heads(*source, o.heads); !ok) return tl::unexpected(ok.error());
  }
  print_report(o, *source, *copied, "Backed up");
  return kOk;
}

// The target appears whole or not at all.
Result<int> run_restore(const BackupOptions& o) {
  std::error_code ec;
  if (fs::exists(o.to, ec) && !fs::is_empty(o.to, ec)) {
    return fail(Fault::invalid, fmt::format("{} exists and is not empty. A restore replaces "
                                            "nothing: move it away first",
                                            o.to));
  }
  const auto source = open_store(o.from);
  if (!source) return tl::unexpected(source.error());
  const fs::path target = fs::absolute(o.to, ec).lexically_normal();
  const fs::path under_way = target.string() + ".restoring";
  fs::remove_all(under_way, ec);
  const auto copied = copy_store(*source, under_way.string());
  if (!copied) {
    fs::remove_all(under_way, ec);
    return tl::unexpected(copied.error());
  }
  fs::remove(target, ec);
  ec.clear();
  fs::rename(under_way, target, ec);
  if (ec) {
    return fail(Fault::io, fmt::format("cannot rename {} to {}: {}", under_way.string(),
                                       target.string(), ec.message()));
  }
  if (auto ok = sync_directory(target.parent_path()); !ok) return tl::unexpected(ok.error());
  print_report(o, *source, *copied, "Restored");
  return kOk;
}

}  // namespace

void add_backup(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<BackupOptions>();
  CLI::App* backup = app.add_subcommand(
      "backup",
      "Copies the logs of a data directory to another, verified; beside a running server too");
  backup->footer(
      "A backup is a data directory: fairsaled, replay and audit work on it. Done again, it copies "
      "only what is new.\n"
      "Exit codes: 0 copied and verified; 1 damage, named by SKU and position; 2 usage, or the "
      "target holds another history; 3 I/O.");
  backup->add_option("data", o->from, "The data directory")->required();
  backup->add_option("target", o->to, "Where the backup is or is to be")->required();
  backup->add_option("--heads", o->heads,
                     "Also write each sale's head to this file, to be kept elsewhere for `audit "
                     "--head`");
  backup->add_flag("--json", o->json, "As one JSON object");
  backup->callback([o, &exit_code] {
    const auto result = run_backup(*o);
    exit_code = result ? *result : complain(result.error());
  });

  auto r = std::make_shared<BackupOptions>();
  CLI::App* restore = app.add_subcommand(
      "restore", "Makes a data directory from a backup, verified; replaces nothing");
  restore->footer("Exit codes: 0 restored and verified; 1 damage; 2 usage; 3 I/O.");
  restore->add_option("backup", r->from, "The backup")->required();
  restore->add_option("data", r->to, "The data directory to make; absent or empty")->required();
  restore->add_flag("--json", r->json, "As one JSON object");
  restore->callback([r, &exit_code] {
    const auto result = run_restore(*r);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
