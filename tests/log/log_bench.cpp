// Figures of the log: the codec, sealing and checking blocks, and durable appends against a plain
// file in the same run. Run by hand: build/release/bin/log_bench
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "core/log/event_codec.hpp"
#include "core/log/rocks_log.hpp"
#include "tests/log/support.hpp"

namespace fairsale::testing {
namespace {

void digest(benchmark::State& state) {
  const Bytes bytes(static_cast<std::size_t>(state.range(0)), std::byte{7});
  for (auto _ : state) benchmark::DoNotOptimize(sha256(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(digest)->Arg(64)->Arg(60 * 1024);

void checksum(benchmark::State& state) {
  const Bytes bytes(static_cast<std::size_t>(state.range(0)), std::byte{7});
  for (auto _ : state) benchmark::DoNotOptimize(crc32c(bytes));
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(checksum)->Arg(64)->Arg(60 * 1024);

void encode_attempt(benchmark::State& state) {
  EventEncoder encoder;
  std::array<std::byte, kMaxEventBytes> out;
  const Event e = attempt(12'345);
  for (auto _ : state) {
    benchmark::DoNotOptimize(encoder.encode(e, out.data()));
    benchmark::ClobberMemory();
  }
}
BENCHMARK(encode_attempt);

// Every type in turn, as rarely happens; the time is of one event.
void encode_mixed(benchmark::State& state) {
  EventEncoder encoder;
  std::array<std::byte, kMaxEventBytes> out;
  const auto events = sample_events();
  for (auto _ : state) {
    for (const Event& e : events) benchmark::DoNotOptimize(encoder.encode(e, out.data()));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * std::int64_t(events.size()));
}
BENCHMARK(encode_mixed);

Bytes sealed(unsigned events) {
  BlockBuilder builder;
  Head head;
  builder.begin(SkuId{1}, head, Timestamp{1}, Epoch{1});
  for (unsigned i = 0; i < events; ++i) builder.add(attempt(i));
  const auto bytes = builder.finish(head);
  return {bytes.begin(), bytes.end()};
}

void decode_attempts(benchmark::State& state) {
  const Bytes bytes = sealed(1024);
  const auto view = BlockView::parse(bytes);
  for (auto _ : state) {
    std::uint64_t sum = 0;
    const auto ok = view->for_each([&sum](Seq, const Event& e) { sum += e.index(); });
    benchmark::DoNotOptimize(sum);
    benchmark::DoNotOptimize(ok);
  }
  state.SetItemsProcessed(state.iterations() * 1024);
}
BENCHMARK(decode_attempts);

void seal_block(benchmark::State& state) {
  const auto n = static_cast<unsigned>(state.range(0));
  std::vector<Event> events;
  for (unsigned i = 0; i < n; ++i) events.emplace_back(attempt(i));
  BlockBuilder builder;
  for (auto _ : state) {
    Head head;
    builder.begin(SkuId{1}, head, Timestamp{1}, Epoch{1});
    for (const Event& e : events) builder.add(e);
    benchmark::DoNotOptimize(builder.finish(head));
  }
  state.SetItemsProcessed(state.iterations() * n);
}
BENCHMARK(seal_block)->Arg(1)->Arg(16)->Arg(128)->Arg(1024);

void parse_block(benchmark::State& state) {
  const Bytes bytes = sealed(static_cast<unsigned>(state.range(0)));
  for (auto _ : state) {
    const auto view = BlockView::parse(bytes);
    benchmark::DoNotOptimize(view);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(parse_block)->Arg(1)->Arg(16)->Arg(128)->Arg(1024);

// Appends that return when durable. Sealing is part of both, so that the bytes differ each time.
void append_log(benchmark::State& state) {
  const auto n = static_cast<unsigned>(state.range(0));
  TempDir dir;
  const auto log = open_log(dir / "data");
  BlockBuilder builder;
  Head head;
  const Event e = attempt(1);
  for (auto _ : state) {
    const Seq first{head.seq.value + 1};
    builder.begin(SkuId{1}, head, Timestamp{1}, Epoch{1});
    for (unsigned i = 0; i < n; ++i) builder.add(e);
    const auto bytes = builder.finish(head);
    const BlockWrite write{SkuId{1}, first, head, bytes};
    if (!log->append({&write, 1})) state.SkipWithError("append failed");
  }
  state.SetItemsProcessed(state.iterations() * n);
}

void append_plain_file(benchmark::State& state) {
  const auto n = static_cast<unsigned>(state.range(0));
  TempDir dir;
  const int fd = ::open((dir / "file").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0644);
  BlockBuilder builder;
  Head head;
  const Event e = attempt(1);
  for (auto _ : state) {
    builder.begin(SkuId{1}, head, Timestamp{1}, Epoch{1});
    for (unsigned i = 0; i < n; ++i) builder.add(e);
    const auto bytes = builder.finish(head);
    if (::write(fd, bytes.data(), bytes.size()) < 0 || ::fdatasync(fd) != 0) {
      state.SkipWithError("write failed");
    }
  }
  ::close(fd);
  state.SetItemsProcessed(state.iterations() * n);
}

// In turn, so that both meet the same disk.
void both(const char* name, int n) {
  benchmark::RegisterBenchmark((std::string("append_plain_file/") + name).c_str(),
                               append_plain_file)
      ->Arg(n)
      ->UseRealTime();
  benchmark::RegisterBenchmark((std::string("append_log/") + name).c_str(), append_log)
      ->Arg(n)
      ->UseRealTime();
}

}  // namespace
}  // namespace fairsale::testing

int main(int argc, char** argv) {
  using namespace fairsale::testing;
  both("1", 1);
  both("16", 16);
  both("128", 128);
  both("1024", 1024);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
