// fairsale diff: where the logs of two stores part.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>

#include "core/engine/recovery.hpp"
#include "tools/cli.hpp"
#include "tools/events/diff.hpp"
#include "tools/events/event_json.hpp"
#include "tools/events/walk.hpp"
#include "tools/store/fold_progress.hpp"
#include "tools/store/output.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace {

struct DiffOptions {
  std::string a;
  std::string b;
  std::vector<std::string> skus;
  bool json = false;
};

// Where one store's log leads.
struct Side {
  Head head;  // empty when the store has no log of the SKU
  std::optional<Digest> state;
};

struct SaleDifference {
  std::string name;
  SkuId id;
  Side a;
  Side b;
  Difference difference;
};

Result<std::optional<Digest>> state_of(const Store& store, SkuId sku, const Head& head) {
  if (head.seq.value == 0) return std::optional<Digest>();
  Progress progress("events", head.seq.value);
  FoldProgress observer(progress);
  const auto folded = fold(*store.log, {sku, head}, FoldFrom::start, observer.if_visible());
  if (!folded) return tl::unexpected(folded.error());
  return std::optional(state_digest(folded->sale));
}

std::string_view name_of(Relation r) {
  switch (r) {
    case Relation::equal: return "equal";
    case Relation::a_is_prefix: return "a_is_prefix";
    case Relation::b_is_prefix: return "b_is_prefix";
    case Relation::events_differ: return "events_differ";
    case Relation::blocks_differ: return "blocks_differ";
  }
  return "unknown";
}

Result<SaleDifference> compare(const Store& a, const Store& b, SkuId sku) {
  const auto head_in = [sku](const Store& store) -> Result<Head> {
    const auto durable = store.durable();
    if (!durable) return tl::unexpected(durable.error());
    const SkuHead* found = find_head(*durable, sku);
    return found == nullptr ? Head{} : found->head;
  };
  const auto head_a = head_in(a);
  if (!head_a) return tl::unexpected(head_a.error());
  const auto head_b = head_in(b);
  if (!head_b) return tl::unexpected(head_b.error());
  SaleDifference d{.id = sku, .a = {.head = *head_a}, .b = {.head = *head_b}};
  auto name = sale_name(d.a.head.seq.value != 0 ? *a.log : *b.log, sku);
  if (!name) return tl::unexpected(name.error());
  d.name = name->empty() ? id_text(sku) : std::move(*name);
  const auto difference = first_difference(*a.log, d.a.head, *b.log, d.b.head, sku);
  if (!difference) return tl::unexpected(difference.error());
  d.difference = *difference;
  const Relation r = d.difference.relation;
  if (r == Relation::events_differ || r == Relation::blocks_differ) return d;
  auto state_a = state_of(a, sku, d.a.head);
  if (!state_a) return tl::unexpected(state_a.error());
  d.a.state = *state_a;
  auto state_b = state_of(b, sku, d.b.head);
  if (!state_b) return tl::unexpected(state_b.error());
  d.b.state = *state_b;
  return d;
}

void put_text(std::string& out, const SaleDifference& d) {
  const auto events = [](std::uint64_t n) { return n == 1 ? "1 event" : grouped(n) + " events"; };
  const std::uint64_t length_a = d.a.head.seq.value;
  const std::uint64_t length_b = d.b.head.seq.value;
  const auto longer = [&](std::string_view shorter, std::string_view other, std::uint64_t n,
                          std::uint64_t more) {
    return n == 0 ? fmt::format("only {} has it", other)
                  : fmt::format("{} is a prefix of {}, which goes on with {}", shorter, other,
                                events(more));
  };
  fmt::format_to(std::back_inserter(out), "sku {}: ", d.name);
  switch (d.difference.relation) {
    case Relation::equal: out += "equal"; break;
    case Relation::a_is_prefix: out += longer("A", "B", length_a, length_b - length_a); break;
    case Relation::b_is_prefix: out += longer("B", "A", length_b, length_a - length_b); break;
    case Relation::events_differ:
      fmt::format_to(std::back_inserter(out), "different from seq {} on", d.difference.seq.value);
      break;
    case Relation::blocks_differ:
      fmt::format_to(std::back_inserter(out),
                     "the same events as far as both go, but in different blocks from seq {} on",
                     d.difference.seq.value);
      break;
  }
  out += '\n';
  const bool blocks = d.difference.relation == Relation::blocks_differ;
  const auto entry = [&](char side, const std::optional<Entry>& e) {
    if (!e) return;
    fmt::format_to(std::back_inserter(out), "  {}  ", side);
    if (blocks) {
      fmt::format_to(std::back_inserter(out), "block {}..{}, epoch {}, head {}\n", e->first.value,
                     e->last.value, e->epoch.value, to_hex(e->digest));
    } else {
      append_text(out, {.sale_name = d.name, .seq = e->seq, .time = e->time, .event = e->event});
    }
  };
  entry('A', d.difference.a);
  entry('B', d.difference.b);
  const auto side = [&](char letter, const Side& s) {
    if (s.head.seq.value == 0) return;
    fmt::format_to(std::back_inserter(out), "  {}  position {}  head {}\n", letter,
                   s.head.seq.value, to_hex(s.head.digest));
    if (s.state) fmt::format_to(std::back_inserter(out), "     state {}\n", to_hex(*s.state));
  };
  side('A', d.a);
  side('B', d.b);
}

void put_json(JsonWriter& json, const SaleDifference& d) {
  json.begin_object()
      .member("sku", d.name)
      .member("id", id_text(d.id))
      .member("relation", name_of(d.difference.relation));
  if (d.difference.seq.value != 0) json.member("seq", d.difference.seq.value);
  const auto side = [&](std::string_view name, const Side& s, const std::optional<Entry>& e) {
    json.key(name).begin_object().member("position", s.head.seq.value);
    if (s.head.seq.value != 0) json.member("head", to_hex(s.head.digest));
    if (s.state) json.member("state_digest", to_hex(*s.state));
    if (e) {
      json.key("at").begin_object().member("seq", e->seq.value).member("time", e->time);
      append_event(json, e->event);
      json.key("block")
          .begin_object()
          .member("first", e->first.value)
          .member("last", e->last.value)
          .member("epoch", e->epoch.value)
          .member("head", to_hex(e->digest))
          .end_object()
          .end_object();
    }
    json.end_object();
  };
  side("a", d.a, d.difference.a);
  side("b", d.b, d.difference.b);
  json.end_object();
}

// The SKUs to compare: those named, each of which one of the stores must know, or all.
Result<std::vector<SkuId>> skus_of(const Store& a, const Store& b,
                                   const std::vector<std::string>& names) {
  std::vector<SkuId> all;
  for (const Store* store : {&a, &b}) {
    const auto durable = as_far_as_durable(*store, store->heads);
    if (!durable) return tl::unexpected(durable.error());
    for (const SkuHead& h : *durable) all.push_back(h.sku);
  }
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (names.empty()) return all;
  std::vector<SkuId> chosen;
  for (const std::string& name : names) {
    if (!std::binary_search(all.begin(), all.end(), sku_id(name))) {
      return fail(Fault::not_found, fmt::format("no log of SKU {} in either store", name));
    }
    chosen.push_back(sku_id(name));
  }
  return chosen;
}

Result<int> run_diff(const DiffOptions& o) {
  const auto a = open_store(o.a);
  if (!a) return tl::unexpected(a.error());
  const auto b = open_store(o.b);
  if (!b) return tl::unexpected(b.error());
  const auto skus = skus_of(*a, *b, o.skus);
  if (!skus) return tl::unexpected(skus.error());

  Output out(stdout);
  int code = kOk;
  if (o.json) out.text() += R"({"sales":[)";
  for (const SkuId sku : *skus) {
    const auto d = compare(*a, *b, sku);
    if (!d) {
      // What was found before is shown, and no less true.
      if (auto ok = out.flush(); !ok) return worse(code, complain(ok.error()));
      return worse(code, complain(d.error()));
    }
    if (d->difference.relation != Relation::equal) code = kCheckFailed;
    if (o.json) {
      if (sku != skus->front()) out.text() += ",\n";
      JsonWriter json(out.text());
      put_json(json, *d);
    } else {
      put_text(out.text(), *d);
    }
    if (auto ok = out.pass(); !ok) return tl::unexpected(ok.error());
  }
  if (o.json) out.text() += fmt::format("],\"equal\":{}}}\n", code == kOk);
  if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
  return code;
}

}  // namespace

void add_diff(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<DiffOptions>();
  CLI::App* c = app.add_subcommand(
      "diff", "Compares the logs of two data directories and shows where they first part");
  c->footer(
      "Works beside running servers: what is durable is compared.\n"
      "Exit codes: 0 equal; 1 different (a prefix is different, too) or damaged; 2 usage; 3 I/O.");
  c->add_option("a", o->a, "A data directory")->required();
  c->add_option("b", o->b, "Another")->required();
  c->add_option("--sku", o->skus, "Only this sale; may be given again")->allow_extra_args(false);
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_diff(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
