// What happened in a simulation: always as a hash of all inputs and outcomes, and as text for who
// wants to read it.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "core/domain/decision.hpp"
#include "core/log/block.hpp"

namespace fairsale::sim {

class Trace {
 public:
  // The text goes to `out`, if that is given, at once: the next thing may be the last.
  explicit Trace(std::FILE* out) : out_(out) {}

  template <class... T>
  void add(T... values) {
    (mix(static_cast<std::uint64_t>(values)), ...);
  }
  void add(const Decision& d) {
    add(d.kind, d.reason, d.repeated, d.quantity.value, d.place, d.purchase.value, d.until.value);
  }
  void add(const Head& h) {
    std::uint64_t digest = 0;
    for (unsigned i = 0; i < 8; ++i) {
      digest = digest << 8 | std::to_integer<std::uint64_t>(h.digest.bytes[i]);
    }
    add(h.seq.value, h.time.value, digest);
  }

  // `text` is a function that gives a line; it is not called unless somebody will read it.
  template <class F>
  void say(F&& text) {
    if (out_ != nullptr) std::fprintf(out_, "%s\n", std::string(text()).c_str());
  }

  std::uint64_t hash() const { return hash_; }

 private:
  void mix(std::uint64_t v) {
    hash_ = (hash_ ^ v) * 0xd6e8'feb8'6659'fd93;
    hash_ ^= hash_ >> 32;
  }

  std::FILE* out_;
  std::uint64_t hash_ = 0x243f'6a88'85a3'08d3;
};

}  // namespace fairsale::sim
