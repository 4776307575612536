// What every RocksDB database that is written while somebody buys has in common.
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

// Tables are written behind whoever waits for an answer. RocksDB calls these on the threads that do
// it, which are the process's, so each of them stays in the background once it was there.
class TablesInBackground : public rocksdb::EventListener {
 public:
  void OnFlushBegin(rocksdb::DB*, const rocksdb::FlushJobInfo&) override { work_in_background(); }
  void OnCompactionBegin(rocksdb::DB*, const rocksdb::CompactionJobInfo&) override {
    work_in_background();
  }
};

inline void stay_in_background(rocksdb::DBOptions& d) {
  d.info_log = std::make_shared<NoInfoLog>();
  d.listeners.push_back(std::make_shared<TablesInBackground>());
}

}  // namespace fairsale
