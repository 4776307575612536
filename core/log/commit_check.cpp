#include "core/log/commit_check.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

#include "core/log/block_format.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale {

using namespace block_format;

namespace {

tl::unexpected<Error> refuse(const BlockWrite& b, std::string_view what) {
  return fail(Fault::invalid, fmt::format("SKU {:016x}, block at position {}: {}", b.sku.value,
                                          b.first.value, what));
}

}  // namespace

Result<void> check_commit(std::span<const BlockWrite> blocks,
                          const std::function<Head(SkuId)>& head_of) {
  if (blocks.empty()) return fail(Fault::invalid, "a commit holds at least one block");
  // The blocks of one SKU side by side, in the order given.
  std::vector<std::size_t> order(blocks.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&blocks](std::size_t a, std::size_t b) {
    return blocks[a].sku < blocks[b].sku;
  });

  std::size_t total = 0;
  Head before;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const BlockWrite& b = blocks[order[i]];
    const std::byte* const p = b.bytes.data();
    total += b.bytes.size();
    if (b.bytes.size() < kOverhead || b.bytes.size() > kMaxBlockBytes) {
      return refuse(b, "not the size of a block");
    }
    if (i == 0 || blocks[order[i - 1]].sku != b.sku) before = head_of(b.sku);
    const auto first = get_le<std::uint64_t>(p + kFirstAt);
    const auto count = get_le<std::uint32_t>(p + kCountAt);
    if (get_le<std::uint64_t>(p + kSkuAt) != b.sku.value || first != b.first.value ||
        b.after.seq.value != first + count - 1 ||
        b.after.time.value != get_le<std::int64_t>(p + kTimeAt) ||
        std::memcmp(b.after.digest.bytes.data(), p + b.bytes.size() - kTrailerSize, kDigestSize) !=
            0) {
      return refuse(b, "the block is not the one that was announced");
    }
    if (first != before.seq.value + 1 ||
        std::memcmp(before.digest.bytes.data(), p + kPreviousAt, kDigestSize) != 0 ||
        b.after.time < before.time) {
      return refuse(
          b, fmt::format("it does not continue the log, which ends at {}", before.seq.value));
    }
    before = b.after;
  }
  if (total > kMaxCommitBytes) {
    return fail(Fault::invalid,
                fmt::format("a commit of {} bytes; at most {} are taken", total, kMaxCommitBytes));
  }
  return {};
}

}  // namespace fairsale
