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
  Store store;
  store.log = std::move(*log);
  store.heads = std::move(*heads);
  return store;
}

Result<std::span<const SkuHead>> Store::durable() const {
  if (!durable_) {
    auto found = log->durable_heads();
    if (!found) return tl::unexpected(found.error());
    durable_ = std::move(*found);
  }
  return std::span<const SkuHead>(*durable_);
}

Result<std::vector<SkuHead>> choose(const Store& store, const std::vector<std::string>& skus) {
  if (skus.empty()) return store.heads;
  std::vector<SkuHead> chosen;
  for (const std::string& sku : skus) {
    const SkuHead* found = find_head(store.heads, sku_id(sku));
    if (found == nullptr) {
      return fail(Fault::not_found, fmt::format("no log of SKU {} in this store", sku));
    }
    chosen.push_back(*found);
  }
  return chosen;
}

const SkuHead* find_head(std::span<const SkuHead> heads, SkuId sku) {
  const auto found =
      std::lower_bound(heads.begin(), heads.end(), sku,
                       [](const SkuHead& h, SkuId wanted) { return h.sku < wanted; });
  return found == heads.end() || found->sku != sku ? nullptr : &*found;
}

Result<Seq> durable_seq(const Store& store, SkuId sku) {
  const auto durable = store.durable();
  if (!durable) return tl::unexpected(durable.error());
  const SkuHead* found = find_head(*durable, sku);
  return found == nullptr ? Seq{0} : found->head.seq;
}

Result<std::vector<SkuHead>> as_far_as_durable(const Store& store,
                                               const std::vector<SkuHead>& chosen) {
  const auto durable = store.durable();
  if (!durable) return tl::unexpected(durable.error());
  std::vector<SkuHead> found;
  for (const SkuHead& h : chosen) {
    const SkuHead* end = find_head(*durable, h.sku);
    if (end != nullptr && end->head.seq.value != 0) found.push_back(*end);
  }
  const auto by_id = [](const SkuHead& a, const SkuHead& b) { return a.sku < b.sku; };
  std::sort(found.begin(), found.end(), by_id);
  const auto same = [](const SkuHead& a, const SkuHead& b) { return a.sku == b.sku; };
  found.erase(std::unique(found.begin(), found.end(), same), found.end());
  return found;
}

}  // namespace fairsale::cli
