// Holds stored projections against the log that they were made from.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"
#include "projections/stored/store.hpp"

namespace fairsale {

// The first thing in which a stored projection is not what the log says.
struct ProjectionDifference {
  StoredProjection projection = StoredProjection::availability;
  std::uint32_t generation = 0;
  SkuId sku;
  std::string name;      // of the SKU; empty when its log has no sale
  Seq position;          // up to which the projection claims to be complete
  std::string row;       // "order at position 17"
  std::string expected;  // what the log makes of it; "nothing" when there is to be no such row
  std::string found;
};

struct ProjectionComparison {
  struct Checked {
    StoredProjection projection = StoredProjection::availability;
    std::uint32_t generation = 0;
    Seq position;
    std::uint64_t rows = 0;
  };
  std::vector<Checked> checked;  // of the current generations; those never stored are left out
  std::optional<ProjectionDifference> difference;
};

// Folds the log of `sku` and compares every row of every current generation, at the position up to
// which it is complete, and its count and digest. Fails when the log or the store cannot be read.
//
// A projection that is behind the log is as it should be; one that is ahead of it differs. Beside a
// running server, open the store before the log: both are views of the moment of their opening.
Result<ProjectionComparison> compare_projections(const EventLog& log, const ProjectionStore& store,
                                                 SkuId sku);

// The same for the store in a data directory, as of now. Nothing is compared when there is none.
Result<ProjectionComparison> compare_projections(const EventLog& log,
                                                 const std::filesystem::path& data, SkuId sku);

}  // namespace fairsale
