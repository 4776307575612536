// fairsale cluster: how a cluster is, and how it goes on when its streams have lost what they had.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>

#include "api/auth.hpp"
#include "api/cluster/partition_records.hpp"
#include "api/config.hpp"
#include "core/json/json.hpp"
#include "core/log/data_directory.hpp"
#include "core/log/rocks_log.hpp"
#include "tools/cli.hpp"
#include "tools/cluster/reseed.hpp"
#include "tools/cluster/status.hpp"
#include "tools/http_client.hpp"
#include "tools/store/output.hpp"
#include "tools/store/progress.hpp"

namespace fairsale::cli {

namespace fs = std::filesystem;

namespace {

// ---- status

constexpr const char* kOperatorToken = "FAIRSALE_OPERATOR_TOKEN";

struct StatusOptions {
  std::vector<std::string> urls;
  std::string token_file;
  std::vector<std::string> skus;
  double patience_seconds = 5;
  bool json = false;
};

// Of a node, the body of an answer that is as it should be.
class Asker {
 public:
  Asker(const StatusOptions& o, const std::string& token)
      : client_(std::chrono::milliseconds(static_cast<std::int64_t>(o.patience_seconds * 1e3)),
                std::size_t{16} << 20),
        headers_{"Authorization: Bearer " + token} {}

  Result<std::string> get(const std::string& url) {
    auto reply = client_.get(url, headers_);
    if (!reply) return tl::unexpected(reply.error());
    if (reply->status == 200) return std::move(reply->body);
    const std::string_view why =
        reply->status == 401 || reply->status == 403 ? ": is this the operator's token?" : "";
    return fail(Fault::io, fmt::format("{}: it answers {}{}", url, reply->status, why));
  }

 private:
  HttpClient client_;
  std::vector<std::string> headers_;
};

Result<int> run_status(StatusOptions o) {
  for (std::string& url : o.urls) {
    while (url.ends_with('/')) url.pop_back();
    if (const std::string wrong = wrong_with_url(url); !wrong.empty()) {
      return fail(Fault::invalid, wrong);
    }
  }
  for (const std::string& sku : o.skus) {
    const auto plain = [](unsigned char c) {
      return c < 0x80 && (std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-');
    };
    if (sku.empty() || !std::all_of(sku.begin(), sku.end(), plain)) {
      return fail(Fault::invalid, fmt::format("{} is no SKU", json_string(sku)));
    }
  }
  const auto token = token_from(o.token_file, kOperatorToken);
  if (!token) return tl::unexpected(token.error());
  if (token->empty()) {
    return fail(Fault::invalid,
                fmt::format("the operator's token is needed: --token-file or {}", kOperatorToken));
  }
  start_http_clients();
  Asker asker(o, *token);
  ClusterStatus status;
  for (const std::string& url : o.urls) {
    const auto said = asker.get(url + "/v1/cluster");
    const auto answer = said ? parse_cluster(*said) : tl::unexpected(said.error());
    if (answer) {
      status.add(url, *answer);
    } else {
      status.add_failure(url, answer.error().message);
    }
  }
  for (const std::string& sku : o.skus) {
    SaleHeads heads{.sku = sku, .heads = {}, .failures = {}};
    for (const NodeSeen& node : status.nodes()) {
      if (node.url.empty() || node.role != "processor") continue;
      const auto said = asker.get(fmt::format("{}/v1/sales/{}/audit-head", node.url, sku));
      auto head = said ? parse_audit_head(*said) : tl::unexpected(said.error());
      if (head) {
        head->node = node.name;
        heads.heads.push_back(std::move(*head));
      } else {
        heads.failures.push_back(head.error().message);
      }
    }
    status.add_heads(std::move(heads));
  }
  Output out(stdout);
  out.text() = o.json ? status.json() : status.text();
  if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
  return status.well() ? kOk : kCheckFailed;
}

// ---- reseed

struct ReseedOptions {
  std::vector<std::string> directories;
  ClusterShape shape;
  std::string takes;
  NatsAt nats;
  std::string credentials_file;
  bool yes = false;
  bool json = false;
};

// Of different processors, none of which runs.
Result<void> check_directories(const std::vector<std::string>& directories) {
  for (std::size_t i = 0; i < directories.size(); ++i) {
    const std::string& d = directories[i];
    std::error_code ec;
    if (!fs::is_directory(d, ec)) {
      return fail(Fault::not_found, d + " is not a directory: give the data directory that "
                                        "fairsaled --data names");
    }
    if (auto ok = check_directory(d); !ok) return ok;
    for (std::size_t j = 0; j < i; ++j) {
      if (fs::equivalent(d, directories[j], ec)) {
        return fail(Fault::invalid, fmt::format("{} is there twice: one directory is one "
                                                "processor's",
                                                d));
      }
    }
    if (is_taken(d)) {
      return fail(Fault::busy, fmt::format("a server has {} open: stop all processors first", d));
    }
  }
  return {};
}

std::string title_of(const std::string& directory) {
  std::string out;
  append_word(out, directory);
  return out;
}

std::string events(std::uint64_t n) { return n == 1 ? "1 event" : grouped(n) + " events"; }

void put_text(Output& out, const ReseedOptions& o, const ReseedPlan& plan,
              const std::vector<NextGeneration>& next) {
  std::uint64_t same = 0;
  for (const SalePlan& s : plan.sales) {
    const bool equal = std::all_of(s.copies.begin(), s.copies.end(),
                                   [&](const SaleCopy& c) { return c.head == s.head; });
    if (equal) {
      ++same;
      continue;
    }
    out.print("sku {}: {} as in {}, head {}\n", s.name, events(s.head.seq.value),
              title_of(o.directories[s.from]), to_hex(s.head.digest));
    for (std::size_t i = 0; i < s.copies.size(); ++i) {
      const SaleCopy& c = s.copies[i];
      if (c.apart.value > 0) {
        out.print(
            "  {}: has parted from position {} on, where it goes on to {} with something "
            "else\n",
            title_of(o.directories[i]), c.apart.value, c.head.seq.value);
      } else if (c.lacks > 0) {
        out.print("  {}: lacks {}, from position {} on\n", title_of(o.directories[i]),
                  events(c.lacks), c.head.seq.value + 1);
      }
    }
  }
  out.print("{} of {} sales are the same in all {} copies\n", grouped(same),
            grouped(plan.sales.size()), o.directories.size());
  for (std::size_t i = 0; i < o.directories.size(); ++i) {
    if (plan.apart[i]) {
      out.print(
          "{} stays as it is, since it has parted: move it away and restore it from a backup "
          "of another processor\n",
          title_of(o.directories[i]));
    }
  }
  for (std::size_t i = 0; i < plan.partitions.size(); ++i) {
    const PartitionPlan& p = plan.partitions[i];
    out.print("partition {}: generation {} {} generation {} from message {} on, with {} sales\n",
              p.id.value, next[i].number,
              next[i].there ? "has been opened already, in place of" : "in place of",
              p.furthest.generation, p.furthest.sequence + 1, grouped(p.skus));
  }
}

std::string json_of(const ReseedOptions& o, const ReseedPlan& plan,
                    const std::vector<NextGeneration>& next, bool done) {
  std::string out;
  JsonWriter json(out);
  json.begin_object().member("done", done).key("sales").begin_array();
  for (const SalePlan& s : plan.sales) {
    const std::string head = to_hex(s.head.digest);
    json.begin_object()
        .member("sku", std::string_view(s.name))
        .member("position", s.head.seq.value)
        .member("head", std::string_view(head))
        .member("from", std::string_view(o.directories[s.from]))
        .key("copies")
        .begin_array();
    for (std::size_t i = 0; i < s.copies.size(); ++i) {
      const SaleCopy& c = s.copies[i];
      json.begin_object()
          .member("data", std::string_view(o.directories[i]))
          .member("position", c.head.seq.value)
          .member("lacks", c.lacks)
          .key("apart_from");
      c.apart.value > 0 ? json.value(c.apart.value) : json.null();
      json.end_object();
    }
    json.end_array().end_object();
  }
  json.end_array().key("parted").begin_array();
  for (std::size_t i = 0; i < o.directories.size(); ++i) {
    if (plan.apart[i]) json.value(std::string_view(o.directories[i]));
  }
  json.end_array().key("partitions").begin_array();
  for (std::size_t i = 0; i < plan.partitions.size(); ++i) {
    const PartitionPlan& p = plan.partitions[i];
    json.begin_object()
        .member("partition", p.id.value)
        .member("generation", next[i].number)
        .member("was_there", next[i].there)
        .member("after_generation", p.furthest.generation)
        .member("after_message", p.furthest.sequence)
        .member("sales", p.skus)
        .end_object();
  }
  json.end_array().end_object();
  return out;
}

std::uint64_t to_copy(const ReseedPlan& plan) {
  std::uint64_t n = 0;
  for (const SalePlan& s : plan.sales) {
    for (std::size_t i = 0; i < s.copies.size(); ++i) n += plan.apart[i] ? 0 : s.copies[i].lacks;
  }
  return n;
}

Result<int> run_reseed(ReseedOptions o) {
  auto takes = cluster::PartitionSet::parse(o.takes, {o.shape.partitions});
  if (!takes) return fail(Fault::invalid, "--takes: " + takes.error().message);
  o.shape.takes = std::move(*takes);
  if (const std::string wrong = api::wrong_with_nats(o.nats.url); !wrong.empty()) {
    return fail(Fault::invalid, "--nats " + wrong);
  }
  auto credentials = token_from(o.credentials_file, "FAIRSALE_NATS_CREDENTIALS");
  if (!credentials) return tl::unexpected(credentials.error());
  o.nats.credentials = std::move(*credentials);
  if (auto ok = check_directories(o.directories); !ok) return tl::unexpected(ok.error());

  // Opened for writing, they stay locked until the end.
  std::vector<std::unique_ptr<EventLog>> logs;
  std::vector<const EventLog*> sources;
  std::vector<EventLog*> targets;
  std::map<cluster::PartitionId, cluster::Position> known;
  for (const std::string& d : o.directories) {
    const auto records = api::PartitionRecords::open(api::partition_records_file(d));
    if (!records) return tl::unexpected(records.error());
    for (const auto& [p, record] : records->all()) known[p] = std::max(known[p], record.began);
    RecoveryReport recovery;
    auto log = open_rocks_log(
        {.directory = d, .mode = o.yes ? OpenMode::read_write : OpenMode::read_only}, recovery);
    if (!log) return tl::unexpected(log.error());
    for (const std::string& note : recovery.notes) fmt::print(stderr, "{}: {}\n", d, note);
    const auto heads = (*log)->heads();
    if (!heads) return tl::unexpected(heads.error());
    if (heads->empty()) {
      fmt::print(stderr,
                 "fairsale: {} has no sale at all. If it is new since its processor lost its disk, "
                 "it says nothing about what was acknowledged: leave it out\n",
                 d);
    }
    targets.push_back(log->get());
    sources.push_back(log->get());
    logs.push_back(std::move(*log));
  }
  const auto plan = plan_reseed(sources, o.shape, std::move(known));
  if (!plan) return tl::unexpected(plan.error());
  const auto streams = connect_log_streams(o.nats);
  if (!streams) return tl::unexpected(streams.error());
  std::vector<NextGeneration> next;
  for (const PartitionPlan& p : plan->partitions) {
    const auto one = next_generation(**streams, p);
    if (!one) return tl::unexpected(one.error());
    next.push_back(*one);
  }

  Output out(stdout);
  if (!o.json) {
    put_text(out, o, *plan, next);
    if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
  }
  const bool parted = std::find(plan->apart.begin(), plan->apart.end(), true) != plan->apart.end();
  const bool to_do = to_copy(*plan) > 0 ||
                     std::any_of(next.begin(), next.end(), [](const auto& n) { return !n.there; });
  if (o.yes) {
    // Logs first: whoever finds the new generation has to find that its log is as it says.
    Progress progress("events copied", to_copy(*plan));
    const auto copied = bring_up(targets, *plan, [&](std::uint64_t n) { progress.add(n); });
    progress.hide();
    if (!copied) return tl::unexpected(copied.error());
    for (std::size_t i = 0; i < next.size(); ++i) {
      if (auto ok = begin_generation(**streams, plan->partitions[i], next[i]); !ok) {
        return tl::unexpected(ok.error());
      }
    }
    if (!o.json) {
      out.print("Done: {} copied, and {} streams opened. Start the processors, and edges again\n",
                events(copied->events), next.size());
    }
  } else if (to_do) {
    fmt::print(stderr, "Nothing was changed. With --yes all of this is done.\n");
  }
  if (o.json) out.print("{}\n", json_of(o, *plan, next, o.yes));
  if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
  return parted || (to_do && !o.yes) ? kCheckFailed : kOk;
}

void add_status(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<StatusOptions>();
  CLI::App* c = app.add_subcommand(
      "status", "Asks nodes of a running cluster how they are, and shows how far each has come");
  c->footer(
      "The lag of a partition is how many messages a processor is behind the furthest that the\n"
      "nodes asked know of; each was asked at another moment. Nodes that were not asked, but "
      "heard\n"
      "of, are shown without a word on whether they are ready.\n"
      "A partition is at the processors that it is shown with.\n"
      "Exit codes: 0 all are ready, nothing is stopped or waits, and heads agree; 1 not so; 2 "
      "usage; "
      "3 I/O.");
  c->add_option("urls", o->urls, "The URLs of nodes, processors and edges")->required();
  c->add_option("--token-file", o->token_file,
                "File with the operator's token [FAIRSALE_OPERATOR_TOKEN]");
  c->add_option("--heads", o->skus,
                "Also compare this sale's head on all processors asked; may be given again")
      ->allow_extra_args(false);
  c->add_option("--patience", o->patience_seconds, "Seconds until a node is given up")
      ->check(CLI::Range(0.1, 600.0))
      ->capture_default_str();
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_status(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

void add_reseed(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<ReseedOptions>();
  CLI::App* c = app.add_subcommand(
      "reseed",
      "For a cluster whose streams have lost messages, or that has stopped a partition: says with "
      "which logs it goes on; with --yes brings shorter ones up to them and begins the next "
      "generation of each stream");
  c->footer(
      "All processors must be stopped. Give the data directories of as many of them as there are:\n"
      "too few are refused, and so are two that have parted unless all are there. A directory "
      "that\n"
      "was restored from another's since then is no directory of its own.\n"
      "A copy that has parted from the log that is gone on with is never changed. What messages\n"
      "streams still hold that no processor has made a block of was acknowledged to nobody; it is\n"
      "left behind, and its clients ask again. Done again after an interruption it goes on.\n"
      "Exit codes: 0 done, or nothing to do; 1 something is left to do: --yes was not given, or a\n"
      "copy has parted; also damage; 2 usage, or too few directories; 3 I/O or NATS.");
  c->add_option("data", o->directories, "Data directories, each of another processor")->required();
  c->add_option("--nats", o->nats.url,
                "The cluster's JetStream: nats://HOST:PORT, several with commas between")
      ->required();
  c->add_option("--partitions", o->shape.partitions, "As all nodes have it")
      ->check(CLI::Range(1U, 1024U))
      ->required();
  c->add_option("--takes", o->takes,
                "Only these partitions, such as 0-3,8: those that all of these processors take");
  c->add_option("--processors", o->shape.processors, "How many take each partition, up or not")
      ->check(CLI::Range(1U, 64U))
      ->required();
  c->add_option("--durable-on", o->shape.durable_on, "As all nodes have it")
      ->check(CLI::Range(1U, 64U))
      ->required();
  c->add_option("--stream-megabytes", o->nats.streams.megabytes,
                "That NATS keeps of a stream, as fairsaled's option")
      ->check(CLI::Range(1U, 1'048'576U))
      ->capture_default_str();
  c->add_option("--stream-replicas", o->nats.streams.replicas, "NATS servers that hold each stream")
      ->check(CLI::Range(1U, 5U))
      ->capture_default_str();
  c->add_option("--nats-credentials-file", o->credentials_file,
                "File with user:password or a token for NATS [FAIRSALE_NATS_CREDENTIALS]");
  c->add_option("--nats-creds-file", o->nats.creds_file, "A .creds file of NATS");
  c->add_flag("--yes", o->yes, "Do it");
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_reseed(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace

void add_cluster(CLI::App& app, int& exit_code) {
  CLI::App* c = app.add_subcommand("cluster", "Looks at a cluster, and lets it go on");
  c->require_subcommand(1);
  add_status(*c, exit_code);
  add_reseed(*c, exit_code);
}

}  // namespace fairsale::cli
