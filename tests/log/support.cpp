#include "tests/log/support.hpp"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <iterator>

namespace fairsale::testing {

namespace fs = std::filesystem;

TempDir::TempDir() {
  std::string name = (fs::temp_directory_path() / "fairsale-log-test-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

Bytes read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in) << path;
  const std::string s{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  const auto bytes = std::as_bytes(std::span(s.data(), s.size()));
  return {bytes.begin(), bytes.end()};
}

void write_file(const fs::path& path, std::span<const std::byte> bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(reinterpret_cast<const char*>(bytes.data()),
            static_cast<std::streamsize>(bytes.size()));
  EXPECT_TRUE(out) << path;
}

void flip_bit(const fs::path& path, std::size_t offset, unsigned bit) {
  Bytes bytes = read_file(path);
  ASSERT_LT(offset, bytes.size());
  bytes[offset] ^= std::byte{1} << bit;
  write_file(path, bytes);
}

void truncate_file(const fs::path& path, std::size_t size) { fs::resize_file(path, size); }

void copy_tree(const fs::path& from, const fs::path& to) {
  fs::copy(from, to, fs::copy_options::recursive);
}

std::vector<fs::path> log_files(const fs::path& data, std::string_view extension) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(data / "log")) {
    if (entry.path().extension() == extension) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string s;
  for (const std::byte b : bytes) s += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return s;
}

Bytes from_hex(std::string_view s) {
  Bytes bytes;
  for (std::size_t i = 0; i + 1 < s.size(); i += 2) {
    bytes.push_back(static_cast<std::byte>(std::stoi(std::string(s.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

Terms sample_terms() {
  return {.stock = Quantity{500},
          .price = {MinorUnits{12'999}, Currency{{'E', 'U', 'R'}}},
          .starts_at = Timestamp{1'700'000'000'000},
          .ends_at = Timestamp{1'700'003'600'000},
          .hold = Duration{120'000},
          .grace = Duration{5'000},
          .limit_per_customer = Quantity{2},
          .units_per_purchase = Quantity{2},
          .line_limit = 10'000,
          .line_policy = LinePolicy::skip_if_unfit,
          .opening = Opening::fifo};
}

SaleScheduled scheduled(std::string_view sku) {
  return {.sku = *SkuName::from(sku), .terms = sample_terms(), .actor = *Actor::from("ops@shop")};
}

PurchaseAttempted attempt(unsigned customer, unsigned quantity) {
  PurchaseAttempted e{.customer = *CustomerId::from(fmt::format("customer-{:08}", customer)),
                      .key = {},
                      .quantity = Quantity{quantity}};
  for (std::size_t i = 0; i < e.key.bytes.size(); ++i) {
    e.key.bytes[i] = static_cast<std::uint8_t>(customer * 31 + i * 7);
  }
  return e;
}

std::vector<Event> sample_events() {
  const auto actor = *Actor::from("ops@shop");
  const auto why = *Why::from("customers asked for it");
  const auto reference = *PaymentReference::from("pay_1234567890");
  Terms changed = sample_terms();
  changed.ends_at = kNever;
  changed.line_policy = LinePolicy::strict;
  changed.opening = Opening::draw;
  return {
      scheduled(),
      SaleChanged{.terms = changed, .actor = actor, .why = why},
      SalePaused{.actor = actor, .why = why},
      SaleResumed{.actor = actor, .why = {}},
      SaleClosed{.actor = {}, .why = why},
      StockAdjusted{.stock = Quantity{480}, .actor = actor, .why = why},
      attempt(7, 2),
      PurchaseCancelled{.purchase = Seq{0x0102030405060708}, .by = Role::customer},
      OfferDeclined{.purchase = Seq{9}, .by = Role::shop},
      PaymentReceived{.purchase = Seq{7},
                      .reference = reference,
                      .amount = {MinorUnits{25'998}, Currency{{'E', 'U', 'R'}}}},
      PaymentFailed{.purchase = Seq{7}, .reference = reference},
      OrderRefunded{.purchase = Seq{7}, .restock = true, .actor = actor, .why = why},
      TimePassed{},
  };
}

BlockWrite Chain::block(unsigned n) {
  const Head before = head_;
  const Timestamp time{1'700'000'000'000 + static_cast<std::int64_t>(before.seq.value)};
  builder_.begin(sku_, before, time, Epoch{1});
  for (unsigned i = 0; i < n; ++i) {
    const bool added = before.seq == Seq{0} && i == 0 ? builder_.add(scheduled(name_))
                                                      : builder_.add(attempt(customers_++));
    EXPECT_TRUE(added);
  }
  const auto bytes = builder_.finish(head_);
  blocks_.push_back(std::make_unique<Bytes>(bytes.begin(), bytes.end()));
  return {sku_, Seq{before.seq.value + 1}, head_, *blocks_.back()};
}

void commit(EventLog& log, std::vector<BlockWrite> blocks) {
  const auto ok = log.append(blocks);
  ASSERT_TRUE(ok) << ok.error().message;
}

std::vector<Bytes> read_all(const EventLog& log, SkuId sku, Seq from, Error* error) {
  std::vector<Bytes> blocks;
  const auto ok = log.read(sku, from, [&blocks](const BlockView& view) {
    // The view's own bytes are not part of its interface; building the block anew from what it
    // shows proves more.
    BlockBuilder builder;
    const BlockHeader& h = view.header();
    builder.begin(h.sku, {Seq{h.first.value - 1}, Timestamp{0}, h.previous}, h.time, h.epoch);
    const auto decoded = view.for_each([&builder](Seq, const Event& e) { builder.add(e); });
    EXPECT_TRUE(decoded) << decoded.error().message;
    Head head;
    const auto bytes = builder.finish(head);
    EXPECT_EQ(head.digest, view.digest());
    blocks.emplace_back(bytes.begin(), bytes.end());
    return true;
  });
  if (error != nullptr) {
    *error = ok ? Error{} : ok.error();
  } else if (!ok) {
    ADD_FAILURE() << ok.error().message;
  }
  return blocks;
}

std::unique_ptr<EventLog> open_log(const fs::path& directory, RecoveryReport* report) {
  RecoveryReport mine;
  auto log = open_rocks_log({.directory = directory}, report != nullptr ? *report : mine);
  if (!log) {
    ADD_FAILURE() << log.error().message;
    return nullptr;
  }
  return std::move(*log);
}

Error refusal(const fs::path& directory, OpenMode mode) {
  RecoveryReport report;
  const auto log = open_rocks_log({.directory = directory, .mode = mode}, report);
  if (log) {
    ADD_FAILURE() << directory << " opened";
    return {};
  }
  return log.error();
}

Sale fold(const Chain& chain) {
  struct Ignore : DecisionSink {
    void on(const Decision&) override {}
  } sink;
  Sale sale;
  for (const auto& bytes : chain.blocks()) {
    const auto view = BlockView::parse(*bytes);
    EXPECT_TRUE(view);
    const auto ok = view->for_each(
        [&](Seq seq, const Event& e) { sale.apply(seq, view->header().time, e, sink); });
    EXPECT_TRUE(ok);
  }
  return sale;
}

}  // namespace fairsale::testing
