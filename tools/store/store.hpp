// A data directory as the commands see it: opened for reading, at rest or beside a running server.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/sale_name.hpp"

namespace fairsale::cli {

// Not thread-safe.
class Store {
 public:
  std::unique_ptr<EventLog> log;
  std::vector<SkuHead> heads;  // by id, as of opening

  // Of the same SKUs; see EventLog::durable_heads(). Looked up when first asked for, since beside a
  // busy server that takes a look at every SKU.
  Result<std::span<const SkuHead>> durable() const;

 private:
  mutable std::optional<std::vector<SkuHead>> durable_;
};

// Opens the data directory that fairsaled --data names, or a copy of one; changes nothing in it.
// What opening had to say goes to stderr. Fails as open_rocks_log() does.
Result<Store> open_store(const std::string& directory);

// The heads of the sales named, in that order; of all when none is. Fails with not_found when the
// store knows no such sale.
Result<std::vector<SkuHead>> choose(const Store&, const std::vector<std::string>& skus);

// The head of a SKU among these, which are ordered by id; null when it is not there.
const SkuHead* find_head(std::span<const SkuHead>, SkuId);

// Up to where the SKU's log is known to be durable: its events after that are provisional.
Result<Seq> durable_seq(const Store&, SkuId);

// The same sales, each once and by id, as far as they are durable; without those of which nothing
// is.
Result<std::vector<SkuHead>> as_far_as_durable(const Store&, const std::vector<SkuHead>&);

}  // namespace fairsale::cli
