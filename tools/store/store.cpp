#include "tools/store/store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>

#include "core/log/rocks_log.hpp"

namespace fairsale::cli {

Result<Store> open_store(const std::string& directory) {
  if (!std::filesystem::is_directory(directory)) {
    return fail(Fault::not_found, directory +
                                      " is not a directory: give the data directory "
                                      "that fairsaled --data names");
  }
  RecoveryReport recovery;
  auto log = open_rocks_log({.directory = directory, .mode = OpenMode::read_only}, recovery);
  if (!log) return tl::unexpected(log.error());
  for (const std::string& note : recovery.notes) fmt::print(stderr, "{}\n", note);
  auto heads = (*log)->heads();
  if (!heads) return tl::unexpected(heads.error());
  auto durable = (*log)->durable_heads();
  if (!durable) return tl::unexpected(durable.error());
  return Store{.log = std::move(*log), .heads = std::move(*heads), .durable = std::move(*durable)};
}

Result<std::vector<SkuHead>> choose(const Store& store, const std::vector<std::string>& skus) {
  if (skus.empty()) return store.heads;
  std::vector<SkuHead> chosen;
  for (const std::string& sku : skus) {
    const auto found = std::find_if(store.heads.begin(), store.heads.end(),
                                    [&](const SkuHead& h) { return h.sku == sku_id(sku); });
    if (found == store.heads.end()) {
      return fail(Fault::not_found, fmt::format("no log of SKU {} in this store", sku));
    }
    chosen.push_back(*found);
  }
  return chosen;
}

std::string sku_name(const EventLog& log, SkuId sku) {
  std::string name;
  const auto done = log.read(sku, Seq{1}, [&](const BlockView& block) {
    const auto decoded = block.for_each([&](Seq, const Event& e) {
      const auto* scheduled = std::get_if<SaleScheduled>(&e);
      if (scheduled != nullptr && name.empty()) name = scheduled->sku.view();
    });
    static_cast<void>(decoded);
    return false;
  });
  return done && !name.empty() ? name : fmt::format("{:016x}", sku.value);
}

Seq durable_seq(const Store& store, SkuId sku) {
  const auto found =
      std::lower_bound(store.durable.begin(), store.durable.end(), sku,
                       [](const SkuHead& h, SkuId wanted) { return h.sku < wanted; });
  return found == store.durable.end() || found->sku != sku ? Seq{0} : found->head.seq;
}

std::vector<SkuHead> as_far_as_durable(const Store& store, const std::vector<SkuHead>& chosen) {
  std::set<SkuId> wanted;
  for (const SkuHead& h : chosen) wanted.insert(h.sku);
  std::vector<SkuHead> durable;
  for (const SkuHead& h : store.durable) {
    if (h.head.seq.value != 0 && wanted.contains(h.sku)) durable.push_back(h);
  }
  return durable;
}

}  // namespace fairsale::cli
