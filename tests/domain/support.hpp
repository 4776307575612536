// What the tests of the domain share: decisions with names instead of indices, and bytes in memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/domain/sale.hpp"

namespace fairsale::test {

// A decision as a person would name it, so that it can be compared across folds and with a model
// that knows no indices.
struct Said {
  DecisionKind kind = DecisionKind::noted;
  Reason reason = Reason::none;
  bool repeated = false;
  std::uint32_t quantity = 0;
  std::uint32_t place = 0;
  std::string customer;
  std::uint64_t purchase = 0;
  std::int64_t until = 0;

  friend bool operator==(const Said&, const Said&) = default;
};

Said said_by(const Sale&, const Decision&);

// Collects what a sale says.
class Recorder final : public DecisionSink {
 public:
  explicit Recorder(const Sale& sale) : sale_(sale) {}
  void on(const Decision& d) override { said.push_back(said_by(sale_, d)); }

  std::vector<Said> said;

 private:
  const Sale& sale_;
};

// Hears nothing.
class Deaf final : public DecisionSink {
 public:
  void on(const Decision&) override {}
};

using Bytes = std::vector<std::byte>;

Bytes bytes_of(const Sale&);
std::optional<Sale> sale_from(std::span<const std::byte>);

// Another sale with the same state.
Sale copy_of(const Sale&);

// Texts that fit, for tests that write them down.
template <class T>
T text(std::string_view s) {
  return T::from(s).value();
}

// Up to 16 characters name a key.
IdempotencyKey key_named(std::string_view);

// One line, for transcripts of failures.
std::string describe(const Event&);
std::string describe(const Terms&);
std::string describe(const Said&);

}  // namespace fairsale::test
