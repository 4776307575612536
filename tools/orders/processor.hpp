// Carries orders through: takes what a source brings, and has what is due carried out, each step
// durable before the next. What gets no answer is asked again for as long as it takes, with longer
// and longer pauses; nothing is given up.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "tools/orders/gateway.hpp"
#include "tools/orders/order_store.hpp"
#include "tools/orders/source.hpp"

namespace fairsale::orders {

struct ProcessorOptions {
  std::size_t workers = 8;          // calls under way at once
  std::size_t most_open = 100'000;  // open cases; then nothing more is taken
  std::chrono::milliseconds retry_first{200};
  std::chrono::milliseconds retry_most{60'000};
};

struct ProcessorCounts {
  std::uint64_t taken = 0;                 // cases
  std::uint64_t repeated = 0;              // messages that were known
  std::uint64_t dead = 0;                  // messages that were set aside
  std::uint64_t open = 0;                  // cases now
  std::uint64_t stuck = 0;                 // of them, those that somebody should look at
  std::array<std::uint64_t, 9> reached{};  // times that a state was reached, by its number
  std::uint64_t unknown = 0;               // calls without an answer
};

class Processor final : public Intake {
 public:
  using MakeGateway = std::function<std::unique_ptr<Gateway>()>;

  // Goes on with what the store holds open. `on_failure` is called once, from any thread, when the
  // store cannot be written: nothing is carried out or taken after that.
  static Result<std::unique_ptr<Processor>> start(OrderStore&, const MakeGateway&,
                                                  const ProcessorOptions&,
                                                  std::function<void(const Error&)> on_failure);
  ~Processor() override;  // as stop()

  // From one source's thread at a time.
  bool room() const override;
  Result<void> take(const Batch&) override;
  Result<std::string> cursor(std::string_view source) const override;

  // Ends after the calls that are under way. What is due then is due at the next start.
  void stop();

  ProcessorCounts counts() const;

  // Tries at which a case without an answer is worth a look.
  static constexpr std::uint32_t kWorthALook = 8;

 private:
  using When = std::chrono::steady_clock::time_point;

  Processor(OrderStore&, const ProcessorOptions&, std::function<void(const Error&)>);
  void work(Gateway&);
  void advance(Case&, const Verdict&);
  void schedule(Case&&, When);                                   // under the lock
  std::chrono::milliseconds pause(const Case&, const Verdict&);  // under the lock
  void fail_with(const Error&);

  OrderStore& store_;
  const ProcessorOptions options_;
  const std::function<void(const Error&)> on_failure_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<When, Case> due_;
  std::size_t under_way_ = 0;
  bool stopping_ = false;
  bool failed_ = false;
  std::mt19937_64 chance_;
  ProcessorCounts counts_;

  std::vector<std::thread> threads_;
};

}  // namespace fairsale::orders
