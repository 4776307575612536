// A log as a file of JSON Lines, out of a store and into a new one. docs/log-format.md, "JSON
// Lines", is the grammar.
#pragma once

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/result.hpp"
#include "tools/store/output.hpp"

namespace fairsale::cli {

// Writes the logs of these SKUs up to these heads, each of which must be the end of a block. Fails
// at the first damage; the file then lacks its last line and will not be imported. Needs memory
// for one block.
Result<void> export_logs(const EventLog& log, std::span<const SkuHead> heads, Output& out);

// A sale that was imported, and where its log leads.
struct ImportedSale {
  std::string sku;  // its id when its log does not name it
  Head head;
  Digest state;
};

// Reads such a file into a new store at `directory`, which must be empty or absent (else:
// invalid). The blocks come out byte for byte as they were, or the import is refused with damaged:
// every line, each block's head, the counts of the last line and the fold of each sale are checked,
// and a message names the line by its number and `name`. All is written to a directory beside
// `directory` and renamed when it is whole and durable; after a failure that directory is removed
// and `directory` is as it was. Needs memory for some MiB of blocks, and for the largest sale.
// Ends with io when `cli::interrupted` is set.
Result<std::vector<ImportedSale>> import_logs(std::FILE* in, const std::string& name,
                                              const std::filesystem::path& directory);

}  // namespace fairsale::cli
