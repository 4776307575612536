// What the store of projections holds: rows, and its entries of generations and coverage. Each has
// one form, so what is read is written again to the same bytes.
#include "projections/stored/rows.hpp"
#include "projections/stored/store.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

namespace {

template <class Row>
void expect_same(const std::optional<Row>& row, std::string_view key, std::string_view value) {
  if (!row) return;
  const StoredRow again = encode(*row);
  expect(again.key == key && again.value == value, "a row has one form");
}

}  // namespace

void judge(std::string_view input) {
  Choices in(input);
  const std::uint8_t what = in.byte() % 5;
  if (what == 0) {
    if (const auto c = decode_coverage(in.rest())) {
      expect(encode(*c) == in.rest(), "coverage has one form");
    }
    return;
  }
  if (what == 1) {
    if (const auto c = decode_catalog(in.rest())) {
      expect(encode(*c) == in.rest(), "a catalog entry has one form");
      expect(c->in_state(GenerationState::current) != nullptr, "one generation is current");
      for (const Generation& g : c->generations) {
        expect(name_of(g.state) != "unknown", "a generation is in a state that is known");
      }
    }
    return;
  }
  const auto key = in.take(in.byte());
  const auto value = in.rest();
  const auto second = decode_timeline(key, value);
  expect_same(second, key, value);
  if (second) expect(name_of(second->phase) != "unknown", "a sale is in a phase that is known");
  expect_same(decode_order(key, value), key, value);
  expect_same(decode_refund(key, value), key, value);
  const auto message = decode_message(key, value);
  expect_same(message, key, value);
  if (message) expect(name_of(message->kind) != "unknown", "a message is of a kind that is known");
  for (const StoredProjection p : kStoredProjections) {
    expect(!describe_key(p, key).empty(), "every key can be told");
    expect(!describe_row(p, key, value).empty() || value.empty(), "and so can every row");
  }

  // Taking a row away undoes adding it, whatever was added between.
  const Digest a = row_hash(StoredProjection::orders, SkuId{1}, key, value);
  const Digest b = row_hash(StoredProjection::orders, SkuId{2}, key, value);
  RowSum sum(b);
  sum.add(a);
  sum.add(b);
  sum.remove(a);
  sum.remove(b);
  expect(sum.digest() == b, "sums of rows can be taken back");
}

std::vector<std::string> seeds() {
  const Digest digest = sha256({});
  const TimelineRow second{.second = 1'700'000'000,
                           .position = Seq{17},
                           .purchases = 9,
                           .customers = 8,
                           .available = Quantity{1},
                           .held = Quantity{2},
                           .sold = Quantity{3},
                           .waiting = 4,
                           .phase = Phase::open};
  const OrderRow order{.position = Seq{17},
                       .at = Timestamp{1'700'000'000'000},
                       .purchase = Seq{12},
                       .customer = *CustomerId::from("anna"),
                       .quantity = Quantity{2},
                       .amount = {MinorUnits{9800}, Currency{{'E', 'U', 'R'}}},
                       .reference = *PaymentReference::from("pay-1")};
  const RefundRow refund{.purchase = Seq{12}, .position = Seq{18}, .at = Timestamp{1}};
  const MessageRow message{.position = Seq{17},
                           .number = 1,
                           .at = Timestamp{1'700'000'000'000},
                           .kind = DecisionKind::refund_due,
                           .reason = Reason::hold_expired,
                           .quantity = Quantity{2},
                           .place = 3,
                           .until = Timestamp{1'700'000'060'000},
                           .purchase = Seq{12},
                           .customer = order.customer,
                           .reference = order.reference,
                           .amount = order.amount};
  CatalogEntry entry{.version = 1,
                     .next = 4,
                     .generations = {{1, GenerationState::old, false},
                                     {2, GenerationState::current, true},
                                     {3, GenerationState::building, false}},
                     .mismatch = Mismatch{3, SkuId{1}, Seq{17}, digest, digest}};
  std::vector<std::string> out{'\0' + encode(Coverage{Seq{17}, 3, digest}), '\1' + encode(entry)};
  entry.mismatch.reset();
  out.push_back('\1' + encode(entry));
  for (const StoredRow& r : {encode(second), encode(order), encode(refund), encode(message)}) {
    out.push_back('\3' + std::string(1, static_cast<char>(r.key.size())) + r.key + r.value);
  }
  return out;
}

}  // namespace fairsale::fuzz
