// A file system for RocksDB that keeps zeros ahead of the end of its write-ahead log.
//
// A sync of a file that has just grown must also write the file's size; a sync of bytes that were
// there before need not, and takes less than half the time. So each log file is grown by a
// mebibyte at once, and what is appended overwrites zeros. A log file that was closed has its true
// size; one that a crash left behind ends in zeros, which readers take for its end.
//
// Readers: RocksDB skips zeros at the end when it opens a database. A secondary instance that has
// read them does not look at their place again, so it must not be asked to catch up.
#pragma once

#include <rocksdb/file_system.h>

#include <memory>

namespace fairsale {

// Everything but write-ahead log files passes through to `base`. Thread-safe as `base` is.
std::shared_ptr<rocksdb::FileSystem> with_zeroed_wal(std::shared_ptr<rocksdb::FileSystem> base);

}  // namespace fairsale
