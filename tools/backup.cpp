// fairsale backup and restore: verified copies of the logs in a data directory.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <span>
#include <system_error>

#include "api/cluster/partition_records.hpp"
#include "core/json/json.hpp"
#include "core/log/copy_log.hpp"
#include "core/log/digest.hpp"
#include "core/log/files.hpp"
#include "core/log/rocks_log.hpp"
#include "tools/cli.hpp"
#include "tools/events/event_json.hpp"
#include "tools/store/fresh_directory.hpp"
#include "tools/store/output.hpp"
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

std::uint64_t events_in(std::span<const SkuHead> heads) {
  std::uint64_t events = 0;
  for (const SkuHead& h : heads) events += h.head.seq.value;
  return events;
}

// Reads all of a store and compares where its logs lead.
Result<void> verify(const std::string& directory, std::span<const SkuHead> expected) {
  const auto copy = open_store(directory);
  if (!copy) return tl::unexpected(copy.error());
  if (copy->heads.size() != expected.size()) {
    return fail(Fault::damaged, fmt::format("{} has {} sales, not {}", directory,
                                            copy->heads.size(), expected.size()));
  }
  Progress progress("events verified", events_in(expected));
  for (std::size_t i = 0; i < expected.size(); ++i) {
    Head end;
    const auto done = copy->log->read(expected[i].sku, Seq{1}, [&](const BlockView& b) {
      end = {b.last(), b.header().time, b.digest()};
      progress.add(b.header().count);
      return true;
    });
    if (!done) return done;
    if (copy->heads[i].sku != expected[i].sku || end != expected[i].head) {
      return fail(Fault::damaged,
                  fmt::format("SKU {:016x}: the copy does not end in the head of the source",
                              expected[i].sku.value));
    }
  }
  return {};
}

// A data directory to copy from.
struct Source {
  api::PartitionRecords partitions;
  Store store;
};

Result<Source> open_source(const std::string& directory) {
  // In this order: a partition has gone over to a generation once all before it is in the log.
  auto partitions = api::PartitionRecords::open(api::partition_records_file(directory));
  if (!partitions) return tl::unexpected(partitions.error());
  auto store = open_store(directory);
  if (!store) return tl::unexpected(store.error());
  return Source{std::move(*partitions), std::move(*store)};
}

// Copies what `to` lacks up to these heads of the source, and verifies all of `to`.
Result<CopyReport> copy_store(const Source& from, std::span<const SkuHead> heads,
                              const std::string& to) {
  const Store& source = from.store;
  Result<CopyReport> copied;
  {
    RecoveryReport recovery;
    auto target = open_rocks_log({.directory = to}, recovery);
    if (!target) return tl::unexpected(target.error());
    for (const std::string& note : recovery.notes) fmt::print(stderr, "{}\n", note);
    const auto there = (*target)->heads();
    if (!there) return tl::unexpected(there.error());
    const std::uint64_t all = events_in(heads);
    Progress progress("events copied", all - std::min(all, events_in(*there)));
    copied = copy_log(*source.log, **target, heads, [&](std::uint64_t n) { progress.add(n); });
    if (!copied) return copied;
  }
  if (auto ok = verify(to, heads); !ok) return tl::unexpected(ok.error());
  if (auto ok = api::put_beside_copy(from.partitions, to); !ok) return tl::unexpected(ok.error());
  return copied;
}

// One line for each sale, as `audit --head` takes them.
Result<void> write_heads(const EventLog& log, std::span<const SkuHead> heads,
                         const std::string& path) {
  std::FILE* const file = std::fopen(path.c_str(), "we");
  if (file == nullptr) return system_failure("write", path, errno);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> closed_at_last(file, std::fclose);
  Output out(file);
  for (const SkuHead& h : heads) {
    const auto name = sale_name(log, h.sku);
    if (!name) return tl::unexpected(name.error());
    const std::string digest = to_hex(h.head.digest);
    JsonWriter(out.text())
        .begin_object()
        .member("sku", std::string_view(name->empty() ? id_text(h.sku) : *name))
        .member("position", h.head.seq.value)
        .member("head", std::string_view(digest))
        .end_object();
    out.text() += '\n';
    if (auto ok = out.pass(); !ok) return ok;
  }
  return out.flush();
}

// `left_out` is how many events were not copied since they are provisional.
Result<void> report(const BackupOptions& o, std::span<const SkuHead> heads, const CopyReport& r,
                    std::uint64_t left_out, std::string_view did) {
  const std::uint64_t events = events_in(heads);
  Output out(stdout);
  if (o.json) {
    JsonWriter(out.text())
        .begin_object()
        .member("from", std::string_view(o.from))
        .member("to", std::string_view(o.to))
        .member("copied_events", r.events)
        .member("copied_blocks", r.blocks)
        .member("copied_bytes", r.bytes)
        .member("verified_sales", heads.size())
        .member("verified_events", events)
        .member("provisional_events", left_out)
        .end_object();
    out.text() += '\n';
  } else {
    out.print(
        "{} {} to {}: {} events in {} blocks of {} sales copied ({} bytes); all {} events "
        "of {} sales verified there\n",
        did, o.from, o.to, grouped(r.events), grouped(r.blocks), grouped(r.skus), grouped(r.bytes),
        grouped(events), grouped(heads.size()));
    if (left_out > 0)
      out.print("{} events were left out: they are provisional\n", grouped(left_out));
  }
  return out.flush();
}

Result<int> run_backup(const BackupOptions& o) {
  const auto source = open_source(o.from);
  if (!source) return tl::unexpected(source.error());
  std::error_code ec;
  if (fs::equivalent(o.from, o.to, ec)) {
    return fail(Fault::invalid, "a backup goes to another directory than the data directory");
  }
  // What the source may still lose would make the backup one of another history.
  const auto heads = as_far_as_durable(source->store, source->store.heads);
  if (!heads) return tl::unexpected(heads.error());
  const auto copied = copy_store(*source, *heads, o.to);
  if (!copied) return tl::unexpected(copied.error());
  if (!o.heads.empty()) {
    if (auto ok = write_heads(*source->store.log, *heads, o.heads); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  const std::uint64_t left_out = events_in(source->store.heads) - events_in(*heads);
  if (auto ok = report(o, *heads, *copied, left_out, "Backed up"); !ok) {
    return tl::unexpected(ok.error());
  }
  return kOk;
}

// The target appears whole or not at all.
Result<int> run_restore(const BackupOptions& o) {
  const fs::path target = directory_path(o.to);
  std::error_code ec;
  if (fs::exists(target, ec) && (!fs::is_directory(target, ec) || !fs::is_empty(target, ec))) {
    return fail(Fault::invalid, fmt::format("{} exists and is not empty. A restore replaces "
                                            "nothing: move it away first",
                                            o.to));
  }
  const auto source = open_source(o.from);
  if (!source) return tl::unexpected(source.error());
  auto under_way = FreshDirectory::beside(target, "restoring");
  if (!under_way) return tl::unexpected(under_way.error());
  const auto copied = copy_store(*source, source->store.heads, under_way->path().string());
  if (!copied) return tl::unexpected(copied.error());
  if (auto ok = under_way->move_to(target); !ok) return tl::unexpected(ok.error());
  if (auto ok = report(o, source->store.heads, *copied, 0, "Restored"); !ok) {
    return tl::unexpected(ok.error());
  }
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
      "What the source may still lose in a crash, since it is not on record as acknowledged, is "
      "left "
      "out.\n"
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
