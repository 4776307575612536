#include "tools/store/store.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

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

Seq durable_seq(const Store& store, SkuId sku) {
  const auto found = std::find_if(store.durable.begin(), store.durable.end(),
                                  [&](const SkuHead& h) { return h.sku == sku; });
  return found == store.durable.end() ? Seq{0} : found->head.seq;
}

std::vector<SkuHead> as_far_as_durable(const Store& store, const std::vector<SkuHead>& chosen) {
  std::vector<SkuHead> durable;
  for (const SkuHead& h : store.durable) {
    const bool wanted =
        std::any_of(chosen.begin(), chosen.end(), [&](const SkuHead& c) { return c.sku == h.sku; });
    if (wanted && h.head.seq.value != 0) durable.push_back(h);
  }
  return durable;
}

}  // namespace fairsale::cli
