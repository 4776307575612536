// Heads that somebody kept outside of the store: the answers of GET /v1/sales/{sku}/audit-head,
// one JSON object per line, or what `fairsale backup --heads` wrote. A history that was rewritten
// from some event on, or cut off at its end, can be consistent in itself; only such a head shows
// it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/digest.hpp"
#include "core/log/result.hpp"

namespace fairsale::audit {

struct SavedHead {
  std::string sku;
  Seq position;
  Digest head;                  // of the block that ends at this position
  std::optional<Digest> state;  // state_digest of the sale then, if it was saved
};

struct SavedHeads {
  std::vector<SavedHead> heads;
  // Lines that are well formed and hold nothing to compare with, each as a sentence that names it:
  // a sale without a name, or one that had no event yet.
  std::vector<std::string> passed_over;
};

// Reads the lines of `text`; empty ones are skipped and members that are not needed ignored.
// Fails with invalid, naming the line, and when there is no head at all.
Result<SavedHeads> parse_saved_heads(std::string_view text);

// The same of a file. Fails with io when it cannot be read; a file may have up to 64 MiB.
Result<SavedHeads> read_saved_heads(const std::string& path);

}  // namespace fairsale::audit
