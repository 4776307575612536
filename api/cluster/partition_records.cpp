#include "api/cluster/partition_records.hpp"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "core/log/files.hpp"

namespace fairsale::api {

namespace {

constexpr std::string_view kFirstLine = "fairsale partitions 2";
constexpr std::string_view kFirstLineBefore = "fairsale partitions 1";

}  // namespace

Result<PartitionRecords> PartitionRecords::open(std::filesystem::path file) {
  PartitionRecords out(std::move(file));
  if (std::error_code ec; !std::filesystem::exists(out.file_, ec)) return out;
  std::ifstream in(out.file_);
  std::string line;
  std::getline(in, line);
  bool right = line == kFirstLine || line == kFirstLineBefore;
  while (right && std::getline(in, line)) {
    std::istringstream words(line);
    std::uint32_t partition = 0;
    PartitionRecord r;
    right = static_cast<bool>(words >> partition >> r.promised >> r.began.generation >>
                              r.began.sequence);
    for (std::string word; right && words >> word;) {
      cluster::Position at;
      right = (word == "end" || word == "cut") && words >> at.generation >> at.sequence;
      if (word == "cut") {
        r.cuts[at.generation] = at.sequence;
      } else {
        r.end = at;
      }
    }
    out.records_[cluster::PartitionId{partition}] = r;
  }
  if (right && in.eof()) return out;
  return fail(Fault::damaged,
              fmt::format("{} cannot be understood: restore this data directory from a backup of "
                          "another processor",
                          out.file_.string()));
}

PartitionRecord PartitionRecords::of(cluster::PartitionId p) const {
  const auto it = records_.find(p);
  return it == records_.end() ? PartitionRecord{} : it->second;
}

Result<void> PartitionRecords::put(cluster::PartitionId p, const PartitionRecord& r) {
  records_[p] = r;
  std::string text = fmt::format("{}\n", kFirstLine);
  for (const auto& [id, record] : records_) {
    const auto out = std::back_inserter(text);
    fmt::format_to(out, "{} {} {} {}", id.value, record.promised, record.began.generation,
                   record.began.sequence);
    if (record.end) fmt::format_to(out, " end {} {}", record.end->generation, record.end->sequence);
    for (const auto& [g, cut] : record.cuts) fmt::format_to(out, " cut {} {}", g, cut);
    fmt::format_to(out, "\n");
  }
  return create_durably(file_, std::as_bytes(std::span(text)));
}

Result<void> put_beside_copy(const PartitionRecords& from, const std::filesystem::path& data) {
  if (from.all().empty()) return {};
  auto to = PartitionRecords::open(partition_records_file(data));
  if (!to) return tl::unexpected(to.error());
  for (const auto& [p, record] : from.all()) {
    if (auto ok = to->put(p, {.promised = 0, .began = record.began, .end = record.end}); !ok)
      return ok;
  }
  return {};
}

}  // namespace fairsale::api
