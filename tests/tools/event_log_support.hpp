// Logs for the tests of the commands that show them.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/log/event_log.hpp"
#include "core/log/rocks_log.hpp"
#include "tools/events/log_file.hpp"

namespace fairsale::cli {

// Commits one block of these events at this time; `head` goes on.
inline void append_block(EventLog& log, SkuId sku, Head& head, Timestamp time, Epoch epoch,
                         const std::vector<Event>& events) {
  BlockBuilder builder;
  const Seq first{head.seq.value + 1};
  builder.begin(sku, head, time, epoch);
  for (const Event& e : events) ASSERT_TRUE(builder.add(e));
  const auto bytes = builder.finish(head);
  const std::vector<BlockWrite> write{{sku, first, head, bytes}};
  const auto ok = log.append(write);
  ASSERT_TRUE(ok) << ok.error().message;
}

// What `write` writes to an Output.
template <class Write>
std::string written(Write&& write) {
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* const file = ::open_memstream(&text, &size);
  {
    Output out(file);
    write(out);
  }
  std::fclose(file);
  std::string result(text, size);
  std::free(text);
  return result;
}

inline std::string exported(const EventLog& log) {
  return written([&](Output& out) {
    const auto ok = export_logs(log, *log.heads(), out);
    EXPECT_TRUE(ok) << ok.error().message;
  });
}

inline Result<std::vector<ImportedSale>> imported(std::string_view text,
                                                  const std::filesystem::path& to) {
  // A copy, since fmemopen takes memory that it might write to.
  std::string copy(text);
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(
      ::fmemopen(copy.data(), copy.size(), "r"), std::fclose);
  return import_logs(in.get(), "file", to);
}

inline std::unique_ptr<EventLog> opened(const std::filesystem::path& directory) {
  RecoveryReport report;
  auto log = open_rocks_log({.directory = directory, .mode = OpenMode::read_only}, report);
  EXPECT_TRUE(log) << log.error().message;
  return log ? std::move(*log) : nullptr;
}

}  // namespace fairsale::cli
