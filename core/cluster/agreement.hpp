// What several processors have between them: how far enough of them are, and, when a stream has
// lost what it had stored, which of their logs of one SKU has everything that was acknowledged.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/cluster/message.hpp"

namespace fairsale::cluster {

// How many of the processors have everything that was acknowledged between them, whichever they
// are.
constexpr std::size_t enough_to_know(std::size_t processors, std::size_t durable_on) {
  return processors + 1 - std::min(processors, durable_on);
}

// By the names of nodes: one that was started again counts once.
template <class T>
using ByName = std::map<std::string_view, T>;

// What so many of them have reached, one at least; nothing when there are fewer.
template <class T>
std::optional<T> reached_by(std::size_t many, const ByName<T>& nodes) {
  if (nodes.size() < many) return std::nullopt;
  std::vector<T> sorted;
  sorted.reserve(nodes.size());
  for (const auto& [_, reached] : nodes) sorted.push_back(reached);
  std::sort(sorted.begin(), sorted.end(), std::greater<>());
  return sorted[many - 1];
}

// What a processor says that it has of a partition.
struct Has {
  std::string_view name;
  Position position;  // durable there
  // Where it left generations; null when it has left none.
  const std::map<std::uint16_t, std::uint64_t>* cuts = nullptr;
};

// The last message, of the generation in which `own` is, that `durable_on` processors have, `own`
// among those who are asked. Others of its name are itself, before it was started again. Who has
// left the generation had what comes before its cut; who has gone over to one by a cut has all of
// the one before.
Position agreed_until(const Has& own, std::span<const Has> others, std::size_t durable_on);

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
