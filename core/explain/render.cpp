#include <fmt/format.h>

#include <iterator>

#include "core/explain/explain.hpp"
#include "core/json/sale_json.hpp"

namespace fairsale {

void append_tally(JsonWriter& json, std::string_view name, const Tally& t) {
  json.key(name)
      .begin_object()
      .member("purchases", t.purchases)
      .member("units", t.units)
      .end_object();
}

namespace {

template <class... Args>
void append(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

std::string text_of(Timestamp t) {
  std::string out;
  append_rfc3339(out, t);
  return out;
}

std::string units(std::uint64_t n) { return fmt::format("{} unit{}", n, n == 1 ? "" : "s"); }

std::string tally(const Tally& t) {
  if (t.purchases == 0) return "nobody";
  return fmt::format("{} purchase{} of {}", t.purchases, t.purchases == 1 ? "" : "s",
                     units(t.units));
}

// " anna" with a space before it; nothing for nobody.
std::string name_after(std::string_view customer) {
  std::string out;
  if (customer.empty()) return out;
  out = ' ';
  append_word(out, customer);
  return out;
}

void append_steps(std::string& out, const Story& s) {
  for (const Step& step : s.steps) {
    append(out, "  {:>10}  {}  {}", step.seq.value, text_of(step.at), name_of(step.decision));
    if (step.reason != Reason::none) append(out, " ({})", name_of(step.reason));
    if (step.repeated) out += ", once more";
    if (step.decision == DecisionKind::waiting) append(out, ", place {}", step.place);
    if (step.decision == DecisionKind::reserved || step.decision == DecisionKind::offered) {
      append(out, ", until {}", text_of(step.until));
    }
    out += "\n              ";
    if (step.repeated) {
      out += "The same request came again and got the same answer.\n";
      continue;
    }
    out += sentence_of(step.decision);
    if (step.reason != Reason::none) append(out, " {}", sentence_of(step.reason));
    out += '\n';
  }
  if (s.steps_left_out > 0) append(out, "              and {} more steps\n", s.steps_left_out);
}

void append_ahead(std::string& out, std::string_view sku, const Ahead& a) {
  append(out,
         "  ahead of it: {} waiting, {} with units held, {} with an order\n"
         "    what became of them:",
         tally(a.waiting), tally(a.holding), tally(a.ordered));
  bool any = false;
  for (std::size_t i = 0; i < a.became.size(); ++i) {
    if (a.became[i].purchases == 0) continue;
    append(out, "{} {} {}", any ? "," : "", a.became[i].purchases,
           name_of(static_cast<PurchaseStatus>(i)));
    any = true;
  }
  out += any ? "\n" : " nobody was ahead\n";
  for (const Ahead::Listed& l : a.nearest) {
    append(out, "    {}:{}{}  {}  {}, now {}\n", sku, l.purchase.value, name_after(l.customer),
           units(l.quantity), name_of(l.then), name_of(l.now));
  }
  if (a.of > a.nearest.size()) append(out, "    and {} before these\n", a.of - a.nearest.size());
}

void append_afterwards(std::string& out, const Afterwards& a) {
  append(out, "  afterwards (from position {}): {} came back", a.since.value,
         units(a.came_back.units));
  if (a.stock_added > 0) append(out, ", {} were added to the stock", a.stock_added);
  append(out, "; {} got units\n", a.served.purchases == 0 ? "nobody else" : tally(a.served));
  if (a.chance) {
    append(out,
           "    The same attempt with a new key would have been reserved after position {}, at "
           "{}.\n",
           a.chance->value, text_of(a.chance_at));
  } else {
    out += "    At no moment would the same attempt with a new key have been reserved.\n";
  }
}

std::string rule_of(const Step& s) {
  std::string rule(sentence_of(s.decision));
  if (s.reason != Reason::none) append(rule, " {}", sentence_of(s.reason));
  return rule;
}

void append_story(JsonWriter& json, std::string_view sku, const Story& s) {
  const auto id = [&](Seq seq) { return fmt::format("{}:{}", sku, seq.value); };
  json.begin_object().member("purchase", std::string_view(id(s.attempt))).member("time", s.at);
  if (!s.customer.empty()) json.member("customer", std::string_view(s.customer));
  json.member("quantity", s.quantity).member("status", name_of(s.status));
  if (s.reason != Reason::none) json.member("reason", name_of(s.reason));
  json.member("outcome", std::string_view(outcome_of(s)));
  json.key("before").begin_object();
  append_counters(json, s.before);
  json.end_object();
  json.key("steps").begin_array();
  for (const Step& step : s.steps) {
    json.begin_object()
        .member("position", step.seq.value)
        .member("time", step.at)
        .member("event", step.event)
        .member("about", step.own ? "purchase" : "sale")
        .member("decision", name_of(step.decision));
    if (step.reason != Reason::none) json.member("reason", name_of(step.reason));
    json.member("repeated", step.repeated);
    if (step.decision == DecisionKind::waiting) json.member("place", step.place);
    if (step.decision == DecisionKind::reserved || step.decision == DecisionKind::offered) {
      json.member("until", step.until);
    }
    json.member("rule", std::string_view(rule_of(step)));
    json.key("after").begin_object();
    append_counters(json, step.counters);
    json.end_object();
    json.end_object();
  }
  json.end_array().member("steps_left_out", s.steps_left_out);
  if (s.first_place > 0) {
    json.member("first_place", s.first_place).member("best_place", s.best_place);
  }
  append_tally(json, "overtaken_by", s.overtaken_by);
  if (s.ahead) {
    const Ahead& a = *s.ahead;
    json.key("ahead").begin_object();
    append_tally(json, "waiting", a.waiting);
    append_tally(json, "holding", a.holding);
    append_tally(json, "ordered", a.ordered);
    json.key("became").begin_object();
    for (std::size_t i = 0; i < a.became.size(); ++i) {
      if (a.became[i].purchases == 0) continue;
      append_tally(json, name_of(static_cast<PurchaseStatus>(i)), a.became[i]);
    }
    json.end_object().key("nearest").begin_array();
    for (const Ahead::Listed& l : a.nearest) {
      json.begin_object().member("purchase", std::string_view(id(l.purchase)));
      if (!l.customer.empty()) json.member("customer", std::string_view(l.customer));
      json.member("quantity", l.quantity)
          .member("then", name_of(l.then))
          .member("now", name_of(l.now))
          .end_object();
    }
    json.end_array().member("left_out", a.of - a.nearest.size()).end_object();
  }
  if (s.afterwards) {
    const Afterwards& a = *s.afterwards;
    json.key("afterwards").begin_object().member("since", a.since.value);
    append_tally(json, "came_back", a.came_back);
    json.member("stock_added", a.stock_added);
    append_tally(json, "served", a.served);
    if (a.chance) {
      json.key("chance")
          .begin_object()
          .member("position", a.chance->value)
          .member("time", a.chance_at)
          .end_object();
    }
    json.end_object();
  }
  json.end_object();
}

}  // namespace

std::string outcome_of(const Story& s) {
  std::string waited;
  if (s.first_place > 0) {
    waited = fmt::format("waited from place {}", s.first_place);
    if (s.best_place < s.first_place) append(waited, ", came up to place {}", s.best_place);
  }
  switch (s.status) {
    case PurchaseStatus::ordered:
      return waited.empty()
                 ? "It got its units: they were held for it at once, and it paid."
                 : fmt::format("It got its units: it {}, was offered them and paid.", waited);
    case PurchaseStatus::refunded: return "It got its units; later the order was refunded.";
    case PurchaseStatus::reserved: return "Units are held for it; it has yet to pay.";
    case PurchaseStatus::offered:
      return fmt::format("Units are held for it: it {} and was offered them; it has yet to pay.",
                         waited);
    case PurchaseStatus::waiting: return fmt::format("It still waits: it {}.", waited);
    case PurchaseStatus::refused:
      return fmt::format("It got nothing: it was refused. {}", sentence_of(s.reason));
    case PurchaseStatus::released:
      return fmt::format("It got nothing: it {} and was released. {}", waited,
                         sentence_of(s.reason));
    case PurchaseStatus::expired:
      return fmt::format("It got nothing: {}units were held for it, and no payment came in time.",
                         waited.empty() ? "" : "it " + waited + "; ");
    case PurchaseStatus::cancelled:
      return fmt::format("It got nothing: {}it was given up.",
                         waited.empty() ? "" : "it " + waited + "; ");
    case PurchaseStatus::declined:
      return fmt::format("It got nothing: it {}, and the offer was declined.", waited);
  }
  return {};
}

std::string text_of(const Explanation& e) {
  std::string out =
      fmt::format("sku {}  told from the log up to position {} ({}){}\n", e.sku, e.head.seq.value,
                  text_of(e.at), e.provisional.value_or(false) ? " (provisional)" : "");
  for (const Story& s : e.stories) {
    append(out, "\n{}:{}{}  {}  {}", e.sku, s.attempt.value, name_after(s.customer),
           units(s.quantity), name_of(s.status));
    if (s.reason != Reason::none) append(out, " ({})", name_of(s.reason));
    append(out, "\n  {}\n", outcome_of(s));
    append(out, "  the sale then: stock {} = available {} + held {} + sold {}; waiting {}\n",
           s.before.stocked.value, s.before.available.value, s.before.held.value,
           s.before.sold.value, s.before.waiting);
    append_steps(out, s);
    if (s.overtaken_by.purchases > 0) {
      append(out,
             "  {} that came later got units meanwhile: they asked for no more than was free, and "
             "the terms let them pass.\n",
             tally(s.overtaken_by));
    }
    if (s.ahead) append_ahead(out, e.sku, *s.ahead);
    if (s.afterwards) append_afterwards(out, *s.afterwards);
  }
  if (e.stories_left_out > 0) append(out, "\nand {} more attempts\n", e.stories_left_out);
  return out;
}

void append_json(std::string& out, const Explanation& e) {
  JsonWriter json(out);
  json.begin_object()
      .member("sku", std::string_view(e.sku))
      .member("position", e.head.seq.value)
      .member("time", e.at)
      .member("phase", name_of(e.phase));
  if (e.provisional) json.member("provisional", *e.provisional);
  json.key("purchases").begin_array();
  for (const Story& s : e.stories) append_story(json, e.sku, s);
  json.end_array().member("left_out", e.stories_left_out).end_object();
}

}  // namespace fairsale
