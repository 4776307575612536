#include "core/cluster/agreement.hpp"

#include <fmt/format.h>

#include <algorithm>

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

}  // namespace

Result<Agreement> agree(std::span<const Copy> copies, std::size_t processors,
                        std::size_t durable_on) {
  if (copies.size() + durable_on <= processors) {
    return fail(
        Fault::invalid,
        fmt::format("{} of {} processors answer, and what was acknowledged is on {} of them: "
                    "bring at least {} of them up",
                    copies.size(), processors, durable_on, processors - durable_on + 1));
  }
  std::size_t longest = 0;
  for (std::size_t i = 1; i < copies.size(); ++i) {
    if (copies[i].head.seq > copies[longest].head.seq) longest = i;
  }
  Agreement chosen{.head = copies[longest].head, .from = longest, .apart = {}};
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const auto part = holds(copies[longest], copies[i].head);
    if (!part) return tl::unexpected(part.error());
    if (!*part) chosen.apart.push_back(i);
  }
  if (chosen.apart.empty()) return chosen;

  // They have parted. What was acknowledged is on `durable_on` processors, which cannot be said of
  // two sides of a fork when that is more than half of them; but all must be looked at.
  if (copies.size() < processors || 2 * durable_on <= processors) {
    return fail(Fault::invalid,
                fmt::format("the processors' logs have parted, and {} of {} answer: all are needed "
                            "to tell which side was acknowledged",
                            copies.size(), processors));
  }
  // By log, the last position up to which enough others have the same.
  std::size_t best = longest;
  Seq best_backed{0};
  bool found = false;
  for (std::size_t i = 0; i < copies.size(); ++i) {
    std::vector<Seq> shared;  // with each log, how far
    for (std::size_t j = 0; j < copies.size(); ++j) {
      // Bisect over positions: where both have a block's end, they are equal up to some point.
      Seq low{0};
      Seq high = std::min(copies[i].head.seq, copies[j].head.seq);
      while (low < high) {
        const Seq middle{low.value + (high.value - low.value + 1) / 2};
        // The end of the block that holds `middle`, in log i.
        Seq end = middle;
        std::optional<Head> at;
        for (; end <= copies[i].head.seq; ++end.value) {
          auto here = copies[i].at(end);
          if (!here) return tl::unexpected(here.error());
          if (*here) {
            at = **here;
            break;
          }
        }
        bool same = false;
        if (at) {
          auto there = holds(copies[j], *at);
          if (!there) return tl::unexpected(there.error());
          same = *there;
        }
        if (same) {
          low = at->seq;
        } else {
          high = Seq{middle.value - 1};
        }
      }
      shared.push_back(low);
    }
    std::sort(shared.begin(), shared.end(), [](Seq a, Seq b) { return a > b; });
    const Seq backed = shared[durable_on - 1];
    if (!found || backed > best_backed ||
        (backed == best_backed && copies[i].head.seq > copies[best].head.seq)) {
      found = true;
      best = i;
      best_backed = backed;
    }
  }
  chosen = {.head = copies[best].head, .from = best, .apart = {}};
  for (std::size_t i = 0; i < copies.size(); ++i) {
    const auto part = holds(copies[best], copies[i].head);
    if (!part) return tl::unexpected(part.error());
    if (!*part) chosen.apart.push_back(i);
  }
  return chosen;
}

}  // namespace fairsale::cluster
