// What append() demands of its blocks, shared by the implementations of EventLog.
#pragma once

#include <functional>
#include <span>

#include "core/log/event_log.hpp"

namespace fairsale {

// The most bytes that one commit may hold; more would not fit the write buffers well.
inline constexpr std::size_t kMaxCommitBytes = 32 << 20;

// Checks that each block has the size of one and says the same as its BlockWrite, and continues
// its SKU's log: `head_of` gives the head before the commit. Looks at the headers only; a block
// that BlockBuilder made is whole.
Result<void> check_commit(std::span<const BlockWrite> blocks,
                          const std::function<Head(SkuId)>& head_of);

}  // namespace fairsale
