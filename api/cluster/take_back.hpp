// A processor whose log has blocks beyond a cut (docs/cluster.md, "When a stream is silent") takes
// them back: nothing of them was acknowledged, and the others never had them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/cluster/message.hpp"
#include "core/log/event_log.hpp"
#include "core/log/result.hpp"

namespace fairsale::api {

// Shortens the log as the records of its data directory say (PartitionRecord::end), before anything
// is made of it. What is taken back is kept in
// DATA/taken-back-<partition>-<generation>-<message>.bin, blocks as in the log, for who wants to
// know. Returns what was done, for the operator. May be repeated after a crash at any point.
Result<std::vector<std::string>> take_back(EventLog&, const std::filesystem::path& data,
                                           cluster::Partitions);

}  // namespace fairsale::api
