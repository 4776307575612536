// A data directory as the commands see it: opened for reading, at rest or beside a running server.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"

namespace fairsale::cli {

struct Store {
  std::unique_ptr<EventLog> log;
  std::vector<SkuHead> heads;    // by id, as of opening
  std::vector<SkuHead> durable;  // of the same SKUs; see EventLog::durable_heads()
};

// Opens the data directory that fairsaled --data names, or a copy of one; changes nothing in it.
// What opening had to say goes to stderr. Fails as open_rocks_log() does.
Result<Store> open_store(const std::string& directory);

// The heads of the sales named, in that order; of all when none is. Fails with not_found when the
// store knows no such sale.
Result<std::vector<SkuHead>> choose(const Store&, const std::vector<std::string>& skus);

// The name that the first event of a SKU's log gives it; the id in hex when that cannot be read.
std::string sku_name(const EventLog&, SkuId);
// Up to where the SKU's log is known to be durable: its events after that are provisional.
Seq durable_seq(const Store&, SkuId);

// The same sales as far as they are durable, without those of which nothing is.
std::vector<SkuHead> as_far_as_durable(const Store&, const std::vector<SkuHead>&);

}  // namespace fairsale::cli
