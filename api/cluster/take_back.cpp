#include "api/cluster/take_back.hpp"

#include <fmt/format.h>

#include "api/cluster/partition_records.hpp"
#include "core/cluster/follower.hpp"
#include "core/log/files.hpp"

namespace fairsale::api {

Result<std::vector<std::string>> take_back(EventLog& log, const std::filesystem::path& data,
                                           cluster::Partitions spread) {
  std::vector<std::string> notes;
  auto records = PartitionRecords::open(partition_records_file(data));
  if (!records) return tl::unexpected(records.error());
  const auto all = records->all();
  for (const auto& [p, record] : all) {
    if (!record.end) continue;
    const auto more = cluster::beyond(log, spread, p, *record.end);
    if (!more) return tl::unexpected(more.error());
    if (!more->heads.empty()) {
      const auto kept = data / fmt::format("taken-back-{}-{}-{}.bin", p.value,
                                           record.end->generation, record.end->sequence);
      if (auto ok = create_durably(kept, more->bytes); !ok) return tl::unexpected(ok.error());
      if (auto ok = log.shorten(more->heads); !ok) return tl::unexpected(ok.error());
      notes.push_back(
          fmt::format("Partition {}: {} events in {} blocks were taken back, which came after what "
                      "the other processors went on with (message {} of generation {}). None was "
                      "acknowledged. They are kept in {}",
                      p.value, more->events, more->blocks, record.end->sequence,
                      record.end->generation, kept.string()));
    }
    // Up to there everything was taken, also what left no block.
    const PartitionRecord done{
        .promised = record.promised, .began = *record.end, .end = {}, .cuts = record.cuts};
    if (auto ok = records->put(p, done); !ok) return tl::unexpected(ok.error());
  }
  return notes;
}

}  // namespace fairsale::api
