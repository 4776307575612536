// Folds a SKU's log for the product's own check of its stored projections.
#pragma once

#include <vector>

#include "core/log/event_log.hpp"
#include "projections/stored/compare.hpp"

namespace fairsale::test {

struct Compared {
  std::vector<ProjectionDifference> differences;
  std::uint64_t projections = 0;  // that were compared
  std::size_t left = 0;           // that claim to go further than the log
};

// Fails when the log or the store cannot be read.
inline Result<Compared> compare(const EventLog& log, const ProjectionStore& store, SkuId sku) {
  auto check = ProjectionCheck::open(store, sku);
  if (!check) return tl::unexpected(check.error());
  Sale sale;
  struct Listener final : DecisionSink {
    Listener(ProjectionCheck& c, const Sale& s) : check(c), sale(s) {}
    void on(const Decision& d) override { check.on(sale, d); }
    ProjectionCheck& check;
    const Sale& sale;
  } listener(*check, sale);
  Result<void> ok;
  const auto read = log.read(sku, Seq{1}, [&](const BlockView& block) {
    ok = block.for_each(
        [&](Seq seq, const Event& e) { sale.apply(seq, block.header().time, e, listener); });
    if (ok) ok = check->after_block(sale);
    return ok.has_value();
  });
  if (!read) return tl::unexpected(read.error());
  if (!ok) return tl::unexpected(ok.error());
  return Compared{check->take_differences(), check->compared(), check->left().size()};
}

}  // namespace fairsale::test
