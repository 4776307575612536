// The keys of blocks, and the records of the heads column family (docs/log-format.md).
#pragma once

#include <array>
#include <cstring>
#include <optional>
#include <span>
#include <string_view>

#include "core/log/event_log.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale {

using Key = std::array<char, 16>;

inline Key block_key(SkuId sku, Seq first) {
  Key key;
  put_be64(key.data(), sku.value);
  put_be64(key.data() + 8, first.value);
  return key;
}

struct BlockKey {
  SkuId sku;
  Seq first;
};

inline std::optional<BlockKey> parse_key(std::string_view s) {
  if (s.size() != 16) return std::nullopt;
  return BlockKey{SkuId{get_be64(s.data())}, Seq{get_be64(s.data() + 8)}};
}

// A SKU's head, and where its last block is.
struct HeadRecord {
  Head head;
  Seq last_block;  // its first position
};

using HeadKey = std::array<char, 8>;
using HeadBytes = std::array<std::byte, 60>;

inline HeadKey head_key(SkuId sku) {
  HeadKey key;
  put_be64(key.data(), sku.value);
  return key;
}

// The key is part of what the CRC covers, so that a value under another key does not pass.
inline std::uint32_t head_crc(SkuId sku, std::span<const std::byte, 56> fields) {
  std::array<std::byte, 64> all;
  put_be64(all.data(), sku.value);
  std::memcpy(all.data() + 8, fields.data(), fields.size());
  return crc32c(all);
}

inline HeadBytes encode_head(SkuId sku, const HeadRecord& r) {
  HeadBytes bytes;
  std::byte* p = bytes.data();
  p = put_le(p, r.head.seq.value);
  p = put_le(p, r.head.time.value);
  std::memcpy(p, r.head.digest.bytes.data(), 32);
  p = put_le(p + 32, r.last_block.value);
  put_le(p, head_crc(sku, std::span(bytes).first<56>()));
  return bytes;
}

inline std::optional<HeadRecord> decode_head(SkuId sku, std::string_view s) {
  HeadBytes bytes;
  if (s.size() != bytes.size()) return std::nullopt;
  std::memcpy(bytes.data(), s.data(), bytes.size());
  const std::byte* p = bytes.data();
  if (head_crc(sku, std::span(bytes).first<56>()) != get_le<std::uint32_t>(p + 56)) {
    return std::nullopt;
  }
  HeadRecord r;
  r.head.seq = Seq{get_le<std::uint64_t>(p)};
  r.head.time = Timestamp{get_le<std::int64_t>(p + 8)};
  std::memcpy(r.head.digest.bytes.data(), p + 16, 32);
  r.last_block = Seq{get_le<std::uint64_t>(p + 48)};
  return r;
}

}  // namespace fairsale
