#include "core/cluster/partition_set.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace fairsale::cluster {

namespace {

std::optional<std::uint32_t> number(std::string_view text) {
  std::uint32_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

}  // namespace

Result<PartitionSet> PartitionSet::parse(std::string_view text, Partitions spread) {
  PartitionSet out;
  if (text.empty() || text == "all") return out;
  for (std::string_view rest = text;;) {
    const std::size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view part = rest.substr(0, comma);
    const std::size_t dash = std::min(part.find('-'), part.size());
    const auto first = number(part.substr(0, dash));
    const auto last = dash == part.size() ? first : number(part.substr(dash + 1));
    if (!first || !last || *last < *first) {
      return fail(Fault::invalid, fmt::format("\"{}\" names no partitions: numbers, and ranges of "
                                              "them, with commas between, as in 0-3,8",
                                              text));
    }
    if (*last >= spread.count) {
      return fail(Fault::invalid,
                  fmt::format("there is no partition {}: the cluster has {}, from 0 to {}", *last,
                              spread.count, spread.count - 1));
    }
    for (std::uint32_t p = *first; p <= *last; ++p) out.named_.insert(PartitionId{p});
    if (comma == rest.size()) break;
    rest.remove_prefix(comma + 1);
  }
  return out;
}

}  // namespace fairsale::cluster
