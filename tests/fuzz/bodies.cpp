// Bodies of requests. An independent parser judges what counts as JSON, and finds the values that
// were read; what is refused is refused in words that a problem document can carry.
#include <cmath>
#include <optional>
#include <set>

#include "api/bodies.hpp"
#include "api/http/problem.hpp"
#include "core/log/event_codec.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

using namespace api;
namespace dom = simdjson::dom;

namespace {

constexpr Timestamp kNow{1'700'000'000'000};

// The body as simdjson's own tree has it.
class Tree {
 public:
  explicit Tree(std::string_view body) {
    dom::element e;
    if (parser_.parse(body.data(), body.size()).get(e) == simdjson::SUCCESS &&
        e.get_object().get(object_) == simdjson::SUCCESS) {
      is_object_ = true;
    }
  }

  bool is_object() const { return is_object_; }
  bool has(std::string_view name) const { return object_[name].error() == simdjson::SUCCESS; }
  std::optional<std::int64_t> number(std::string_view name) const {
    std::int64_t n = 0;
    if (object_[name].get(n) != simdjson::SUCCESS) return std::nullopt;
    return n;
  }
  std::optional<double> real(std::string_view name) const {
    double n = 0;
    if (object_[name].get(n) != simdjson::SUCCESS) return std::nullopt;
    return n;
  }
  std::optional<std::string_view> text(std::string_view name) const {
    std::string_view s;
    if (object_[name].get(s) != simdjson::SUCCESS) return std::nullopt;
    return s;
  }
  std::optional<bool> boolean(std::string_view name) const {
    bool b = false;
    if (object_[name].get(b) != simdjson::SUCCESS) return std::nullopt;
    return b;
  }
  // No member is there twice, and all are of these.
  bool only(std::initializer_list<std::string_view> names) const {
    std::set<std::string_view> seen;
    for (const auto field : object_) {
      if (std::find(names.begin(), names.end(), field.key) == names.end()) return false;
      if (!seen.insert(field.key).second) return false;
    }
    return true;
  }

 private:
  dom::parser parser_;
  dom::object object_;
  bool is_object_ = false;
};

// Whatever was sent, the refusal is a well-formed problem.
void judge_refusal(const Error& e) {
  expect(e.fault == Fault::invalid && !e.message.empty(), "a refusal says what would be right");
  std::string problem;
  http::append_problem(problem, {400, "bad_request", "Bad request", e.message});
  dom::parser parser;
  dom::element parsed;
  expect(parser.parse(problem).get(parsed) == simdjson::SUCCESS, "a problem is JSON", problem);
}

template <class Body, class Judge>
void judge_read(const Result<Body>& body, std::string_view text,
                std::initializer_list<std::string_view> members, Judge&& judge_values) {
  if (!body) return judge_refusal(body.error());
  const Tree tree(text);
  expect(tree.is_object(), "what is accepted is one JSON object");
  expect(tree.only(members), "of known members, each given once");
  judge_values(tree, *body);
}

template <std::size_t N>
bool is(const std::optional<std::string_view>& sent, const Text<N>& read) {
  return sent && *sent == read.view() && !read.empty();
}

std::string_view code_of(const Currency& c) { return {c.code.data(), c.code.size()}; }

void judge_terms(const Tree& tree, const Terms& t) {
  expect(check_terms(t) == TermsFault::none, "accepted terms can be sold under");
  expect(tree.number("stock") == std::int64_t{t.stock.value}, "the stock is what was sent");
  const auto seconds = tree.real("hold_seconds");
  expect(seconds && std::abs(*seconds * 1000 - static_cast<double>(t.hold.value)) <= 0.5001,
         "the hold is what was sent, to the millisecond");
  if (tree.has("line_limit")) {
    expect(tree.number("line_limit") == std::int64_t{t.line_limit}, "the line is as long as sent");
  }
  if (tree.has("limit_per_customer")) {
    expect(tree.number("limit_per_customer") == std::int64_t{t.limit_per_customer.value},
           "the limit is what was sent");
  }
  expect(well_formed(SaleScheduled{.sku = *SkuName::from("a"), .terms = t, .actor = {}}),
         "accepted terms can be in a log");
}

}  // namespace

void judge(std::string_view input) {
  static BodyReader reader;
  Choices in(input);
  const std::uint8_t what = in.byte() % 8;
  const std::string_view body = in.rest();
  switch (what) {
    case 0:
      return judge_read(reader.attempt(body), body, {"quantity", "customer"},
                        [](const Tree& tree, const AttemptBody& b) {
                          expect(tree.has("quantity")
                                     ? tree.number("quantity") == std::int64_t{b.quantity.value}
                                     : b.quantity == Quantity{1},
                                 "the quantity is what was sent");
                          expect(tree.has("customer") == b.customer.has_value() &&
                                     (!b.customer || is(tree.text("customer"), *b.customer)),
                                 "so is the customer");
                        });
    case 1:
      return judge_read(reader.patch(body), body, {"action", "stock", "actor", "reason"},
                        [](const Tree& tree, const PatchBody& b) {
                          expect(
                              is(tree.text("actor"), b.actor) && is(tree.text("reason"), b.reason),
                              "who did it and why are kept");
                          expect(tree.has("stock") == (b.action == PatchBody::Action::stock) &&
                                     tree.has("action") != tree.has("stock"),
                                 "one thing is done");
                        });
    case 2:
      return judge_read(reader.payment(body), body, {"reference", "status", "amount", "currency"},
                        [](const Tree& tree, const PaymentBody& b) {
                          expect(is(tree.text("reference"), b.reference), "a payment has a name");
                          if (!b.received) return;
                          expect(tree.number("amount") == b.amount.amount.value &&
                                     tree.text("currency") == code_of(b.amount.currency),
                                 "the amount is what was sent");
                        });
    case 3:
      return judge_read(reader.refund(body), body, {"restock", "actor", "reason"},
                        [](const Tree& tree, const RefundBody& b) {
                          expect(tree.boolean("restock") == b.restock, "restock is what was sent");
                          expect(
                              is(tree.text("actor"), b.actor) && is(tree.text("reason"), b.reason),
                              "who did it and why are kept");
                        });
    case 4:
      if (body.empty()) return;
      return judge_read(
          reader.rebuild(body), body, {"force"}, [](const Tree& tree, const RebuildBody& b) {
            expect(tree.boolean("force").value_or(false) == b.force, "force is what was sent");
          });
    case 5:
      return judge_read(reader.token(body), body, {"customer", "ttl_seconds"},
                        [](const Tree& tree, const TokenBody& b) {
                          expect(is(tree.text("customer"), b.customer), "a token is for somebody");
                          expect(b.ttl_seconds >= 1 && b.ttl_seconds <= 86'400, "and expires");
                        });
    default: {
      Terms existing;
      existing.starts_at = Timestamp{1};
      return judge_read(reader.terms(body, kNow, what == 6 ? nullptr : &existing), body,
                        {"stock", "price", "starts_at", "ends_at", "hold_seconds", "grace_seconds",
                         "limit_per_customer", "units_per_purchase", "line_limit", "line_policy"},
                        judge_terms);
    }
  }
}

std::vector<std::string> seeds() { return {}; }

}  // namespace fairsale::fuzz
