// What a decision costs, and what a purchase weighs. Not part of ctest:
//   domain_bench [--benchmark_filter=…]
// The number after the slash is how many purchases the sale holds already, each by a customer of
// its own with a name of 12 bytes. Customers are visited in an order that caches can't guess.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <array>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "core/domain/sale.hpp"

namespace fairsale {
namespace {

class Deaf final : public DecisionSink {
 public:
  void on(const Decision& d) override { benchmark::DoNotOptimize(d); }
};

class Bytes final : public ByteSink, public ByteSource {
 public:
  void write(std::span<const std::byte> part) override {
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  std::span<const std::byte> next() override {
    const auto rest = std::span<const std::byte>(bytes).subspan(at);
    at = bytes.size();
    return rest;
  }
  std::vector<std::byte> bytes;
  std::size_t at = 0;
};

constexpr Money kPrice{MinorUnits{4900}, Currency{{'E', 'U', 'R'}}};

std::uint64_t scattered(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

PurchaseAttempted attempt_of(std::uint64_t n) {
  std::array<char, 12> name{};
  std::uint64_t h = scattered(n);
  for (char& c : name) {
    c = static_cast<char>('a' + h % 16);
    h >>= 4;
  }
  PurchaseAttempted e;
  e.customer = *CustomerId::from({name.data(), name.size()});
  const std::uint64_t key[2] = {scattered(~n), n};
  std::memcpy(e.key.bytes.data(), key, sizeof key);
  e.quantity = Quantity{1};
  return e;
}

Terms terms_with(std::uint32_t stock, std::uint32_t line) {
  return {.stock = Quantity{stock},
          .price = kPrice,
          .starts_at = Timestamp{1},
          .hold = Duration{kMaxHoldMs},
          .limit_per_customer = Quantity{1},
          .units_per_purchase = Quantity{1},
          .line_limit = line};
}

class Bench {
 public:
  explicit Bench(const Terms& terms) {
    send(SaleScheduled{*SkuName::from("bench"), kRulesV1, terms, {}});
  }

  Decision send(const Event& e) { return sale.apply(Seq{sale.seq().value + 1}, at, e, deaf); }

  void attempts(std::uint64_t n) {
    for (std::uint64_t i = 0; i < n; ++i) send(attempt_of(next++));
  }

  Sale sale;
  Timestamp at{1};
  std::uint64_t next = 0;
  Deaf deaf;
};

// Events are made ahead, so that only the decision is timed.
constexpr std::size_t kBatch = 4096;

template <class Make>
void time_decisions(benchmark::State& state, Bench& bench, DecisionKind expected, Make&& make) {
  std::vector<Event> batch(kBatch);
  std::size_t i = kBatch;
  for (auto _ : state) {
    if (i == kBatch) {
      state.PauseTiming();
      for (Event& e : batch) e = make();
      i = 0;
      state.ResumeTiming();
    }
    // As the sequencer does.
    bench.sale.prefetch(batch[std::min(i + 16, kBatch - 1)]);
    if (bench.send(batch[i++]).kind != expected) {
      state.SkipWithError("another decision than the one to be measured");
      break;
    }
  }
  state.SetItemsProcessed(state.iterations());
}

void attempt_reserved(benchmark::State& state) {
  Bench b(terms_with(kMaxStock, 0));
  b.attempts(static_cast<std::uint64_t>(state.range(0)));
  time_decisions(state, b, DecisionKind::reserved, [&] { return attempt_of(b.next++); });
}

// Half of the purchases before wait, half were refused: a line holds at most ten million.
void attempt_waiting(benchmark::State& state) {
  const auto n = static_cast<std::uint64_t>(state.range(0));
  Terms terms = terms_with(1, static_cast<std::uint32_t>(n / 2));
  Bench b(terms);
  b.attempts(n);
  terms.line_limit = kMaxLine;
  b.send(SaleChanged{terms, {}, {}});
  time_decisions(state, b, DecisionKind::waiting, [&] { return attempt_of(b.next++); });
}

void attempt_sold_out(benchmark::State& state) {
  Bench b(terms_with(1, 0));
  b.attempts(1);
  b.send(PaymentReceived{Seq{2}, *PaymentReference::from("pay_1"), kPrice});
  b.attempts(static_cast<std::uint64_t>(state.range(0)));
  time_decisions(state, b, DecisionKind::refused, [&] { return attempt_of(b.next++); });
}

void attempt_repeated(benchmark::State& state) {
  const auto n = static_cast<std::uint64_t>(state.range(0));
  Bench b(terms_with(kMaxStock, 0));
  b.attempts(n);
  std::uint64_t i = 0;
  time_decisions(state, b, DecisionKind::reserved, [&] { return attempt_of(scattered(i++) % n); });
}

void payment(benchmark::State& state) {
  const auto n = static_cast<std::uint64_t>(state.range(0));
  Bench b(terms_with(kMaxStock, 0));
  b.attempts(n);
  const std::uint64_t stride = 1'000'003;  // prime: visits each purchase once, far apart
  std::uint64_t i = 0;
  time_decisions(state, b, DecisionKind::ordered, [&] {
    return PaymentReceived{Seq{2 + (i++ * stride) % n}, *PaymentReference::from("pay_1"), kPrice};
  });
}

// A hold is cancelled and its unit offered to the first in line: two decisions an event.
void cancel_and_offer(benchmark::State& state) {
  const auto n = static_cast<std::uint64_t>(state.range(0));
  Bench b(terms_with(static_cast<std::uint32_t>(n / 2), kMaxLine));
  b.attempts(n);
  std::uint64_t i = 0;
  time_decisions(state, b, DecisionKind::cancelled,
                 [&] { return PurchaseCancelled{Seq{2 + i++}}; });
}

// Each time that passes ends one hold and offers its unit to the first in line.
void expiry_and_offer(benchmark::State& state) {
  const auto n = static_cast<std::uint64_t>(state.range(0));
  Terms terms = terms_with(1000, kMaxLine);
  terms.hold = Duration{1000};
  Bench b(terms);
  for (int i = 0; i < 1000; ++i) {
    b.attempts(1);
    ++b.at.value;
  }
  b.attempts(n - 1000);
  for (auto _ : state) {
    b.send(TimePassed{});
    ++b.at.value;
  }
  if (b.sale.counters().held != Quantity{1000}) state.SkipWithError("the line ran dry");
  state.SetItemsProcessed(state.iterations());
}

// A thousand holds that end at once, offered to a thousand who wait; the time is per hold.
void expiry_of_a_thousand(benchmark::State& state) {
  const auto n = static_cast<std::uint64_t>(state.range(0));
  Terms terms = terms_with(1000, kMaxLine);
  terms.hold = Duration{1000};
  Bench b(terms);
  b.attempts(n);
  std::size_t rounds = 0;
  for (auto _ : state) {
    b.at.value += 1000;
    b.send(TimePassed{});
    ++rounds;
  }
  if (b.sale.counters().held != Quantity{1000}) state.SkipWithError("the line ran dry");
  state.SetItemsProcessed(static_cast<std::int64_t>(rounds * 1000));
}

void serialize(benchmark::State& state) {
  Bench b(terms_with(1000, kMaxLine));
  b.attempts(static_cast<std::uint64_t>(state.range(0)));
  Bytes out;
  for (auto _ : state) {
    out.bytes.clear();
    b.sale.serialize(out);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(out.bytes.size()));
  state.counters["bytes/purchase"] =
      static_cast<double>(out.bytes.size()) / static_cast<double>(state.range(0));
}

void restore(benchmark::State& state) {
  Bytes bytes;
  {
    Bench b(terms_with(1000, kMaxLine));
    b.attempts(static_cast<std::uint64_t>(state.range(0)));
    b.sale.serialize(bytes);
  }
  for (auto _ : state) {
    bytes.at = 0;
    auto restored = Sale::restore(bytes);
    if (!restored) state.SkipWithError("not restored");
    benchmark::DoNotOptimize(restored);
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}

std::size_t resident_bytes() {
  std::FILE* f = std::fopen("/proc/self/statm", "r");
  if (f == nullptr) return 0;
  std::size_t total = 0;
  std::size_t resident = 0;
  const int read = std::fscanf(f, "%zu %zu", &total, &resident);
  std::fclose(f);
  return read == 2 ? resident * 4096 : 0;
}

std::size_t allocated_bytes() {
  const struct mallinfo2 m = mallinfo2();
  return m.uordblks + m.hblkhd;
}

// What one who waits weighs: allocated includes the room that doubling made ahead and that is not
// touched yet, resident is what memory it really takes.
void weight_of_waiting(benchmark::State& state) {
  for (auto _ : state) {
    malloc_trim(0);
    const std::size_t allocated = allocated_bytes();
    const std::size_t resident = resident_bytes();
    Bench b(terms_with(1, kMaxLine));
    b.attempts(static_cast<std::uint64_t>(state.range(0)));
    const auto n = static_cast<double>(b.sale.counters().waiting);
    state.counters["allocated/waiting"] = static_cast<double>(allocated_bytes() - allocated) / n;
    state.counters["resident/waiting"] = static_cast<double>(resident_bytes() - resident) / n;
  }
}

constexpr std::int64_t kFew = 1'000;
constexpr std::int64_t kSome = 100'000;
constexpr std::int64_t kMany = 10'000'000;

// The number of iterations is fixed where every one uses up a purchase or a place.
BENCHMARK(attempt_reserved)->Arg(kFew)->Iterations(10'000);
BENCHMARK(attempt_reserved)->Arg(kSome)->Arg(kMany)->Iterations(1 << 20);
BENCHMARK(attempt_waiting)->Arg(kFew)->Iterations(10'000);
BENCHMARK(attempt_waiting)->Arg(kSome)->Arg(kMany)->Iterations(1 << 20);
BENCHMARK(attempt_sold_out)->Arg(kFew)->Iterations(10'000);
BENCHMARK(attempt_sold_out)->Arg(kSome)->Arg(kMany)->Iterations(1 << 20);
BENCHMARK(attempt_repeated)->Arg(kFew)->Iterations(10'000);
BENCHMARK(attempt_repeated)->Arg(kSome)->Arg(kMany)->Iterations(1 << 20);
BENCHMARK(payment)->Arg(kSome)->Iterations(90'000);
BENCHMARK(payment)->Arg(kMany)->Iterations(1 << 20);
BENCHMARK(cancel_and_offer)->Arg(kSome)->Iterations(45'000);
BENCHMARK(cancel_and_offer)->Arg(kMany)->Iterations(1 << 20);
BENCHMARK(expiry_and_offer)->Arg(kSome)->Iterations(90'000);
BENCHMARK(expiry_and_offer)->Arg(kMany)->Iterations(1 << 20);
BENCHMARK(expiry_of_a_thousand)->Arg(kSome)->Iterations(90)->Unit(benchmark::kMicrosecond);
BENCHMARK(expiry_of_a_thousand)->Arg(kMany)->Iterations(900)->Unit(benchmark::kMicrosecond);
BENCHMARK(serialize)->Arg(kSome)->Unit(benchmark::kMillisecond);
BENCHMARK(serialize)->Arg(kMany)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(restore)->Arg(kSome)->Unit(benchmark::kMillisecond);
BENCHMARK(restore)->Arg(kMany)->Iterations(1)->Unit(benchmark::kMillisecond);
BENCHMARK(weight_of_waiting)
    ->Arg(kSome)
    ->Arg(kMany - 1)
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace fairsale

BENCHMARK_MAIN();
