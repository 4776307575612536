// Snapshots: the canonical form of a sale, and the files that hold one. What is restored gives the
// same bytes again; what also passes its own check() goes on as a sale does.
#include <sys/stat.h>

#include "core/log/block.hpp"
#include "core/log/little_endian.hpp"
#include "core/log/snapshot_files.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

namespace {

// Hands bytes out in pieces, since what a decoder sees at once must not matter.
class Pieces final : public ByteSource {
 public:
  Pieces(std::string_view bytes, std::size_t piece) : bytes_(bytes), piece_(piece) {}
  std::span<const std::byte> next() override {
    const std::string_view s = bytes_.substr(0, piece_);
    bytes_.remove_prefix(s.size());
    return fuzz::bytes_of(s);
  }

 private:
  std::string_view bytes_;
  std::size_t piece_;
};

class Text final : public ByteSink {
 public:
  void write(std::span<const std::byte> b) override { text += text_of(b); }
  std::string text;
};

std::string canonical(const Sale& sale) {
  Text out;
  sale.serialize(out);
  return out.text;
}

class Conserved final : public DecisionSink {
 public:
  explicit Conserved(const Sale& sale) : sale_(sale) {}
  void on(const Decision&) override {
    const Counters& c = sale_.counters();
    expect(std::uint64_t{c.available.value} + c.held.value + c.sold.value == c.stocked.value,
           "available + held + sold is the stock");
  }

 private:
  const Sale& sale_;
};

// A sound state stays sound.
void go_on(Sale sale) {
  Conserved sink(sale);
  const auto apply = [&](std::int64_t later, const Event& e) {
    const Timestamp at{std::min(sale.time().value + later, kMaxTimestampMs)};
    sale.apply(Seq{sale.seq().value + 1}, at, e, sink);
    const auto wrong = sale.check();
    expect(!wrong, "a sound sale stays sound", wrong.value_or(""));
  };
  if (sale.seq().value > ~std::uint64_t{0} - 8) return;
  apply(0, PurchaseAttempted{*CustomerId::from("anna"), {}, Quantity{1}});
  if (sale.purchases() > 0) {
    const Seq first = sale.purchase(PurchaseIndex{0}).seq;
    apply(0, PurchaseCancelled{first, Role::shop});
    apply(1, PaymentReceived{first, *PaymentReference::from("p"), sale.terms().price});
  }
  apply(kMaxHoldMs + kMaxGraceMs, TimePassed{});
}

void judge_state(std::string_view bytes, std::size_t piece) {
  Pieces source(bytes, piece);
  auto sale = Sale::restore(source);
  if (!sale) return;
  expect(canonical(*sale) == bytes, "what is restored has one form");
  if (sale->check()) return;  // a name or a key is there twice: a digest keeps such out
  go_on(std::move(*sale));
}

// The header, byte by byte as docs/log-format.md has it.
std::string header_of(SkuId sku, Seq seq, std::string_view state) {
  std::string h(108, '\0');
  auto* const p = reinterpret_cast<std::byte*>(h.data());
  std::memcpy(h.data(), "FSSN\1", 6);
  put_le(p + 8, sku.value);
  put_le(p + 16, seq.value);
  const Digest digest = sha256(bytes_of(state));
  std::memcpy(p + 64, digest.bytes.data(), digest.bytes.size());
  put_le(p + 96, std::uint64_t{state.size()});
  put_le(p + 104, crc32c(bytes_of(std::string_view(h).substr(0, 104))));
  return h;
}

void judge_file(std::string_view bytes, bool repaired) {
  static const Directory directory;
  const SkuId sku{1};
  const Seq seq{13};
  const std::string file = (repaired ? header_of(sku, seq, bytes) : "") + std::string(bytes);
  const SnapshotFiles files(directory.path(), false);
  static const bool made = [] {
    return ::mkdir((directory.path() + "/0000000000000001").c_str(), 0700) == 0;
  }();
  expect(made, "a directory for snapshots can be made");
  write_file(directory.path() + "/0000000000000001/00000000000000000013", file);

  const auto newest = files.newest(sku, seq, [](const Head&) { return true; });
  Pieces source(bytes, ~std::size_t{0});
  const auto restored = repaired ? Sale::restore(source) : std::nullopt;
  const bool good = restored && restored->seq() == seq;
  if (repaired) expect(newest.has_value() == good, "a snapshot is used if and only if it is sound");
  if (!newest) return;
  expect(newest->head.seq == seq && newest->sale.seq() == seq, "a snapshot is of its position");
  expect(state_digest(newest->sale) == newest->state, "and its digest is that of its state");
}

}  // namespace

void judge(std::string_view input) {
  Choices in(input);
  const std::uint8_t form = in.byte();
  if ((form & 3) == 3) return judge_file(in.rest(), (form & 4) != 0);
  judge_state(in.rest(), (form & 1) != 0 ? 1 + in.byte() : ~std::size_t{0});
}

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  Sale sale;
  for (const std::string& line : golden_lines("tests/log/golden/sales_v1.txt")) {
    if (line.starts_with("sale ")) sale = Sale();
    if (!line.starts_with("block ")) continue;
    const std::string bytes = from_hex(line.substr(6));
    const auto block = BlockView::parse(bytes_of(bytes));
    expect(block.has_value(), "the golden blocks are sound");
    Conserved sink(sale);
    const auto ok = block->for_each(
        [&](Seq seq, const Event& e) { sale.apply(seq, block->header().time, e, sink); });
    expect(ok.has_value(), "and so are their events");
    if (sale.seq().value % 5 != 1 && sale.seq() != Seq{13}) continue;
    const std::string state = canonical(sale);
    out.push_back('\0' + state);
    if (sale.seq() != Seq{13}) continue;
    out.push_back(std::string("\1\3") + state);
    out.push_back('\7' + state);
    out.push_back('\3' + header_of(SkuId{1}, Seq{13}, state) + state);
  }
  return out;
}

}  // namespace fairsale::fuzz
