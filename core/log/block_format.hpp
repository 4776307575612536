// The numbers of a block's layout; docs/log-format.md tells them in words.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/log/block.hpp"

namespace fairsale::block_format {

inline constexpr std::uint32_t kMagic = 0x424c5346;  // "FSLB" as bytes
inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::uint8_t kCodecRaw = 0;

// Offsets of the header's fields.
inline constexpr std::size_t kVersionAt = 4;
inline constexpr std::size_t kCodecAt = 6;
inline constexpr std::size_t kFlagsAt = 7;
inline constexpr std::size_t kSkuAt = 8;
inline constexpr std::size_t kFirstAt = 16;
inline constexpr std::size_t kCountAt = 24;
inline constexpr std::size_t kPayloadSizeAt = 28;
inline constexpr std::size_t kTimeAt = 32;
inline constexpr std::size_t kEpochAt = 40;
inline constexpr std::size_t kPreviousAt = 48;
inline constexpr std::size_t kHeaderSize = 80;

inline constexpr std::size_t kDigestSize = 32;
inline constexpr std::size_t kCrcSize = 4;
inline constexpr std::size_t kTrailerSize = kDigestSize + kCrcSize;
inline constexpr std::size_t kOverhead = kHeaderSize + kTrailerSize;

// Events may fill the payload up to here. At least kMaxEventBytes are left at that point, so that
// no event has to be measured before it is encoded.
inline constexpr std::size_t kPayloadEnd = kMaxBlockBytes - kTrailerSize;

}  // namespace fairsale::block_format
