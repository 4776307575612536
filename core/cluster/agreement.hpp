// What to go on with when a stream has lost what it had stored: of the logs of one SKU on several
// processors, the one that has everything that was acknowledged.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/cluster/message.hpp"

namespace fairsale::cluster {

// How many of the processors have everything that was acknowledged between them, whichever they
// are.
constexpr std::size_t enough_to_know(std::size_t processors, std::size_t durable_on) {
  return processors + 1 - std::min(processors, durable_on);
}

// One processor's log of a SKU.
struct Copy {
  Head head;  // empty when it has none
  // The head that its log had after `seq` events; nothing when no block ends there.
  std::function<Result<std::optional<Head>>(Seq)> at;
};

struct Agreement {
  Head head;
  std::size_t from = 0;            // a copy that has all of it
  std::vector<std::size_t> apart;  // copies that hold something else after a common beginning
};

// `copies` are of `processors`, of which `durable_on` had to have a block before anything in it was
// acknowledged. Every block that may have been acknowledged is in the log that is chosen; beyond
// them it is the longest there is. Fails with Fault::invalid when too few copies are there to know
// that, and says how many are needed.
Result<Agreement> agree(std::span<const Copy> copies, std::size_t processors,
                        std::size_t durable_on);

}  // namespace fairsale::cluster
