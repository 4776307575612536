// What authentication, rate limiting and parsing cost a request.
#include <benchmark/benchmark.h>

#include <string>
#include <vector>

#include "api/auth.hpp"
#include "api/http/problem.hpp"
#include "api/http/request_reader.hpp"
#include "api/rate_limit.hpp"

namespace fairsale::api {
namespace {

const Secrets kSecrets{"operator-secret-0123", "shop-secret-0123456", "customer-key-0123456789"};

void verify_customer(benchmark::State& state) {
  Authenticator auth(kSecrets);
  const std::string header = "Bearer " + auth.mint("customer-123456", 2'000'000'000);
  for (auto _ : state) benchmark::DoNotOptimize(auth.authenticate(header, 1'795'500'000));
}
BENCHMARK(verify_customer);

void verify_shop(benchmark::State& state) {
  Authenticator auth(kSecrets);
  const std::string header = "Bearer " + kSecrets.shop_token;
  for (auto _ : state) benchmark::DoNotOptimize(auth.authenticate(header, 1'795'500'000));
}
BENCHMARK(verify_shop);

void take_token(benchmark::State& state) {
  static RateLimiter limiter({10, 20});
  std::vector<std::string> names;
  for (int i = 0; i < 1'000'000; ++i) names.push_back("customer-" + std::to_string(i));
  std::size_t i = 0;
  auto now = RateLimiter::Clock::now();
  for (auto _ : state) {
    now += std::chrono::microseconds(5);
    benchmark::DoNotOptimize(limiter.take(names[i++ % names.size()], now));
  }
}
BENCHMARK(take_token);

void parse_purchase(benchmark::State& state) {
  std::string request =
      "POST /v1/sales/demo/purchases HTTP/1.1\r\nHost: localhost:8080\r\n"
      "User-Agent: shop/1.0\r\nAccept: */*\r\nAuthorization: Bearer "
      "ct1.YWxpY2U.1795500000.0123456789012345678901234567890123456789012\r\n"
      "Idempotency-Key: 0f2f6c1e-7a52-4d0f-9d0e-6f1f4f9f7c11\r\n"
      "Content-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"quantity\":1}";
  const http::Limits limits;
  http::RequestReader reader(limits);
  for (auto _ : state) {
    std::size_t size = request.size();
    benchmark::DoNotOptimize(reader.read(request.data(), size));
    benchmark::DoNotOptimize(reader.request(request.data()));
    reader.reset();
  }
}
BENCHMARK(parse_purchase);

void render_time(benchmark::State& state) {
  std::int64_t ms = 1'795'500'000'000;
  for (auto _ : state) benchmark::DoNotOptimize(rfc3339(Timestamp{++ms}));
}
BENCHMARK(render_time);

}  // namespace
}  // namespace fairsale::api

BENCHMARK_MAIN();
