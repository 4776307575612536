// What a processor must not forget of its partitions and what its log does not say: a small file in
// its data directory, of text.
//
//   fairsale partitions 2
//   <partition> <promised> <generation> <sequence> [end <generation> <sequence>]
//     {cut <generation> <sequence>}                                                  a line each
//
// Version 1 has no ends.
#pragma once

#include <filesystem>
#include <map>
#include <optional>

#include "core/cluster/message.hpp"
#include "core/log/result.hpp"

namespace fairsale::api {

inline std::filesystem::path partition_records_file(const std::filesystem::path& data) {
  return data / "partitions";
}

struct PartitionRecord {
  std::uint16_t promised = 0;  // the generation for which the one before is taken no more; 0: none
  cluster::Position began;     // where it went over to its generation
  // The log is shortened to this before it is used again.
  std::optional<cluster::Position> end{};
  std::map<std::uint16_t, std::uint64_t> cuts{};  // where it left generations before
};

// Not thread-safe.
class PartitionRecords {
 public:
  // A file that is not there holds nothing; one that cannot be understood fails.
  static Result<PartitionRecords> open(std::filesystem::path file);

  PartitionRecord of(cluster::PartitionId p) const;
  const std::map<cluster::PartitionId, PartitionRecord>& all() const { return records_; }
  // Returns after fsync.
  Result<void> put(cluster::PartitionId, const PartitionRecord&);

 private:
  explicit PartitionRecords(std::filesystem::path file) : file_(std::move(file)) {}

  std::filesystem::path file_;
  std::map<cluster::PartitionId, PartitionRecord> records_;
};

// Into a copy of the log: where its partitions had gone over to their generations, so that the copy
// goes on there even where no sale has a block of it yet, and to what it is to be shortened. Not
// what the processor promised, which the next stream tells to whoever goes on. `from` is to be read
// before the log is copied, which then holds all that came before. Returns after fsync.
Result<void> put_beside_copy(const PartitionRecords& from, const std::filesystem::path& data);

}  // namespace fairsale::api
