// Reads what can still be read out of a data directory that refuses to open.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"

namespace fairsale {

// What became of one SKU's log.
struct Salvaged {
  SkuId sku;
  std::string name;          // empty when its first block is gone
  Head kept;                 // everything up to here checks out; position 0: nothing does
  std::optional<Seq> known;  // the furthest position on record for it, if any is
  std::optional<Seq> acked;  // the furthest that ACKED says was acknowledged, if it names the SKU
  std::string why;           // what is wrong behind `kept`; empty when nothing is
};

struct SalvageReport {
  std::vector<Salvaged> skus;      // by id
  std::vector<std::string> notes;  // what was wrong with the store as a whole
  // Commits are gone of which nothing tells what sales they were of: any sale may have gone further
  // than is known.
  bool more_may_be_lost = false;
};

// Writes, for each SKU, the longest run of blocks from position 1 that check out (whole, chained,
// every event legible) into a new data directory `to`, which must not exist. Works on a copy beside
// `to`; reads only in `from`, of which the caller holds the lock (lock_directory), so that nothing
// comes into it meanwhile. Returns after all is durable.
Result<SalvageReport> salvage(const std::filesystem::path& from, const std::filesystem::path& to,
                              const std::function<void(std::uint64_t events)>& kept);

}  // namespace fairsale
