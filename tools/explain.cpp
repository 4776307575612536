// fairsale explain: why a customer did or did not get a unit.
#include "core/explain/explain.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "tools/cli.hpp"
#include "tools/store/output.hpp"
#include "tools/store/progress.hpp"
#include "tools/store/purchase_id.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace {

struct ExplainOptions {
  std::string directory;
  std::string purchase;
  std::string sku;
  std::string customer;
  bool names = false;
  std::size_t ahead = 10;
  bool from_start = false;
  bool json = false;
};

Result<int> run_explain(const ExplainOptions& o) {
  Question question{.names = o.names,
                    .ahead_limit = o.ahead,
                    .from = o.from_start ? FoldFrom::start : FoldFrom::snapshot};
  std::string sku = o.sku;
  if (!o.purchase.empty()) {
    const auto id = parse_purchase_id(o.purchase);
    if (!id) return fail(Fault::invalid, o.purchase + ": give SKU:SEQ, as in demo:17");
    question.purchase = id->seq;
    sku = id->sku;
  } else if (o.sku.empty() || o.customer.empty()) {
    return fail(Fault::invalid, "give a purchase (SKU:SEQ), or --sku and --customer");
  } else {
    const auto customer = CustomerId::from(o.customer);
    if (!customer) return fail(Fault::invalid, "--customer: no name has more than 64 bytes");
    question.customer = *customer;
  }
  const auto store = open_store(o.directory);
  if (!store) return tl::unexpected(store.error());
  const auto heads = choose(*store, {sku});
  if (!heads) return tl::unexpected(heads.error());
  const std::uint64_t total = heads->front().head.seq.value;
  auto explanation = [&] {
    Progress progress("events", total);
    return explain(*store->log, heads->front(), question, [&](std::uint64_t events) {
      progress.add(events);
      return true;
    });
  }();
  if (!explanation) return tl::unexpected(explanation.error());
  const auto durable = durable_seq(*store, heads->front().sku);
  if (!durable) return tl::unexpected(durable.error());
  explanation->provisional = explanation->head.seq > *durable;
  Output out(stdout);
  if (o.json) {
    append_json(out.text(), *explanation);
    out.text() += '\n';
  } else {
    out.text() += text_of(*explanation);
  }
  if (auto ok = out.flush(); !ok) return tl::unexpected(ok.error());
  return kOk;
}

}  // namespace

void add_explain(CLI::App& app, int& exit_code) {
  auto o = std::make_shared<ExplainOptions>();
  CLI::App* c = app.add_subcommand(
      "explain",
      "Tells why a customer did or did not get a unit: what happened to the purchase, the rule "
      "applied each time, who was ahead and what became of them; works beside a running server");
  c->footer(
      "The log is read to its end; beside a running server that may be provisional, which is then\n"
      "said: not on record as acknowledged, so that a crash could still take it back.\n"
      "What came before a purchase is taken from a snapshot, at its word, which only its own "
      "digest\n"
      "backs; --from-start trusts the log alone.\n"
      "Customers are named only with --names. Exit codes: 0 ok; 1 damage, named by SKU and seq;\n"
      "2 usage; 3 I/O, or no such purchase or customer.");
  c->add_option("data", o->directory, "The data directory")->required();
  auto* purchase = c->add_option("purchase", o->purchase, "The purchase, SKU:SEQ");
  c->add_option("--sku", o->sku, "With --customer: the sale")->excludes(purchase);
  c->add_option("--customer", o->customer, "All that this customer tried")->excludes(purchase);
  c->add_option("--ahead", o->ahead, "How many of those ahead to list")
      ->check(CLI::Range(std::size_t{0}, kMaxAheadListed))
      ->capture_default_str();
  c->add_flag("--names", o->names, "Name customers");
  c->add_flag("--from-start", o->from_start, "Fold from position 1, whatever snapshots there are");
  c->add_flag("--json", o->json, "As one JSON object");
  c->callback([o, &exit_code] {
    const auto result = run_explain(*o);
    exit_code = result ? *result : complain(result.error());
  });
}

}  // namespace fairsale::cli
