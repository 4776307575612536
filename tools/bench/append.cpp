// fairsale-append: durable appends of the event log against a raw file, with the same bytes, in
// turns of a fraction of a second so that both meet the same disk. Prints one JSON object.
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <vector>

#include "core/log/rocks_log.hpp"

namespace fairsale::bench {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct SealedBlock {
  Seq first;
  Head after;
  std::vector<std::byte> bytes;
};

// Blocks of one SKU, each of `events` purchase attempts by customers of their own.
class Blocks {
 public:
  explicit Blocks(unsigned events) : events_(events) {}

  SkuId sku() const { return SkuId{1}; }

  // The next blocks of the chain, sealed: that is not part of what is measured.
  std::vector<SealedBlock> next(std::size_t count) {
    std::vector<SealedBlock> blocks;
    for (std::size_t i = 0; i < count; ++i) {
      const Seq first{head_.seq.value + 1};
      builder_.begin(sku(), head_, Timestamp{1'700'000'000'000}, Epoch{1});
      for (unsigned n = 0; n < events_; ++n) builder_.add(attempt());
      const auto bytes = builder_.finish(head_);
      blocks.push_back({first, head_, {bytes.begin(), bytes.end()}});
    }
    return blocks;
  }

 private:
  Event attempt() {
    const std::string customer = fmt::format("c{:010}", ++customers_);
    return PurchaseAttempted{.customer = *CustomerId::from(customer),
                             .key = idempotency_key(customer),
                             .quantity = Quantity{1}};
  }

  unsigned events_;
  std::uint64_t customers_ = 0;
  BlockBuilder builder_;
  Head head_;
};

struct Side {
  double seconds = 0;
  std::uint64_t blocks = 0;
};

Result<void> append_raw(int fd, const std::vector<SealedBlock>& blocks) {
  for (const SealedBlock& block : blocks) {
    const ssize_t n = ::write(fd, block.bytes.data(), block.bytes.size());
    if (n != static_cast<ssize_t>(block.bytes.size()) || ::fdatasync(fd) != 0) {
      return fail(Fault::io, std::string("the raw file: ") + std::strerror(errno));
    }
  }
  return {};
}

Result<void> append_log(EventLog& log, SkuId sku, const std::vector<SealedBlock>& blocks) {
  for (const SealedBlock& block : blocks) {
    const BlockWrite write{sku, block.first, block.after, block.bytes};
    if (auto ok = log.append({&write, 1}); !ok) return ok;
  }
  return {};
}

template <class Append>
Result<void> timed(Side& side, std::size_t blocks, Append&& append) {
  const auto start = Clock::now();
  auto ok = append();
  side.seconds += std::chrono::duration<double>(Clock::now() - start).count();
  side.blocks += blocks;
  return ok;
}

Result<std::string> measure(const fs::path& directory, unsigned events, double seconds) {
  RecoveryReport recovery;
  auto log = open_rocks_log({.directory = directory / "log"}, recovery);
  if (!log) return tl::unexpected(log.error());
  const std::string raw = directory / "raw";
  const int fd = ::open(raw.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_APPEND | O_CLOEXEC, 0600);
  if (fd < 0) return fail(Fault::io, raw + ": " + std::strerror(errno));

  // A turn is about half a megabyte, or so many small blocks that it takes some 10 ms.
  const std::size_t turn = std::max<std::size_t>(8, 4096 / events);
  Blocks blocks(events);
  Side raw_side;
  Side log_side;
  std::size_t block_bytes = 0;
  for (unsigned n = 0; raw_side.seconds + log_side.seconds < seconds; ++n) {
    const auto next = blocks.next(turn);
    block_bytes = next.back().bytes.size();
    Side warmup;
    for (const bool is_log : {n % 2 == 0, n % 2 != 0}) {
      Side& side = n < 2 ? warmup : (is_log ? log_side : raw_side);
      const auto ok = timed(side, next.size(), [&] {
        return is_log ? append_log(**log, blocks.sku(), next) : append_raw(fd, next);
      });
      if (!ok) return tl::unexpected(ok.error());
    }
  }
  ::close(fd);
  const auto rate = [events](const Side& side) {
    return static_cast<double>(side.blocks * events) / side.seconds;
  };
  return fmt::format(R"({{"batch":{},"block_bytes":{},"raw_events_per_second":{:.0f},)"
                     R"("log_events_per_second":{:.0f},"raw_blocks":{},"log_blocks":{}}})",
                     events, block_bytes, rate(raw_side), rate(log_side), raw_side.blocks,
                     log_side.blocks);
}

int main_of(int argc, char** argv) {
  std::string directory;
  unsigned batch = 1024;
  double seconds = 4;
  CLI::App app("Durable appends of the event log against a raw file, in turns, as JSON.");
  app.add_option("--directory", directory, "A new directory is made here, and removed")
      ->required()
      ->check(CLI::ExistingDirectory);
  app.add_option("--batch", batch, "Events in a block")->check(CLI::Range(1U, kMaxBlockEvents));
  app.add_option("--seconds", seconds)->check(CLI::Range(0.05, 600.0));
  CLI11_PARSE(app, argc, argv);

  std::string own = directory + "/append-XXXXXX";
  if (::mkdtemp(own.data()) == nullptr) {
    fmt::print(stderr, "fairsale-append: {}: {}\n", own, std::strerror(errno));
    return 1;
  }
  const auto result = measure(own, batch, seconds);
  std::error_code ignored;
  fs::remove_all(own, ignored);
  if (!result) {
    fmt::print(stderr, "fairsale-append: {}\n", result.error().message);
    return 1;
  }
  fmt::print("{}\n", *result);
  return 0;
}

}  // namespace
}  // namespace fairsale::bench

int main(int argc, char** argv) { return fairsale::bench::main_of(argc, argv); }
