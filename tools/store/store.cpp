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
  return Store{.log = std::move(*log), .heads = std::move(*heads)};
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

}  // namespace fairsale::cli
