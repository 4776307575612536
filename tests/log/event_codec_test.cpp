#include "core/log/event_codec.hpp"

#include <gtest/gtest.h>

// After GoogleTest, which it builds on.
#include <rapidcheck.h>
#include <rapidcheck/gtest.h>

#include <cstring>
#include <fstream>
#include <map>

#include "core/log/block.hpp"
#include "tests/log/any_event.hpp"
#include "tests/log/support.hpp"

namespace fairsale::testing {
namespace {

Bytes encode(const Event& e) {
  Bytes out(kMaxEventBytes, std::byte{0xee});
  EventEncoder encoder;
  const std::size_t n = encoder.encode(e, out.data());
  for (std::size_t i = n; i < out.size(); ++i) EXPECT_EQ(out[i], std::byte{0xee});
  out.resize(n);
  return out;
}

DecodeFault decode(std::span<const std::byte> bytes, Event& e) {
  EventDecoder decoder(bytes);
  const DecodeFault fault = decoder.next(e);
  if (fault == DecodeFault::none && decoder.left() != 0) return DecodeFault::malformed;
  return fault;
}

// Field by field, since events have no operator==.
bool equal(const Event& x, const Event& y) {
  if (x.index() != y.index()) return false;
  return std::visit(
      [&y](const auto& a) {
        using E = std::decay_t<decltype(a)>;
        const E& b = std::get<E>(y);
        bool ok = true;
        if constexpr (requires { a.sku; }) ok &= a.sku == b.sku;
        if constexpr (requires { a.rules; }) ok &= a.rules == b.rules;
        if constexpr (requires { a.terms; }) ok &= a.terms == b.terms;
        if constexpr (requires { a.actor; }) ok &= a.actor == b.actor;
        if constexpr (requires { a.why; }) ok &= a.why == b.why;
        if constexpr (requires { a.stock; }) ok &= a.stock == b.stock;
        if constexpr (requires { a.customer; }) ok &= a.customer == b.customer;
        if constexpr (requires { a.key; }) ok &= a.key == b.key;
        if constexpr (requires { a.quantity; }) ok &= a.quantity == b.quantity;
        if constexpr (requires { a.purchase; }) ok &= a.purchase == b.purchase;
        if constexpr (requires { a.by; }) ok &= a.by == b.by;
        if constexpr (requires { a.reference; }) ok &= a.reference == b.reference;
        if constexpr (requires { a.amount; }) ok &= a.amount == b.amount;
        if constexpr (requires { a.restock; }) ok &= a.restock == b.restock;
        return ok;
      },
      x);
}

// "name hex" lines.
std::map<std::string, std::string> golden(const char* file) {
  std::map<std::string, std::string> lines;
  std::ifstream in(std::filesystem::path(FAIRSALE_GOLDEN_DIR) / file);
  EXPECT_TRUE(in) << file;
  for (std::string name, hex; in >> name >> hex;) lines[name] = hex;
  return lines;
}

TEST(EventCodec, every_event_has_the_bytes_that_version_1_was_released_with) {
  const auto expected = golden("events_v1.txt");
  const auto events = sample_events();
  ASSERT_EQ(events.size(), std::variant_size_v<Event>);
  EXPECT_EQ(expected.size(), events.size());
  for (const Event& e : events) {
    const std::string name(name_of(e));
    ASSERT_TRUE(expected.contains(name)) << name << " " << to_hex(encode(e));
    EXPECT_EQ(to_hex(encode(e)), expected.at(name)) << name;
    Event decoded;
    ASSERT_EQ(decode(from_hex(expected.at(name)), decoded), DecodeFault::none) << name;
    EXPECT_TRUE(equal(decoded, e)) << name;
  }
}

RC_GTEST_PROP(EventCodec, decoding_gives_back_what_was_encoded, ()) {
  const Event e = any_event();
  RC_ASSERT(well_formed(e));
  const Bytes bytes = encode(e);
  RC_ASSERT(bytes.size() <= kLargestEventBytes);
  // Into an event of any type, since decoders reuse one.
  Event decoded = any_event();
  RC_ASSERT(decode(bytes, decoded) == DecodeFault::none);
  RC_ASSERT(equal(decoded, e));
}

RC_GTEST_PROP(EventCodec, every_truncation_is_refused, ()) {
  const Bytes bytes = encode(any_event());
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    // In a buffer of its own, so that a sanitizer sees a read past the end.
    const Bytes cut(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n));
    Event e;
    RC_ASSERT(decode(cut, e) != DecodeFault::none);
  }
}

RC_GTEST_PROP(EventCodec, accepted_bytes_are_the_only_bytes_of_their_event, ()) {
  Bytes bytes = encode(any_event());
  const auto flips = *rc::gen::inRange(1, 4);
  for (int i = 0; i < flips; ++i) {
    const auto at = *rc::gen::inRange<std::size_t>(0, bytes.size());
    bytes[at] = std::byte{*rc::gen::arbitrary<std::uint8_t>()};
  }
  Event e;
  if (decode(bytes, e) == DecodeFault::none) {
    RC_ASSERT(well_formed(e));
    RC_ASSERT(encode(e) == bytes);
  }
}

RC_GTEST_PROP(EventCodec, arbitrary_bytes_do_no_harm, ()) {
  auto raw = *rc::gen::arbitrary<std::vector<std::uint8_t>>();
  if (!raw.empty()) raw[0] = static_cast<std::uint8_t>(raw[0] % 16);
  const auto bytes = std::as_bytes(std::span(raw));
  Event e;
  if (decode(bytes, e) == DecodeFault::none) {
    RC_ASSERT(encode(e) == Bytes(bytes.begin(), bytes.end()));
  }
}

TEST(EventCodec, numbers_of_no_type_are_unknown) {
  for (const unsigned number : {0U, 13U, 15U, 255U}) {
    const Bytes bytes{static_cast<std::byte>(number)};
    Event e;
    EXPECT_EQ(decode(bytes, e), DecodeFault::unknown_type) << number;
  }
}

TEST(EventCodec, a_sale_of_newer_rules_is_named_as_such_whatever_follows) {
  Bytes bytes = encode(scheduled("s"));
  bytes[3] = std::byte{2};  // type, length, "s", rules
  Event e;
  EXPECT_EQ(decode(bytes, e), DecodeFault::unsupported_rules);
  bytes.resize(5);
  EXPECT_EQ(decode(bytes, e), DecodeFault::unsupported_rules);
}

TEST(EventCodec, values_that_no_encoder_writes_are_malformed) {
  const auto spoilt = [](const Event& e, std::size_t at, unsigned value) {
    Bytes bytes = encode(e);
    if (at >= bytes.size()) return DecodeFault::none;
    bytes[at] = static_cast<std::byte>(value);
    Event decoded;
    return decode(bytes, decoded);
  };
  EXPECT_EQ(spoilt(PurchaseCancelled{Seq{1}, Role::op}, 9, 0), DecodeFault::malformed);
  EXPECT_EQ(spoilt(PurchaseCancelled{Seq{1}, Role::op}, 9, 4), DecodeFault::malformed);
  EXPECT_EQ(spoilt(OrderRefunded{Seq{1}, true, {}, {}}, 9, 2), DecodeFault::malformed);
  EXPECT_EQ(spoilt(scheduled("s"), 2, '/'), DecodeFault::malformed);
  EXPECT_EQ(spoilt(attempt(1), 1, 65), DecodeFault::malformed);
  const std::size_t policy = 1 + 59;
  const SaleChanged changed{sample_terms(), {}, {}};
  EXPECT_EQ(spoilt(changed, policy, 1), DecodeFault::none);
  EXPECT_EQ(spoilt(changed, policy, 2), DecodeFault::malformed);
  EXPECT_EQ(spoilt(changed, policy + 1, 2), DecodeFault::malformed);
}

TEST(EventCodec, what_would_not_be_read_is_not_well_formed) {
  EXPECT_TRUE(well_formed(scheduled("A-z_0.9")));
  EXPECT_FALSE(well_formed(scheduled("")));
  EXPECT_FALSE(well_formed(scheduled("a b")));
  SaleScheduled newer = scheduled();
  newer.rules = RulesVersion{2};
  EXPECT_FALSE(well_formed(newer));
  PurchaseAttempted nobody = attempt(1);
  nobody.customer = {};
  EXPECT_FALSE(well_formed(nobody));
  EXPECT_FALSE(well_formed(PurchaseCancelled{Seq{1}, static_cast<Role>(4)}));
  EXPECT_DEATH(encode(nobody), "checked before");
}

}  // namespace
}  // namespace fairsale::testing
