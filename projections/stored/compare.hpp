// Holds the stored projections of one SKU against its log while somebody folds that.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "projections/stored/store.hpp"

namespace fairsale {

// The first thing in which a generation is not what the log says.
struct ProjectionDifference {
  GenerationId generation;
  Seq position;          // up to which it claims to be complete
  std::string row;       // "order at position 17"
  std::string expected;  // what the log makes of it; "nothing" when there is to be no such row
  std::string found;
};

// Compares every row of the current generations, their numbers and their digests at the positions
// up to which they claim to be complete. A generation that is behind the log is as it should be.
// Projections that were never stored are left out, as are rows of another version, which are not
// to be read and are built anew by the next server.
//
// Beside a running server, open the store before the log: both are views of the moment of their
// opening. Not thread-safe; the store must outlive it.
class ProjectionCheck {
 public:
  // Fails when the store cannot be read, as all that follows.
  static Result<ProjectionCheck> open(const ProjectionStore&, SkuId);

  ~ProjectionCheck();
  ProjectionCheck(ProjectionCheck&&) noexcept;
  ProjectionCheck& operator=(ProjectionCheck&&) noexcept;

  // For each decision from the log's first event on, while the sale is as the decision left it.
  void on(const Sale&, const Decision&);
  // After each block, once the sale has taken in all its events.
  Result<void> after_block(const Sale&);

  // Of the generations whose positions have been passed. Each is given once.
  std::vector<ProjectionDifference> take_differences();
  std::uint64_t compared() const;
  // Those that the fold has not come to.
  std::vector<std::pair<GenerationId, Seq>> left() const;

 private:
  struct Impl;
  explicit ProjectionCheck(std::unique_ptr<Impl>);

  std::unique_ptr<Impl> impl_;
};

}  // namespace fairsale
