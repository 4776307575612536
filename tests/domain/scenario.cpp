#include "tests/domain/scenario.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <stdexcept>

#include "tests/domain/model.hpp"
#include "tests/domain/support.hpp"

namespace fairsale::test {

namespace {

// Times in scenarios count from here, so that a time before the start can be written as "-10s".
constexpr std::int64_t kZero = 1'000'000'000'000;

std::vector<std::string> words_of(std::string_view line) {
  std::istringstream in{std::string(line)};
  std::vector<std::string> words;
  for (std::string w; in >> w;) words.push_back(w);
  return words;
}

std::string joined(const std::vector<std::string>& parts, std::string_view between) {
  std::string out;
  for (const auto& p : parts) {
    if (!out.empty()) out += between;
    out += p;
  }
  return out;
}

template <class T>
T number_in(std::string_view s) {
  T v{};
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (error != std::errc{} || end != s.data() + s.size()) {
    throw std::runtime_error("'" + std::string(s) + "' is not a number that fits");
  }
  return v;
}

// "600s", "0.5s", "20ms".
std::int64_t milliseconds_in(std::string_view s) {
  if (s.ends_with("ms")) return number_in<std::int64_t>(s.substr(0, s.size() - 2));
  if (!s.ends_with("s")) throw std::runtime_error("'" + std::string(s) + "' has no unit (s or ms)");
  return std::llround(number_in<double>(s.substr(0, s.size() - 1)) * 1000);
}

Timestamp time_in(std::string_view s) {
  if (s == "never") return kNever;
  return Timestamp{kZero + milliseconds_in(s)};
}

std::string time_text(std::int64_t t) {
  if (t == kNever.value) return "never";
  const std::int64_t ms = t - kZero;
  if (ms % 1000 == 0) return std::to_string(ms / 1000) + "s";
  return std::to_string(ms) + "ms";
}

Money money_in(std::string_view s) {
  if (s.size() < 4) throw std::runtime_error("money is written 4900EUR");
  const std::string_view code = s.substr(s.size() - 3);
  Money m{MinorUnits{number_in<std::int64_t>(s.substr(0, s.size() - 3))}, {}};
  std::copy_n(code.begin(), 3, m.currency.code.begin());
  return m;
}

// The words of a command after its verb: plain ones in order, "name=value" ones by name. A command
// takes what it knows; whatever is left over is a mistake in the scenario.
class Arguments {
 public:
  explicit Arguments(const std::vector<std::string>& words) {
    for (std::size_t i = 1; i < words.size(); ++i) {
      const auto equals = words[i].find('=');
      if (equals == std::string::npos) {
        plain_.push_back(words[i]);
      } else {
        named_[words[i].substr(0, equals)] = words[i].substr(equals + 1);
      }
    }
  }

  std::string next(std::string_view what) {
    if (used_ == plain_.size()) throw std::runtime_error(std::string(what) + " is missing");
    return plain_[used_++];
  }

  std::optional<std::string> maybe_next() {
    if (used_ == plain_.size()) return std::nullopt;
    return plain_[used_++];
  }

  std::optional<std::string> named(const std::string& name) {
    const auto found = named_.find(name);
    if (found == named_.end()) return std::nullopt;
    std::string value = found->second;
    named_.erase(found);
    return value;
  }

  void all_used() const {
    if (used_ != plain_.size()) throw std::runtime_error("'" + plain_[used_] + "' is too much");
    if (!named_.empty()) throw std::runtime_error("'" + named_.begin()->first + "' is not known");
  }

 private:
  std::vector<std::string> plain_;
  std::size_t used_ = 0;
  std::map<std::string, std::string> named_;
};

struct Failed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

class Run {
 public:
  void step(const std::string& line) {
    const auto arrow = line.find("->");
    std::optional<std::string> expected;
    if (arrow != std::string::npos) {
      expected = joined(words_of(line.substr(arrow + 2)), " ");
    }
    const auto words = words_of(line.substr(0, arrow));
    if (words.empty()) throw std::runtime_error("a command is missing");
    Arguments arguments(words);
    if (look(words[0], arguments, expected.has_value())) return;

    const Event event = event_of(words[0], arguments);
    arguments.all_used();
    if (!expected) {
      if (!std::holds_alternative<SaleScheduled>(event)) {
        throw std::runtime_error("'-> what is decided' is missing");
      }
      const Terms& t = std::get<SaleScheduled>(event).terms;
      expected = "scheduled " + std::to_string(t.stock.value);
      if (t.starts_at <= now_) *expected += ", opened";
    }
    apply(event, *expected);
  }

 private:
  // Commands that change nothing. Returns false when `verb` is not one of them.
  bool look(const std::string& verb, Arguments& a, bool arrow) {
    if (verb == "at") {
      now_ = time_in(a.next("the time"));
    } else if (verb == "counts") {
      const Counters& c = sale_.counters();
      const std::pair<const char*, std::uint32_t> counts[] = {{"stocked", c.stocked.value},
                                                              {"available", c.available.value},
                                                              {"held", c.held.value},
                                                              {"sold", c.sold.value},
                                                              {"waiting", c.waiting}};
      for (const auto& [name, value] : counts) {
        if (const auto wanted = a.named(name)) {
          compare(std::string(name) + "=" + *wanted, name + ("=" + std::to_string(value)));
        }
      }
    } else if (verb == "phase") {
      compare(a.next("the phase"), std::string(name_of(sale_.phase())));
    } else if (verb == "deadline") {
      compare(a.next("the time"), time_text(sale_.next_deadline().value));
    } else if (verb == "status") {
      const auto index = sale_.find_purchase(Seq{purchase_in(a.next("the purchase"))});
      if (!index) throw Failed("there is no such purchase");
      const Purchase& p = sale_.purchase(*index);
      std::string is(name_of(p.status));
      std::string wanted = a.next("the status");
      if (const auto reason = a.maybe_next()) {
        wanted += " " + *reason;
        is += " " + std::string(name_of(p.reason));
      }
      compare(wanted, is);
    } else if (verb == "units") {
      const auto customer = sale_.find_customer(a.next("the customer"));
      if (!customer) throw Failed("there is no such customer");
      compare(a.next("the units"), std::to_string(sale_.customer_units(*customer).value));
    } else {
      return false;
    }
    a.all_used();
    if (arrow) throw std::runtime_error("'" + verb + "' decides nothing");
    return true;
  }

  Event event_of(const std::string& verb, Arguments& a) {
    const auto actor = text<Actor>("owner");
    const auto why = text<Why>("scenario");
    if (verb == "sale") {
      Terms t{.stock = Quantity{10},
              .price = money_in("100EUR"),
              .starts_at = Timestamp{kZero},
              .hold = Duration{600'000},
              .limit_per_customer = Quantity{10},
              .units_per_purchase = Quantity{10},
              .line_limit = 10};
      read_terms(a, t);
      const auto name = a.named("sku").value_or("demo");
      return SaleScheduled{text<SkuName>(name == "none" ? "" : name), kRulesV1, t, actor};
    }
    if (verb == "change") {
      Terms t = sale_.terms();
      t.stock = sale_.counters().stocked;
      read_terms(a, t);
      return SaleChanged{t, actor, why};
    }
    if (verb == "pause") return SalePaused{actor, why};
    if (verb == "resume") return SaleResumed{actor, why};
    if (verb == "close") return SaleClosed{actor, why};
    if (verb == "stock") {
      return StockAdjusted{Quantity{number_in<std::uint32_t>(a.next("the stock"))}, actor, why};
    }
    if (verb == "attempt") {
      PurchaseAttempted e;
      e.customer = text<CustomerId>(a.next("the customer"));
      e.quantity = Quantity{number_in<std::uint32_t>(a.maybe_next().value_or("1"))};
      e.key = key_named(a.named("key").value_or("#" + std::to_string(sale_.seq().value + 1)));
      return e;
    }
    if (verb == "cancel") return PurchaseCancelled{Seq{purchase_in(a.next("the purchase"))}};
    if (verb == "decline") return OfferDeclined{Seq{purchase_in(a.next("the purchase"))}};
    if (verb == "pay") {
      PaymentReceived e;
      e.purchase = Seq{purchase_in(a.next("the purchase"))};
      e.reference = text<PaymentReference>(a.next("the reference"));
      if (const auto amount = a.named("amount")) {
        e.amount = money_in(*amount);
      } else {
        e.amount = sale_.terms().price;
        if (const auto index = sale_.find_purchase(e.purchase)) {
          e.amount.amount.value *= sale_.purchase(*index).quantity;
        }
      }
      return e;
    }
    if (verb == "fail") {
      const Seq purchase{purchase_in(a.next("the purchase"))};
      return PaymentFailed{purchase, text<PaymentReference>(a.next("the reference"))};
    }
    if (verb == "refund") {
      const Seq purchase{purchase_in(a.next("the purchase"))};
      const std::string how = a.next("restock or writeoff");
      if (how != "restock" && how != "writeoff") throw std::runtime_error("restock or writeoff?");
      return OrderRefunded{purchase, how == "restock", actor, why};
    }
    if (verb == "tick") {
      now_ = time_in(a.next("the time"));
      return TimePassed{};
    }
    throw std::runtime_error("'" + verb + "' is no command");
  }

  static void read_terms(Arguments& a, Terms& t) {
    const auto count = [&](const char* name, std::uint32_t& out) {
      if (const auto v = a.named(name)) out = number_in<std::uint32_t>(*v);
    };
    count("stock", t.stock.value);
    count("limit", t.limit_per_customer.value);
    count("units", t.units_per_purchase.value);
    count("line", t.line_limit);
    if (const auto v = a.named("price")) t.price = money_in(*v);
    if (const auto v = a.named("starts")) t.starts_at = time_in(*v);
    if (const auto v = a.named("ends")) t.ends_at = time_in(*v);
    if (const auto v = a.named("hold")) t.hold = Duration{milliseconds_in(*v)};
    if (const auto v = a.named("grace")) t.grace = Duration{milliseconds_in(*v)};
    if (const auto v = a.named("opening")) {
      t.opening = *v == "draw" ? Opening::draw : Opening::fifo;
    }
    if (const auto v = a.named("policy")) {
      t.line_policy = *v == "strict"          ? LinePolicy::strict
                      : *v == "skip_if_unfit" ? LinePolicy::skip_if_unfit
                                              : static_cast<LinePolicy>(7);
    }
  }

  // "A" is the customer's first purchase, "A#2" the second; "#17" is whatever stands at 17.
  std::uint64_t purchase_in(const std::string& name) const {
    if (name.starts_with('#')) return number_in<std::uint64_t>(std::string_view(name).substr(1));
    for (const auto& [seq, known] : names_) {
      if (known == name) return seq;
    }
    throw std::runtime_error("'" + name + "' has no such purchase yet");
  }

  void apply(const Event& event, const std::string& expected) {
    if (now_ < sale_.time()) throw std::runtime_error("time runs backwards");
    const Seq seq{sale_.seq().value + 1};
    Recorder heard(sale_);
    const Said answer = said_by(sale_, sale_.apply(seq, now_, event, heard));
    if (const auto* e = std::get_if<PurchaseAttempted>(&event);
        e != nullptr && sale_.find_purchase(seq)) {
      const std::string customer(e->customer.view());
      const int nth = ++attempts_[customer];
      names_[seq.value] = nth == 1 ? customer : customer + "#" + std::to_string(nth);
    }
    compare(expected, told(heard.said, answer));

    const bool quiet = answer.repeated || std::holds_alternative<TimePassed>(event);
    bool emitted = false;
    for (const Said& s : heard.said) {
      if (s.repeated) throw Failed("a repeated answer was emitted");
      emitted = emitted || s == answer;
    }
    if (!quiet && !emitted) throw Failed("the answer was not emitted");
    if (const auto wrong = sale_.check()) throw Failed("check(): " + std::string(*wrong));

    std::vector<Said> modelled;
    const Said model_answer = model_.apply(seq, now_, event, modelled);
    compare("the model: " + told(modelled, model_answer), "the model: " + told(heard.said, answer));
    if (modelled != heard.said || model_answer != answer) {
      throw Failed("the model differs in what a scenario does not show");
    }

    Recorder twin_heard(twin_);
    const Said twin_answer = said_by(twin_, twin_.apply(seq, now_, event, twin_heard));
    if (twin_heard.said != heard.said || twin_answer != answer) {
      throw Failed("a restored sale decides otherwise: " + told(twin_heard.said, twin_answer));
    }
    const Bytes bytes = bytes_of(sale_);
    auto restored = sale_from(bytes);
    if (!restored) throw Failed("the sale does not restore from its own bytes");
    if (bytes_of(*restored) != bytes || bytes_of(twin_) != bytes) {
      throw Failed("the bytes differ after a restore");
    }
    twin_ = std::move(*restored);
  }

  std::string told(const std::vector<Said>& said, const Said& answer) const {
    std::vector<std::string> parts;
    for (const Said& s : said) parts.push_back(told(s));
    if (answer.repeated) parts.push_back("again " + told(answer));
    return parts.empty() ? "nothing" : joined(parts, ", ");
  }

  std::string told(const Said& s) const {
    std::string out(name_of(s.kind));
    const auto add = [&out](const std::string& word) { out += " " + word; };
    if (s.purchase != 0) {
      const auto name = names_.find(s.purchase);
      add(name != names_.end() ? name->second : "#" + std::to_string(s.purchase));
    }
    if (!s.customer.empty()) {
      if (s.quantity != 1) add("x" + std::to_string(s.quantity));
    } else if (s.kind == DecisionKind::scheduled || s.kind == DecisionKind::changed ||
               s.kind == DecisionKind::stock_adjusted || s.kind == DecisionKind::line_released) {
      add(std::to_string(s.quantity));
    }
    if (s.kind == DecisionKind::waiting) add(std::to_string(s.place));
    if (s.kind == DecisionKind::reserved || s.kind == DecisionKind::offered) {
      add("until " + time_text(s.until));
    }
    if (s.reason != Reason::none) add(std::string(name_of(s.reason)));
    return out;
  }

  static void compare(const std::string& expected, const std::string& actual) {
    if (expected == actual) return;
    throw Failed("expected: " + expected + "\n    actual:   " + actual);
  }

  Sale sale_;
  Sale twin_;
  Model model_;
  Timestamp now_{kZero};
  std::map<std::uint64_t, std::string> names_;
  std::map<std::string, int> attempts_;
};

}  // namespace

std::vector<Scenario> read_scenarios(const std::filesystem::path& path) {
  std::ifstream in(path);
  if (!in) throw std::runtime_error(path.string() + " cannot be read");
  std::vector<Scenario> scenarios;
  const auto wrong = [&](int number, const std::string& what) {
    throw std::runtime_error(path.string() + ":" + std::to_string(number) + ": " + what);
  };
  const auto complete = [&] {
    if (scenarios.empty()) return;
    if (scenarios.back().expectation.empty()) {
      wrong(scenarios.back().number, "say what the shop owner expects, in a comment");
    }
    if (scenarios.back().lines.empty()) wrong(scenarios.back().number, "nothing happens");
  };
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const std::string trimmed = joined(words_of(line), " ");
    if (trimmed.empty()) continue;
    if (trimmed.starts_with("## ")) {
      complete();
      scenarios.push_back({.heading = trimmed.substr(3), .number = number});
    } else if (trimmed.starts_with("#")) {
      if (!scenarios.empty()) scenarios.back().expectation += trimmed.substr(1);
    } else {
      if (scenarios.empty()) wrong(number, "a scenario starts with '## heading'");
      scenarios.back().lines.push_back({number, line});
    }
  }
  complete();
  return scenarios;
}

std::string run(const Scenario& scenario, std::string_view file) {
  Run run;
  for (const ScenarioLine& line : scenario.lines) {
    try {
      run.step(line.text);
    } catch (const std::exception& e) {
      return std::string(file) + ":" + std::to_string(line.number) + ": " + scenario.heading +
             "\n   " + scenario.expectation +
             "\n    line:     " + joined(words_of(line.text), " ") + "\n    " + e.what();
    }
  }
  return {};
}

}  // namespace fairsale::test
