// Heads that somebody kept outside of the store: the answers of GET /v1/sales/{sku}/audit-head,
// one JSON object per line. A history that was rewritten from some event on, or cut off at its end,
// can be consistent in itself; only such a head shows it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/log/digest.hpp"
#include "core/log/result.hpp"

namespace fairsale::audit {

struct SavedHead {
  std::string sku;
  Seq position;
  Digest head;   // of the block that ends at this position
  Digest state;  // state_digest of the sale then
};

// Reads the lines of `text`; empty ones are passed over and members that are not needed ignored.
// Fails with invalid, naming the line, and when there is no head at all.
Result<std::vector<SavedHead>> parse_saved_heads(std::string_view text);

// The same of a file. Fails with io when it cannot be read; a file may have up to 64 MiB.
Result<std::vector<SavedHead>> read_saved_heads(const std::string& path);

}  // namespace fairsale::audit
