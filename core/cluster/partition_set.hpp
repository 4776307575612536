// Which partitions a processor takes, as it is told at its start: "0-3,8".
#pragma once

#include <set>
#include <string_view>

#include "core/cluster/message.hpp"
#include "core/log/result.hpp"

namespace fairsale::cluster {

class PartitionSet {
 public:
  // Numbers and ranges of numbers, with commas between; "" and "all" are all of them. Fails, saying
  // what is wrong, when it is no such thing or names one that there is not.
  static Result<PartitionSet> parse(std::string_view, Partitions);

  bool contains(PartitionId p) const { return named_.empty() || named_.contains(p); }

 private:
  std::set<PartitionId> named_;  // none: all
};

}  // namespace fairsale::cluster
