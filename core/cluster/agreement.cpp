#include "core/cluster/agreement.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace fairsale::cluster {

namespace {

// Whether `log` has all that `head` stands for.
Result<bool> holds(const Copy& log, const Head& head) {
  if (head.seq.value == 0) return true;
  if (log.head.seq < head.seq) return false;
  const auto at = log.at(head.seq);
  if (!at) return tl::unexpected(at.error());
  return *at && **at == head;
}

// How far two logs are the same, as an end of one of `a`'s blocks.
Result<Seq> shared(const Copy& a, const Copy& b) {
  Seq low{0};
  Seq high = std::min(a.head.seq, b.head.seq);
  while (low < high) {
    const Seq middle{low.value + (high.value - low.value + 1) / 2};
    // The end of the block of `a` that holds `middle`.
    Result<std::optional<Head>> end = a.at(middle);
    for (Seq at = middle; end && !*end && at < a.head.seq;) end = a.at(Seq{++at.value});
    if (!end) return tl::unexpected(end.error());
    const Result<bool> same = *end ? holds(b, **end) : Result<bool>(false);
    if (!same) return tl::unexpected(same.error());
    if (*same) {
      low = (*end)->seq;
    } else {
      high = Seq{middle.value - 1};
    }
  }
  return low;
}

// The last position of a log that `enough` of the copies, itself among them, have as well.
Result<Seq> backed(std::span<const Copy> copies, const Copy& log, std::size_t enough) {
  std::vector<Seq> all;
  for (const Copy& other : copies) {
    const auto one = shared(log, other);
    if (!one) return one;
    all.push_back(*one);
  }
  std::sort(all.rbegin(), all.rend());
  return all[enough - 1];
}

// To go on with that copy's log.
Result<Agreement> choose(std::span<const Copy> copies, std::size_t from) {
  Agreement chosen{.head = copies[from].head, .from = from, .apart = {}};
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const auto part = holds(copies[from], copies[i].head);
    if (!part) return tl::unexpected(part.error());
    if (!*part) chosen.apart.push_back(i);
  }
  return chosen;
}

// How much of a generation a processor has.
std::uint64_t part_of(std::uint16_t generation, const Has& has) {
  if (has.position.generation < generation) return 0;
  if (has.position.generation == generation) return has.position.sequence;
  if (has.cuts == nullptr) return 0;
  const auto cut = has.cuts->find(generation);
  return cut == has.cuts->end() ? 0 : cut->second;
}

}  // namespace

Position agreed_until(const Has& own, std::span<const Has> others, std::size_t durable_on) {
  const std::uint16_t generation = own.position.generation;
  ByName<std::uint64_t> reached{{own.name, own.position.sequence}};
  for (const Has& other : others) {
    if (other.name == own.name) continue;
    std::uint64_t& most = reached[other.name];
    most = std::max(most, part_of(generation, other));
  }
  return {generation, reached_by(durable_on, reached).value_or(0)};
}

Result<Agreement> agree(std::span<const Copy> copies, std::size_t processors,
                        std::size_t durable_on) {
  if (copies.size() < enough_to_know(processors, durable_on)) {
    return fail(
        Fault::invalid,
        fmt::format("{} of {} processors answer, and what was acknowledged is on {} of them: "
                    "bring at least {} of them up",
                    copies.size(), processors, durable_on, enough_to_know(processors, durable_on)));
  }
  std::size_t longest = 0;
  for (std::size_t i = 1; i < copies.size(); ++i) {
    if (copies[i].head.seq > copies[longest].head.seq) longest = i;
  }
  const auto chosen = choose(copies, longest);
  if (!chosen || chosen->apart.empty()) return chosen;

  // They have parted. What was acknowledged is on `durable_on` processors, which cannot be said of
  // two sides of a fork when that is more than half of them; but all must be looked at.
  if (copies.size() < processors || 2 * durable_on <= processors) {
    return fail(Fault::invalid,
                fmt::format("the processors' logs have parted, and {} of {} answer: all are needed "
                            "to tell which side was acknowledged",
                            copies.size(), processors));
  }
  std::size_t best = 0;
  std::pair<Seq, Seq> best_has;  // what enough others have too, and how long it is
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const auto others = backed(copies, copies[i], durable_on);
    if (!others) return tl::unexpected(others.error());
    const std::pair has{*others, copies[i].head.seq};
    if (i > 0 && has <= best_has) continue;
    best = i;
    best_has = has;
  }
  return choose(copies, best);
}

}  // namespace fairsale::cluster
