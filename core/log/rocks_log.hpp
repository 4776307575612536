// The embedded store: an EventLog in one RocksDB database inside a data directory.
//
// data directory
//   LOCK       held (flock) while a process has the directory open for writing
//   VERSION    "fairsale data 1\n"; another number is refused
//   ACKED      the newest acknowledged commit: RocksDB sequence number and the heads it set
//   log/       RocksDB: column families default (blocks) and heads
//   snapshots/ plain files, SKU id / position; may always be deleted
//   torn-*.bin what was cut off the end of the log after a crash, for inspection
//
// A block's key is SKU id | first position, 8 bytes big-endian each; its value is the block.
// Options and their reasons are in rocks_log.cpp; the recovery rules are these:
//   - A torn tail (the last write group cut off by a power failure) that was never acknowledged is
//     cut off by itself on open, and kept beside the log for inspection.
//   - Anything else that does not check out (valid data after the damage, or a store that ends
//     before what ACKED says was acknowledged) refuses to open, naming the SKU, the position, and
//     what to do. A refusal that comes before RocksDB is opened has changed nothing.
//   - Reading refuses the same damage; it leaves out a torn tail and changes nothing. Beside a
//     running server, the end of the log is the server's.
//   - Without ACKED (deleted, or both of its records damaged) a store that checks out opens with a
//     note; a torn tail is then refused, since it cannot be told from a lost promise.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/log/event_log.hpp"

namespace rocksdb {
class Env;
}

namespace fairsale {

enum class OpenMode {
  read_write,  // takes the lock; creates the directory when it does not exist
  read_only,   // needs no lock; works beside a running server (RocksDB secondary instance)
};

struct RocksLogOptions {
  std::filesystem::path directory;
  OpenMode mode = OpenMode::read_write;
  rocksdb::Env* env = nullptr;  // what RocksDB does its I/O through; for tests that make it fail
  // Bytes of blocks in memory before RocksDB moves them to a table. Tests that want tables and log
  // files to change often make it small.
  std::size_t write_buffer = std::size_t{64} << 20;
};

// What open() had to do, for the operator's log. Empty after a clean stop.
struct RecoveryReport {
  std::vector<std::string> notes;
};

// Opens a data directory. Fails with a message that names what is wrong and what to do:
// Fault::busy (another process), unsupported (a newer version), damaged, full, io, not_found
// (nothing to read), invalid (the directory holds something else).
//
// Closing: when the EventLog is destroyed. No call may be under way then. A reader opened with
// read_only sees what was written by the time it was opened, which may be some milliseconds ahead
// of what is durable; to see more, open another. Its durable_heads() end where ACKED did just after
// the opening. Beside a running server that is a commit or none behind heads(). At rest, what a
// process that was killed had no time to acknowledge stays provisional until the next opening for
// writing takes it over. Without a legible ACKED, all that was read counts as durable.
Result<std::unique_ptr<EventLog>> open_rocks_log(const RocksLogOptions&, RecoveryReport&);

// At some damage to a table RocksDB, as Debian builds it, does not return: an assertion of its own
// ends the process. Makes the process say then what to do. For the start of a program.
void advise_on_abort();

}  // namespace fairsale
