// What the RocksDB databases that are written with every purchase have in common.
#pragma once

#include <rocksdb/db.h>
#include <rocksdb/env.h>
#include <rocksdb/listener.h>

#include <cstdarg>
#include <memory>

#include "core/log/priority.hpp"

namespace fairsale {

// RocksDB's log of its own doings goes nowhere. As Debian builds it, its logger aborts the process
// when the disk is full; and what matters comes back as a Status.
class NoInfoLog : public rocksdb::Logger {
 public:
  using Logger::Logv;
  void Logv(const char*, va_list) override {}
};

// Tables are rewritten behind whoever waits for an answer. Only that: whoever writes may have to
// wait for a flush. RocksDB calls this on the thread that does it, which all databases of the
// process share and which stays in the background once it was there.
class CompactionInBackground : public rocksdb::EventListener {
 public:
  void OnCompactionBegin(rocksdb::DB*, const rocksdb::CompactionJobInfo&) override {
    work_in_background();
  }
};

inline void set_common_options(rocksdb::DBOptions& d) {
  d.info_log = std::make_shared<NoInfoLog>();
  d.listeners.push_back(std::make_shared<CompactionInBackground>());
}

}  // namespace fairsale
