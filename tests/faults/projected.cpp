#include "tests/faults/projected.hpp"

#include <fmt/format.h>

#include "projections/stored/projector.hpp"
#include "tests/projections/differences.hpp"

namespace fairsale::faults {

namespace {

// The first thing that is wrong; an error when something cannot be read.
Result<std::string> first_difference(EventLog& log, const ProjectionStore& store) {
  const auto heads = log.heads();
  if (!heads) return tl::unexpected(heads.error());
  for (const SkuHead& head : *heads) {
    const auto compared = test::compare(log, store, head.sku);
    if (!compared) return tl::unexpected(compared.error());
    for (const ProjectionDifference& d : compared->differences) {
      return fmt::format("{}: expected {}, found {}", d.row, d.expected, d.found);
    }
    if (compared->projections != kStoredProjections.size()) return "one is missing";
    for (const StoredProjection p : kStoredProjections) {
      const auto position = store.position(p, head.sku);
      if (!position) return tl::unexpected(position.error());
      if (*position != head.head.seq) return "one is not up to date";
    }
  }
  return "";
}

}  // namespace

Projected project(EventLog& log, const std::filesystem::path& data) {
  Projected out;
  Projector projector(log, 1,
                      {.directory = projections_directory(data),
                       .piece = 100,
                       .report = [&out](const Error& e) { out.told = e.message; },
                       .retry_after = std::chrono::milliseconds(0)});
  if (const auto begun = projector.begin(); !begun) {
    out.wrong = begun.error().message;
    return out;
  }
  for (int look = 0; look < 4; ++look) {
    for (int i = 0; i < 100'000 && projector.work(); ++i) {
    }
    const auto store = projector.store();
    if (!store) continue;
    auto difference = first_difference(log, *store);
    if (difference) {
      out.wrong = std::move(*difference);
      return out;
    }
    projector.suspect(difference.error());
  }
  out.wrong = "they were not made anew";
  return out;
}

}  // namespace fairsale::faults
