#include "core/cluster/message.hpp"

#include <fmt/format.h>

#include "core/domain/invariant.hpp"
#include "core/log/digest.hpp"
#include "core/log/little_endian.hpp"

namespace fairsale::cluster {

namespace {

constexpr std::uint32_t kBatchMagic = 0x42435346;    // "FSCB"
constexpr std::uint32_t kAnswersMagic = 0x41435346;  // "FSCA"
constexpr std::uint32_t kOpeningMagic = 0x4f435346;  // "FSCO"
constexpr std::uint32_t kPromiseMagic = 0x50435346;  // "FSCP"
constexpr std::uint32_t kCutMagic = 0x58435346;      // "FSCX"
constexpr std::uint16_t kVersion = 1;
constexpr std::size_t kCrcBytes = 4;
// magic, version, flags; then, of a batch, SKU, origin, number, what it knows, count and size; of
// answers, node, number, SKU, position, mark and size.
constexpr std::size_t kWord = 8;
constexpr std::size_t kHalf = 4;
constexpr std::size_t kStartBytes = 8;
constexpr std::size_t kBatchHeaderBytes = kStartBytes + 5 * kWord + 2 * kHalf;
constexpr std::size_t kAnswersHeaderBytes = kStartBytes + 6 * kWord + kHalf;
constexpr std::size_t kOpeningBytes = kStartBytes + 2 * kHalf + kWord + 32;
constexpr std::size_t kPromiseBytes = kStartBytes + 2 * kHalf + 2 * kWord;
constexpr std::size_t kCutBytes = kStartBytes + 2 * kHalf;

static_assert(kMaxBatchBytes < kMaxBlockBytes - 1024, "a batch fits into a block");

class Put {
 public:
  explicit Put(std::byte* at) : at_(at) {}
  template <class T>
  Put& operator<<(T v) {
    at_ = put_le(at_, v);
    return *this;
  }

 private:
  std::byte* at_;
};

class Get {
 public:
  explicit Get(const std::byte* at) : at_(at) {}
  template <class T>
  T take() {
    const T v = get_le<T>(at_);
    at_ += sizeof v;
    return v;
  }

 private:
  const std::byte* at_;
};

// What all messages have in common: length, magic number, CRC and version, in this order, so that
// one of a newer version is told from garbage.
Result<Get> open(std::span<const std::byte> bytes, std::uint32_t magic, std::size_t least,
                 std::size_t most) {
  if (bytes.size() < kStartBytes + kCrcBytes || get_le<std::uint32_t>(bytes.data()) != magic) {
    return fail(Fault::damaged, "this is no message of fairsale's");
  }
  const auto body = bytes.first(bytes.size() - kCrcBytes);
  if (crc32c(body) != get_le<std::uint32_t>(bytes.data() + body.size())) {
    return fail(Fault::damaged, "a message of the cluster has a wrong CRC");
  }
  const auto version = get_le<std::uint16_t>(bytes.data() + 4);
  if (version != kVersion || get_le<std::uint16_t>(bytes.data() + 6) != 0) {
    return fail(Fault::unsupported,
                fmt::format("a message of the cluster has version {}, written by a newer fairsale: "
                            "upgrade this node",
                            version));
  }
  if (body.size() < least || body.size() > most) {
    return fail(Fault::damaged, "a message of the cluster has an impossible length");
  }
  return Get(bytes.data() + kStartBytes);
}

// Of a field of 32 bits.
Result<std::uint16_t> take_generation(Get& fields) {
  const auto generation = fields.take<std::uint32_t>();
  if (generation > 0xffff) return fail(Fault::damaged, "a generation has 16 bits");
  return static_cast<std::uint16_t>(generation);
}

void seal(std::byte* message, std::size_t size) { put_le(message + size, crc32c({message, size})); }

}  // namespace

BatchBuilder::BatchBuilder() : buffer_(kBatchHeaderBytes + kMaxBatchBytes + kCrcBytes) {}

void BatchBuilder::begin(SkuId sku, NodeId origin) {
  sku_ = sku;
  origin_ = origin;
  used_ = kBatchHeaderBytes;
  count_ = 0;
}

bool BatchBuilder::add(const Event& event) {
  if (count_ == kMaxBatchEvents ||
      used_ + kLargestEventBytes > kBatchHeaderBytes + kMaxBatchBytes) {
    return false;
  }
  used_ += encoder_.encode(event, buffer_.data() + used_);
  ++count_;
  return true;
}

std::span<const std::byte> BatchBuilder::finish(BatchNumber number, const Mark& knows) {
  FAIRSALE_INVARIANT(count_ > 0, "a batch has an event");
  Put(buffer_.data()) << kBatchMagic << kVersion << std::uint16_t{0} << sku_.value << origin_.value
                      << number.value << knows.seq.value << knows.digest << count_
                      << static_cast<std::uint32_t>(used_ - kBatchHeaderBytes);
  seal(buffer_.data(), used_);
  return {buffer_.data(), used_ + kCrcBytes};
}

Result<void> parse_batch(std::span<const std::byte> bytes, Batch& out) {
  auto header = open(bytes, kBatchMagic, kBatchHeaderBytes, kBatchHeaderBytes + kMaxBatchBytes);
  if (!header) return tl::unexpected(header.error());
  out.sku = SkuId{header->take<std::uint64_t>()};
  out.origin = NodeId{header->take<std::uint64_t>()};
  out.number = BatchNumber{header->take<std::uint64_t>()};
  out.knows.seq = Seq{header->take<std::uint64_t>()};
  out.knows.digest = header->take<std::uint64_t>();
  const auto count = header->take<std::uint32_t>();
  const auto size = header->take<std::uint32_t>();
  const auto payload =
      bytes.subspan(kBatchHeaderBytes, bytes.size() - kBatchHeaderBytes - kCrcBytes);
  if (size != payload.size() || count == 0 || count > kMaxBatchEvents || count > size) {
    return fail(Fault::damaged, "a batch does not have the size that it states");
  }
  out.events.resize(count);
  EventDecoder decoder(payload);
  for (Event& event : out.events) {
    const DecodeFault fault = decoder.next(event);
    if (fault == DecodeFault::unknown_type || fault == DecodeFault::unsupported_rules) {
      return fail(Fault::unsupported,
                  fmt::format("a batch holds an event of a newer fairsale ({}): "
                              "upgrade this node",
                              describe(fault)));
    }
    if (fault != DecodeFault::none) {
      return fail(Fault::damaged,
                  fmt::format("a batch holds an event that is {}", describe(fault)));
    }
  }
  if (decoder.left() != 0) return fail(Fault::damaged, "a batch is longer than its events");
  return {};
}

void append_opening(std::vector<std::byte>& out, const Opening& o) {
  const std::size_t begin = out.size();
  out.resize(begin + kOpeningBytes + kCrcBytes);
  std::byte* const at = out.data() + begin;
  Put(at) << kOpeningMagic << kVersion << std::uint16_t{0} << o.partition.value
          << std::uint32_t{o.generation} << o.skus;
  std::copy(o.heads.bytes.begin(), o.heads.bytes.end(), at + kOpeningBytes - 32);
  seal(at, kOpeningBytes);
}

bool is_opening(std::span<const std::byte> bytes) {
  return bytes.size() >= kStartBytes && get_le<std::uint32_t>(bytes.data()) == kOpeningMagic;
}

Result<Opening> parse_opening(std::span<const std::byte> bytes) {
  auto fields = open(bytes, kOpeningMagic, kOpeningBytes, kOpeningBytes);
  if (!fields) return tl::unexpected(fields.error());
  Opening o;
  o.partition = PartitionId{fields->take<std::uint32_t>()};
  const auto generation = take_generation(*fields);
  if (!generation) return tl::unexpected(generation.error());
  o.generation = *generation;
  o.skus = fields->take<std::uint64_t>();
  std::copy_n(bytes.begin() + kOpeningBytes - 32, 32, o.heads.bytes.begin());
  return o;
}

ProcessorId processor_id(std::string_view name) {
  return ProcessorId{get_le<std::uint64_t>(sha256(std::as_bytes(std::span(name))).bytes.data())};
}

void append_promise(std::vector<std::byte>& out, const Promise& p) {
  const std::size_t begin = out.size();
  out.resize(begin + kPromiseBytes + kCrcBytes);
  Put(out.data() + begin) << kPromiseMagic << kVersion << std::uint16_t{0} << p.partition.value
                          << std::uint32_t{p.generation} << p.processor.value << p.has;
  seal(out.data() + begin, kPromiseBytes);
}

Result<Promise> parse_promise(std::span<const std::byte> bytes) {
  auto fields = open(bytes, kPromiseMagic, kPromiseBytes, kPromiseBytes);
  if (!fields) return tl::unexpected(fields.error());
  Promise p;
  p.partition = PartitionId{fields->take<std::uint32_t>()};
  const auto generation = take_generation(*fields);
  if (!generation) return tl::unexpected(generation.error());
  p.generation = *generation;
  p.processor = ProcessorId{fields->take<std::uint64_t>()};
  p.has = fields->take<std::uint64_t>();
  return p;
}

void append_cut(std::vector<std::byte>& out, const Cut& c) {
  const std::size_t begin = out.size();
  out.resize(begin + kCutBytes + kCrcBytes);
  Put(out.data() + begin) << kCutMagic << kVersion << std::uint16_t{0} << c.partition.value
                          << std::uint32_t{c.generation};
  seal(out.data() + begin, kCutBytes);
}

Result<Cut> parse_cut(std::span<const std::byte> bytes) {
  auto fields = open(bytes, kCutMagic, kCutBytes, kCutBytes);
  if (!fields) return tl::unexpected(fields.error());
  Cut c;
  c.partition = PartitionId{fields->take<std::uint32_t>()};
  const auto generation = take_generation(*fields);
  if (!generation) return tl::unexpected(generation.error());
  c.generation = *generation;
  return c;
}

void HeadsDigest::add(SkuId sku, const Head& head) {
  std::array<std::byte, 8 + 8 + 8 + 32> bytes;
  Put(bytes.data()) << sku.value << head.seq.value << head.time.value;
  std::copy(head.digest.bytes.begin(), head.digest.bytes.end(), bytes.begin() + 24);
  sha_.update(bytes);
  ++skus_;
}

void append_answers(std::vector<std::byte>& out, const AnswersHead& head,
                    std::span<const std::byte> content) {
  FAIRSALE_INVARIANT(content.size() <= kMaxAnswersBytes, "answers are bounded");
  const std::size_t begin = out.size();
  const std::size_t size = kAnswersHeaderBytes + content.size();
  out.resize(begin + size + kCrcBytes);
  std::byte* const at = out.data() + begin;
  Put(at) << kAnswersMagic << kVersion << std::uint16_t{0} << head.processor.value
          << head.number.value << head.sku.value << head.position.value << head.mark.seq.value
          << head.mark.digest << static_cast<std::uint32_t>(content.size());
  std::copy(content.begin(), content.end(), at + kAnswersHeaderBytes);
  seal(at, size);
}

Result<Answers> parse_answers(std::span<const std::byte> bytes) {
  auto header =
      open(bytes, kAnswersMagic, kAnswersHeaderBytes, kAnswersHeaderBytes + kMaxAnswersBytes);
  if (!header) return tl::unexpected(header.error());
  Answers a;
  a.head.processor = ProcessorId{header->take<std::uint64_t>()};
  a.head.number = BatchNumber{header->take<std::uint64_t>()};
  a.head.sku = SkuId{header->take<std::uint64_t>()};
  a.head.position = Epoch{header->take<std::uint64_t>()};
  a.head.mark.seq = Seq{header->take<std::uint64_t>()};
  a.head.mark.digest = header->take<std::uint64_t>();
  const auto size = header->take<std::uint32_t>();
  a.content = bytes.subspan(kAnswersHeaderBytes, bytes.size() - kAnswersHeaderBytes - kCrcBytes);
  if (size != a.content.size()) {
    return fail(Fault::damaged, "answers do not have the size that they state");
  }
  return a;
}

}  // namespace fairsale::cluster
