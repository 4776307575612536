// Rebuilding stored projections from the log: of a data directory at rest, or of a running server.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/result.hpp"
#include "projections/stored/rows.hpp"
#include "tools/rush/http.hpp"

namespace fairsale::cli {

struct RebuildOrder {
  std::vector<StoredProjection> projections;
  bool force = false;     // switch to what was built even when it differs
  bool drop_old = false;  // let go of all generations but the current ones afterwards
  // Told how far it has come, from 0 to 1, now and then. Returns false to stop: what is built by
  // then is kept, and the next server or rebuild goes on with it.
  std::function<bool(double)> progress;
};

struct Rebuilt {
  StoredProjection projection = StoredProjection::availability;
  std::uint32_t generation = 0;  // the one that was built
  bool switched = false;         // it answers reads now
  std::uint64_t rows = 0;        // of the current generation
  std::string mismatch;          // how it differed from the one before, if it did
};

// Rebuilds in a data directory that no server has open; takes its lock. Fails with busy when one
// has.
Result<std::vector<Rebuilt>> rebuild_at_rest(const std::string& directory, const RebuildOrder&);

// Has a running server rebuild and waits until it is done. Survives restarts of the server that
// take less than the patience.
Result<std::vector<Rebuilt>> rebuild_online(const rush::Endpoint&, std::string_view operator_token,
                                            const RebuildOrder&, std::int64_t patience_us);

}  // namespace fairsale::cli
