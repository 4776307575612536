// fairsale log: the events of a data directory, readable, followed, and as a file.
#include <fmt/format.h>
#include <poll.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <map>
#include <memory>
#include <optional>

#include "core/log/acked.hpp"
#include "tools/cli.hpp"
#include "tools/events/event_json.hpp"
#include "tools/events/log_file.hpp"
#include "tools/events/walk.hpp"
#include "tools/store/output.hpp"
#include "tools/store/progress.hpp"
#include "tools/store/purchase_id.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace {

using Clock = std::chrono::steady_clock;

struct ShowOptions {
  std::string directory;
  std::vector<std::string> skus;
  std::uint64_t from = 1;
  std::uint64_t to = ~std::uint64_t{0};
  std::string since;
  std::string until;
  std::string customer;
  std::string purchase;
  std::uint64_t limit = 0;
  bool decisions = false;
  bool from_start = false;
  bool json = false;
};

struct TailOptions {
  std::string directory;
  std::vector<std::string> skus;
  std::uint32_t count = 10;
  bool follow = false;
  bool json = false;
};

struct ExportOptions {
  std::string directory;
  std::vector<std::string> skus;
};

struct ImportOptions {
  std::string file;
  std::string directory;
  bool json = false;
};

Result<std::optional<Timestamp>> time_option(std::string_view name, const std::string& text) {
  if (text.empty()) return std::optional<Timestamp>();
  const auto t = parse_rfc3339(text);
  if (!t) {
    return fail(Fault::invalid,
                fmt::format("{} takes a time like 2026-11-27T08:00:00Z, not {}", name, text));
  }
  return t;
}

// Writes events as lines of text or as the elements of one JSON object, {"events":[…]}.
class EventList {
 public:
  explicit EventList(bool json) : json_(json) {
    if (json_) out_.text() += R"({"events":[)";
  }

  void add(const SeenEvent& seen) {
    if (!json_) {
      append_text(out_.text(), seen);
      return;
    }
    if (count_++ != 0) out_.text() += ",\n";
    JsonWriter writer(out_.text());
    append_json(writer, seen);
  }
  void add_text(std::string_view text) {
    if (json_ && count_++ != 0) out_.text() += ",\n";
    out_.text() += text;
  }
  Result<void> pass() { return out_.pass(); }
  bool is_due() const { return out_.is_due(); }
  Result<void> finish() {
    if (json_) out_.text() += "]}\n";
    return out_.flush();
  }

 private:
  bool json_;
  Output out_{stdout};
  std::uint64_t count_ = 0;
};

Result<int> run_show(ShowOptions o) {
  EventFilter filter{.from = Seq{o.from},
                     .to = Seq{o.to},
                     .customer = o.customer,
                     .decisions = o.decisions,
                     .fold_from = o.from_start ? FoldFrom::start : FoldFrom::snapshot};
  const auto since = time_option("--since", o.since);
  if (!since) return tl::unexpected(since.error());
  filter.since = *since;
  const auto until = time_option("--until", o.until);
  if (!until) return tl::unexpected(until.error());
  filter.until = *until;
  if (!o.purchase.empty()) {
    const auto id = parse_purchase_id(o.purchase);
    if (!id) {
      return fail(Fault::invalid,
                  fmt::format("--purchase takes an id like tour-2027:2, not {}", o.purchase));
    }
    filter.purchase = id->seq;
    o.skus = {id->sku};
  }

  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto heads = choose(*store, o.skus);
  if (!heads) return tl::unexpected(heads.error());
  // Only of whole logs is it known beforehand how much must be read.
  std::uint64_t total = 0;
  const bool whole = o.from == 1 && !filter.since && !filter.until && !filter.purchase;
  for (const SkuHead& head : *heads) {
    if (whole && o.limit == 0) total += std::min(filter.to, head.head.seq).value;
  }
  Progress progress("events", total);
  filter.watch = [&progress](std::uint64_t events) { progress.add(events); };
  EventList list(o.json);
  std::uint64_t shown = 0;
  std::optional<Error> error;
  for (const SkuHead& head : *heads) {
    const auto durable = durable_seq(*store, head.sku);
    if (!durable) return tl::unexpected(durable.error());
    const auto done = visit_events(*store->log, head, *durable, filter, [&](const SeenEvent& seen) {
      list.add(seen);
      if (list.is_due()) progress.hide();
      if (auto ok = list.pass(); !ok) error = ok.error();
      return !error && ++shown != o.limit;
    });
    if (error || !done) progress.hide();
    if (error) return tl::unexpected(*error);
    if (!done) {
      // What comes before the damage is shown.
      if (auto ok = list.finish(); !ok) return tl::unexpected(ok.error());
      return tl::unexpected(done.error());
    }
    if (o.limit != 0 && shown == o.limit) break;
  }
  progress.hide();
  if (auto ok = list.finish(); !ok) return tl::unexpected(ok.error());
  return kOk;
}

std::string line_of(const SeenEvent& seen, bool json) {
  std::string line;
  if (json) {
    JsonWriter writer(line);
    append_json(writer, seen);
  } else {
    append_text(line, seen);
  }
  return line;
}

// The last events of several sales, the oldest first.
Result<std::vector<std::string>> last_events(const Store& store, const std::vector<SkuHead>& heads,
                                             const TailOptions& o) {
  struct Kept {
    Timestamp time;
    std::string line;
  };
  std::vector<Kept> kept;
  for (const SkuHead& head : heads) {
    const std::uint64_t end = head.head.seq.value;
    const EventFilter filter{.from = Seq{end > o.count ? end - o.count + 1 : 1}};
    if (o.count == 0) break;
    const auto durable = durable_seq(store, head.sku);
    if (!durable) return tl::unexpected(durable.error());
    const auto done = visit_events(*store.log, head, *durable, filter, [&](const SeenEvent& seen) {
      kept.push_back({seen.time, line_of(seen, o.json)});
      return true;
    });
    if (!done) return tl::unexpected(done.error());
    std::stable_sort(kept.begin(), kept.end(),
                     [](const Kept& a, const Kept& b) { return a.time < b.time; });
    if (kept.size() > o.count) {
      kept.erase(kept.begin(), kept.end() - static_cast<std::ptrdiff_t>(o.count));
    }
  }
  std::vector<std::string> lines;
  lines.reserve(kept.size());
  for (Kept& k : kept) lines.push_back(std::move(k.line));
  return lines;
}

// Writes what becomes durable in a store, as its server goes on, until interrupted.
class Follower {
 public:
  explicit Follower(const TailOptions& o) : o_(o) {}

  Result<int> run() {
    watch_signals();
    if (auto ok = look(true); !ok) return tl::unexpected(ok.error());
    int failures = 0;
    while (interrupted == 0) {
      wait();
      const auto record = AckedFile::read(std::filesystem::path(o_.directory) / "ACKED");
      if (!record) return tl::unexpected(record.error());
      if (*record && acked_ && (*record)->sequence == *acked_) continue;
      const auto ok = look(false);
      // A server that starts, stops or is busy changes what is being read; damage stays.
      failures = ok ? 0 : failures + 1;
      if (failures == kPatience || write_failed_) return tl::unexpected(ok.error());
    }
    return kOk;
  }

 private:
  static constexpr int kPatience = 5;  // looks in a row that may fail

  // Opens the store and writes what is new.
  Result<void> look(bool first) {
    const auto start = Clock::now();
    const auto record = AckedFile::read(std::filesystem::path(o_.directory) / "ACKED");
    if (!record) return tl::unexpected(record.error());
    const auto store = open_store(o_.directory);
    if (!store) return tl::unexpected(store.error());
    const auto chosen = choose(*store, o_.skus);
    if (!chosen) return tl::unexpected(chosen.error());
    const auto heads = as_far_as_durable(*store, *chosen);
    if (!heads) return tl::unexpected(heads.error());
    if (first) {
      const auto lines = last_events(*store, *heads, o_);
      if (!lines) return tl::unexpected(lines.error());
      for (const std::string& line : *lines) write(line);
    }
    for (const SkuHead& head : *heads) {
      if (interrupted != 0) break;
      Seq& shown = shown_[head.sku.value];
      if (first) shown = head.head.seq;
      if (shown >= head.head.seq) continue;
      std::optional<Error> error;
      const auto done = visit_events(*store->log, head, head.head.seq,
                                     {.from = Seq{shown.value + 1}}, [&](const SeenEvent& seen) {
                                       write(line_of(seen, o_.json));
                                       if (auto ok = written(out_.pass()); !ok) error = ok.error();
                                       shown = seen.seq;
                                       return !error && interrupted == 0;
                                     });
      if (error) return tl::unexpected(*error);
      if (!done) return done;
    }
    acked_.reset();
    if (*record) acked_ = (*record)->sequence;
    cost_ = Clock::now() - start;
    return written(out_.flush());
  }

  // Trying again would write some of it twice.
  Result<void> written(Result<void> result) {
    write_failed_ = !result;
    return result;
  }

  void write(std::string_view line) {
    out_.text() += line;
    if (o_.json) out_.text() += '\n';
  }

  // Opening costs the more the more has been written since the server last put its log into
  // tables, so the rest between two looks keeps to four times of what the last one took.
  void wait() const {
    const auto rest = std::max<Clock::duration>(std::chrono::milliseconds(250), 4 * cost_);
    ::poll(nullptr, 0,
           static_cast<int>(std::chrono::duration_cast<std::chrono::milliseconds>(rest).count()));
  }

  const TailOptions& o_;
  Output out_{stdout};
  std::map<std::uint64_t, Seq> shown_;  // by SKU id
  std::optional<std::uint64_t> acked_;  // as of the last look
  Clock::duration cost_{};
  bool write_failed_ = false;
};

Result<int> run_tail(const TailOptions& o) {
  if (o.follow) return Follower(o).run();
  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto heads = choose(*store, o.skus);
  if (!heads) return tl::unexpected(heads.error());
  const auto lines = last_events(*store, *heads, o);
  if (!lines) return tl::unexpected(lines.error());
  EventList list(o.json);
  for (const std::string& line : *lines) list.add_text(line);
  if (auto ok = list.finish(); !ok) return tl::unexpected(ok.error());
  return kOk;
}

Result<int> run_export(const ExportOptions& o) {
  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto heads = choose(*store, o.skus);
  if (!heads) return tl::unexpected(heads.error());
  const auto durable = as_far_as_durable(*store, *heads);
  if (!durable) return tl::unexpected(durable.error());
  Output out(stdout);
  if (auto ok = export_logs(*store->log, *durable, out); !ok) {
    return tl::unexpected(ok.error());
  }
  return kOk;
}

Result<int> run_import(const ImportOptions& o) {
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(nullptr, std::fclose);
  std::FILE* in = stdin;
  if (o.file != "-") {
    opened.reset(std::fopen(o.file.c_str(), "re"));
    if (!opened) return system_failure("open", o.file, errno);
    in = opened.get();
  }
  watch_signals();
  const auto sales = import_logs(in, o.file == "-" ? "stdin" : o.file, o.directory);
  if (!sales) return tl::unexpected(sales.error());
  Output out(stdout);
  if (o.json) {
    JsonWriter json(out.text());
    json.begin_object().member("directory", o.directory).key("sales").begin_array();
    for (const ImportedSale& s : *sales) {
      json.begin_object()
          .member("sku", s.sku)
          .member("position", s.head.seq.value)
          .member("head", to_hex(s.head.digest))
          .member("state_digest", to_hex(s.state))
          .end_object();
    }
    json.end_array().end_object();
    out.text() += '\n';
  } else {
    for (const ImportedSale& s : *sales) {
      out.text() += fmt::format("sku {}\n  position  {}\n  head      {}\n  state     {}\n", s.sku,
                                s.head.seq.value, to_hex(s.head.digest), to_hex(s.state));
    }
  }
  if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
  return kOk;
}

void add_data(CLI::App* c, std::string& directory) {
  c->add_option("data", directory, "The data directory")->required();
}

CLI::Option* add_skus(CLI::App* c, std::vector<std::string>& skus) {
  return c->add_option("--sku", skus, "Only this sale; may be given again")
      ->allow_extra_args(false);
}

template <class Options, class Run>
void run_on_parse(CLI::App* c, const std::shared_ptr<Options>& o, int& exit_code, Run run) {
  c->callback([o, &exit_code, run] {
    const Result<int> result = run(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

void add_show(CLI::App* log, int& exit_code) {
  auto o = std::make_shared<ShowOptions>();
  CLI::App* c = log->add_subcommand("show", "Shows events, one a line: where, when and what");
  c->footer(
      "Works beside a running server: what is not yet known to be durable is marked provisional.\n"
      "What must be folded (--decisions, --customer) is folded from the nearest snapshot, taken at "
      "its\nword, which only its own digest backs; --from-start trusts the log alone.\n"
      "Example: fairsale log show data --purchase tour-2027:2 --decisions\n"
      "Exit codes: 0 ok; 1 damage, named by SKU and seq; 2 usage; 3 I/O, no such sale or "
      "purchase.");
  add_data(c, o->directory);
  CLI::Option* sku = add_skus(c, o->skus);
  c->add_option("--from", o->from, "From this seq on")->check(CLI::PositiveNumber);
  c->add_option("--to", o->to, "Up to this seq")->check(CLI::PositiveNumber);
  c->add_option("--since", o->since, "From this log time on (RFC 3339)");
  c->add_option("--until", o->until, "Up to this log time (RFC 3339)");
  c->add_option("--customer", o->customer,
                "Only attempts of this customer and what befell their purchases");
  c->add_option("--purchase", o->purchase,
                "Only the attempt with this id (SKU:SEQ), its repetitions, and what befell it")
      ->excludes(sku);
  c->add_option("--limit", o->limit, "At most this many events")->check(CLI::PositiveNumber);
  c->add_flag("--decisions", o->decisions,
              "Fold along and show what was decided; events that decide about the customer or the "
              "purchase are then shown too");
  c->add_flag("--from-start", o->from_start,
              "What is folded is folded from position 1, whatever snapshots there are");
  c->add_flag("--json", o->json, "As one JSON object");
  run_on_parse(c, o, exit_code, run_show);
}

void add_tail(CLI::App* log, int& exit_code) {
  auto o = std::make_shared<TailOptions>();
  CLI::App* c = log->add_subcommand("tail", "Shows the last events of all sales, and what follows");
  c->footer(
      "With --follow only what is durable is shown, so nothing is ever taken back; it goes on "
      "over\n"
      "restarts of the server and ends on SIGINT or SIGTERM.\n"
      "Exit codes: 0 ok; 1 damage, named by SKU and seq; 2 usage; 3 I/O or no such sale.");
  add_data(c, o->directory);
  add_skus(c, o->skus);
  c->add_option("-n,--lines", o->count, "How many events")
      ->check(CLI::Range(0U, 100'000U))
      ->capture_default_str();
  c->add_flag("-f,--follow", o->follow, "Go on with new events as a running server makes them");
  c->add_flag("--json", o->json, "As one JSON object; with --follow one object a line");
  run_on_parse(c, o, exit_code, run_tail);
}

void add_export(CLI::App* log, int& exit_code) {
  auto o = std::make_shared<ExportOptions>();
  CLI::App* c = log->add_subcommand(
      "export", "Writes the log as JSON Lines, without loss, to stdout (see docs/log-format.md)");
  c->footer(
      "Beside a running server what is durable is written.\n"
      "Example: fairsale log export data > log.jsonl\n"
      "Exit codes: 0 ok; 1 damage, named by SKU and seq; 2 usage; 3 I/O or no such sale.");
  add_data(c, o->directory);
  add_skus(c, o->skus);
  run_on_parse(c, o, exit_code, run_export);
}

void add_import(CLI::App* log, int& exit_code) {
  auto o = std::make_shared<ImportOptions>();
  CLI::App* c = log->add_subcommand(
      "import", "Makes a data directory out of an exported log, with the same blocks and heads");
  c->footer(
      "Exit codes: 0 ok; 1 the file does not check out, named by line, and nothing is imported;\n"
      "2 usage, or the directory is not empty; 3 I/O, or a newer fairsale wrote the file.");
  c->add_option("file", o->file, "What fairsale log export wrote; - for stdin")->required();
  c->add_option("data", o->directory, "The new data directory, empty or absent")->required();
  c->add_flag("--json", o->json, "The outcome as one JSON object");
  run_on_parse(c, o, exit_code, run_import);
}

}  // namespace

void add_log(CLI::App& app, int& exit_code) {
  CLI::App* log =
      app.add_subcommand("log", "The events of a data directory: show, tail, export, import");
  log->require_subcommand(1);
  add_show(log, exit_code);
  add_tail(log, exit_code);
  add_export(log, exit_code);
  add_import(log, exit_code);
}

}  // namespace fairsale::cli
