// A warm connection serves without touching the heap.
#include <cstdlib>
#include <new>

#include "tests/api/edge_fixture.hpp"

namespace {
thread_local std::size_t allocations = 0;
}  // namespace

void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size)) return p;
  std::abort();
}
// Where GCC inlines one of the two alone, it takes them for mismatched.
#pragma GCC diagnostic ignored "-Wpragmas"
#pragma GCC diagnostic ignored "-Wunknown-warning-option"
#pragma GCC diagnostic ignored "-Wmismatched-new-delete"
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace fairsale::http::test {
namespace {

class WarmEdge : public Edge {
 protected:
  // Allocations of the worker's thread so far.
  std::size_t count() {
    std::promise<std::size_t> got;
    auto future = got.get_future();
    service_.post([&] { got.set_value(allocations); });
    return future.get();
  }
  // What asking alone costs.
  std::size_t cost_of_asking() {
    std::size_t least = 1000;
    for (int i = 0; i < 10; ++i) {
      const std::size_t before = count();
      least = std::min(least, count() - before);
    }
    return least;
  }
};

TEST_F(WarmEdge, ServesWithoutAllocating) {
  start();
  std::vector<Client> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(connect());
  const std::string request = post("/echo", R"({"quantity":1})",
                                   "Authorization: Bearer some-token\r\nIdempotency-Key: k\r\n");
  const auto round = [&] {
    for (auto& c : clients) c.send(request);
    for (auto& c : clients) ASSERT_EQ(c.receive().status, 200);
  };
  for (int i = 0; i < 20; ++i) round();
  const std::size_t asking = cost_of_asking();
  const std::size_t before = count();
  for (int i = 0; i < 50; ++i) round();
  EXPECT_LE(count() - before, asking) << "for 1,000 requests";
}

TEST_F(WarmEdge, ServesPipelinesWithoutAllocating) {
  start();
  Client c = connect();
  std::string burst;
  for (int i = 0; i < 32; ++i)
    burst += post("/echo", R"({"quantity":1})", "Idempotency-Key: k\r\n");
  const auto round = [&] {
    c.send(burst);
    for (int i = 0; i < 32; ++i) ASSERT_EQ(c.receive().status, 200);
  };
  for (int i = 0; i < 20; ++i) round();
  const std::size_t asking = cost_of_asking();
  const std::size_t before = count();
  for (int i = 0; i < 50; ++i) round();
  EXPECT_LE(count() - before, asking) << "for 1,600 requests";
}

}  // namespace
}  // namespace fairsale::http::test
