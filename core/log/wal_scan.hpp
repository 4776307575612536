// Reads RocksDB's write-ahead log files before RocksDB does, to tell a write that a crash cut off
// from damage to what was durable. RocksDB itself cannot: it cuts or drops, depending on its
// recovery mode, whatever follows the first bad record.
//
// The format is RocksDB's own (its wiki, "Write Ahead Log File Format"), without record recycling
// and compression, which the log never enables: blocks of 32 KiB hold records {crc32c of type and
// payload, masked, u32; length u16; type u8; payload}; a commit is one record or a chain of them
// (first, middle, last) and starts with {sequence u64, count u32}.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"

namespace fairsale {

// A commit as far as its first bytes tell.
struct WalCommit {
  std::uint64_t first_sequence = 0;
  std::uint64_t last_sequence = 0;
  std::optional<SkuId> sku;  // of its first block
  Seq first;                 // position of that block
};

struct WalDamage {
  std::filesystem::path file;
  std::uint64_t number = 0;  // in the file's name
  std::uint64_t offset = 0;  // where the damaged commit starts: all before it is whole
  std::uint64_t size = 0;    // of the file, without the zeros at its end
  std::string what;
  bool between_files = false;      // a file does not go on where the one before it ended
  bool at_the_end = false;         // nothing that was written later is to be seen
  std::optional<WalCommit> later;  // otherwise: the first commit after the damage, if legible
};

struct WalScan {
  std::optional<WalCommit> first;   // whole commit in the files
  std::optional<WalCommit> last;    // whole commit before the damage, or of all
  std::optional<WalDamage> damage;  // the first
  bool obsolete = false;            // there are files before the one that was asked for

  struct Part {
    std::filesystem::path file;
    std::uint64_t end = 0;  // of its last whole commit
  };
  std::vector<Part> parts;  // the files up to the damage
};

// Scans the files NNNNNN.log of a RocksDB directory in their order, from the one of number
// `from`: those before it are obsolete, and RocksDB may have removed some of them. Reads only.
Result<WalScan> scan_wals(const std::filesystem::path& directory, std::uint64_t from);

// Moves what follows `damage.offset` to `keep_as` and cuts it off, durably.
Result<void> cut_torn_tail(const WalDamage& damage, const std::filesystem::path& keep_as);

}  // namespace fairsale
