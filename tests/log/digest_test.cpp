#include <gtest/gtest.h>

#include <string>

#include "core/log/digest.hpp"

namespace fairsale {
namespace {

std::span<const std::byte> bytes(std::string_view s) {
  return std::as_bytes(std::span(s.data(), s.size()));
}

TEST(Digest, crc_is_the_standard_crc_32c) {
  EXPECT_EQ(crc32c(bytes("123456789")), 0xE3069283U);
  EXPECT_EQ(crc32c({}), 0U);
}

TEST(Digest, sha_256_gives_the_published_vectors) {
  EXPECT_EQ(to_hex(sha256({})), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256(bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256(bytes(std::string(1'000'000, 'a')))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Digest, an_incremental_digest_starts_anew_after_each_result) {
  Sha256 sha;
  for (int i = 0; i < 2; ++i) {
    sha.update(bytes("a"));
    sha.update(bytes("bc"));
    EXPECT_EQ(sha.finish(), sha256(bytes("abc")));
  }
  Sha256 moved = std::move(sha);
  moved.update(bytes("abc"));
  EXPECT_EQ(moved.finish(), sha256(bytes("abc")));
}

TEST(Digest, ids_are_the_first_bytes_of_the_digest_of_the_name) {
  EXPECT_EQ(sku_id("abc"), SkuId{0xba7816bf8f01cfea});
  const IdempotencyKey key = idempotency_key("abc");
  EXPECT_EQ(key.bytes.front(), 0xba);
  EXPECT_EQ(key.bytes.back(), 0x23);
}

TEST(Digest, equal_sales_have_equal_state_digests_and_others_do_not) {
  struct Ignore : DecisionSink {
    void on(const Decision&) override {}
  } sink;
  Sale a;
  Sale b;
  EXPECT_EQ(state_digest(a), state_digest(b));
  a.apply(Seq{1}, Timestamp{5}, TimePassed{}, sink);
  EXPECT_NE(state_digest(a), state_digest(b));
}

}  // namespace
}  // namespace fairsale
