#include "tools/events/walk.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "tools/events/event_json.hpp"
#include "tools/moment/moment.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace {

Result<Event> event_at(const EventLog& log, SkuId sku, Seq at) {
  Event found;
  std::optional<Error> error;
  const auto read = log.read(sku, at, [&](const BlockView& block) {
    const auto decoded = block.for_each([&](Seq seq, const Event& e) {
      if (seq == at) found = e;
    });
    if (!decoded) error = decoded.error();
    return false;
  });
  if (!read) return tl::unexpected(read.error());
  if (error) return tl::unexpected(*error);
  return found;
}

// Position of the purchase that an event is about, if it is about one.
std::optional<Seq> purchase_of(const Event& event) {
  return std::visit(
      [](const auto& e) -> std::optional<Seq> {
        if constexpr (requires { e.purchase; }) {
          return e.purchase;
        } else {
          return std::nullopt;
        }
      },
      event);
}

class Collected final : public DecisionSink {
 public:
  void on(const Decision& d) override { all.push_back(d); }
  std::vector<Decision> all;
};

// One walk over a SKU's log.
class Walk {
 public:
  Walk(const EventLog& log, const SkuHead& head, Seq durable, const EventFilter& filter,
       const std::function<bool(const SeenEvent&)>& visit)
      : log_(log), head_(head), durable_(durable), filter_(filter), visit_(visit) {}

  Result<void> run() {
    auto name = sale_name(log_, head_.sku);
    if (!name) return tl::unexpected(name.error());
    name_ = name->empty() ? id_text(head_.sku) : std::move(*name);
    start_ = std::max(filter_.from, Seq{1});
    if (filter_.since) {
      const auto before = position_at(log_, head_, Timestamp{filter_.since->value - 1});
      if (!before) return tl::unexpected(before.error());
      start_ = std::max(start_, Seq{before->value + 1});
    }
    if (filter_.purchase) {
      if (auto ok = find_attempt(); !ok) return ok;
      start_ = std::max(start_, *filter_.purchase);
    }
    last_ = std::min(filter_.to, head_.head.seq);
    if (start_ > last_) return {};

    Seq next = start_;
    folding_ = filter_.decisions || !filter_.customer.empty();
    if (folding_) {
      if (filter_.fold_from == FoldFrom::snapshot) {
        auto snapshot = log_.snapshot(head_.sku, Seq{start_.value - 1});
        if (!snapshot) return tl::unexpected(snapshot.error());
        if (*snapshot) sale_ = std::move((*snapshot)->sale);
      }
      next = Seq{sale_.seq().value + 1};
    }
    std::optional<Error> error;
    const auto read = log_.read(head_.sku, next, [&](const BlockView& block) {
      const Timestamp time = block.header().time;
      if (filter_.until && time > *filter_.until) return false;
      if (filter_.watch) filter_.watch(block.header().count);
      bool more = true;
      const auto decoded = block.for_each([&](Seq seq, const Event& event) {
        if (seq >= next && seq <= last_ && more) more = take(seq, time, event);
      });
      if (!decoded) error = decoded.error();
      return decoded && more && block.last() < last_;
    });
    if (!read) return read;
    if (error) return tl::unexpected(*error);
    return {};
  }

 private:
  // The attempt of the purchase that is asked for.
  Result<void> find_attempt() {
    const Seq at = *filter_.purchase;
    const auto none = [&](std::string_view why) {
      return fail(Fault::not_found, fmt::format("{}:{} is no purchase: {}", name_, at.value, why));
    };
    if (at.value == 0 || at > head_.head.seq) {
      return none(fmt::format("the log ends at {}", head_.head.seq.value));
    }
    const auto event = event_at(log_, head_.sku, at);
    if (!event) return tl::unexpected(event.error());
    const auto* attempt = std::get_if<PurchaseAttempted>(&*event);
    if (attempt == nullptr) {
      return none(fmt::format("the event there is {}", name_of(*event)));
    }
    attempt_ = *attempt;
    return {};
  }

  // Returns false to stop.
  bool take(Seq seq, Timestamp time, const Event& event) {
    if (folding_) {
      decided_.all.clear();
      const Decision answer = sale_.apply(seq, time, event, decided_);
      if (seq < start_) return true;
      // A repeated answer, and that to TimePassed, changed nothing and were not emitted. Of the
      // latter there is only something to say when time brought nothing.
      if (answer.repeated || decided_.all.empty()) decided_.all.push_back(answer);
      std::erase_if(decided_.all, [this](const Decision& d) { return !concerns(d); });
    }
    const bool decided = filter_.decisions && !decided_.all.empty();
    const bool chosen = filter_.purchase || !filter_.customer.empty();
    if (chosen && !decided && !concerns(seq, event)) return true;
    return visit_({.sale_name = name_,
                   .seq = seq,
                   .time = time,
                   .event = event,
                   .provisional = seq > durable_,
                   .sale = folding_ ? &sale_ : nullptr,
                   .decisions = filter_.decisions ? std::span<const Decision>(decided_.all)
                                                  : std::span<const Decision>()});
  }

  bool concerns(Seq seq, const Event& event) const {
    const auto* attempt = std::get_if<PurchaseAttempted>(&event);
    const auto about = attempt != nullptr ? std::optional(seq) : purchase_of(event);
    if (filter_.purchase && about != filter_.purchase) {
      const bool repeated = attempt != nullptr && attempt->customer == attempt_.customer &&
                            attempt->key == attempt_.key;
      if (!repeated) return false;
    }
    if (filter_.customer.empty()) return true;
    if (attempt != nullptr) return attempt->customer.view() == filter_.customer;
    const auto index = about ? sale_.find_purchase(*about) : std::nullopt;
    return index && is_of_customer(CustomerIndex{sale_.purchase(*index).customer});
  }

  bool concerns(const Decision& d) const {
    if (filter_.purchase && d.purchase != *filter_.purchase) return false;
    if (filter_.customer.empty()) return true;
    return d.customer.value != kNoIndex && is_of_customer(d.customer);
  }

  bool is_of_customer(CustomerIndex c) const { return sale_.customer_name(c) == filter_.customer; }

  const EventLog& log_;
  const SkuHead& head_;
  const Seq durable_;
  const EventFilter& filter_;
  const std::function<bool(const SeenEvent&)>& visit_;
  std::string name_;
  Seq start_;
  Seq last_;
  PurchaseAttempted attempt_;
  bool folding_ = false;
  Sale sale_;
  Collected decided_;
};

bool tells_until(const Decision& d) { return d.until.value != 0; }

}  // namespace

Result<void> visit_events(const EventLog& log, const SkuHead& head, Seq durable,
                          const EventFilter& filter,
                          const std::function<bool(const SeenEvent&)>& visit) {
  return Walk(log, head, durable, filter, visit).run();
}

void append_text(std::string& out, const SeenEvent& seen) {
  fmt::format_to(std::back_inserter(out), "{}:{}  ", seen.sale_name, seen.seq.value);
  append_rfc3339(out, seen.time);
  out += "  ";
  append_event_text(out, seen.event);
  if (seen.provisional) out += " (provisional)";
  out += '\n';
  for (const Decision& d : seen.decisions) {
    fmt::format_to(std::back_inserter(out), "    -> {}", name_of(d.kind));
    if (d.reason != Reason::none) fmt::format_to(std::back_inserter(out), " {}", name_of(d.reason));
    if (d.purchase.value != 0) {
      fmt::format_to(std::back_inserter(out), " {}:{}", seen.sale_name, d.purchase.value);
    }
    if (d.customer.value != kNoIndex) {
      out += " customer=";
      append_word(out, seen.sale->customer_name(d.customer));
    }
    if (d.quantity.value != 0) {
      fmt::format_to(std::back_inserter(out), " quantity={}", d.quantity.value);
    }
    if (d.place != 0) fmt::format_to(std::back_inserter(out), " place={}", d.place);
    if (tells_until(d)) {
      out += " until=";
      append_rfc3339(out, d.until);
    }
    if (d.repeated) out += " (the first answer again)";
    out += '\n';
  }
}

void append_json(JsonWriter& json, const SeenEvent& seen) {
  json.begin_object()
      .member("sale", seen.sale_name)
      .member("seq", seen.seq.value)
      .member("time", seen.time)
      .member("provisional", seen.provisional);
  append_event(json, seen.event);
  if (seen.sale != nullptr && !seen.decisions.empty()) {
    json.key("decisions").begin_array();
    for (const Decision& d : seen.decisions) {
      json.begin_object().member("kind", name_of(d.kind));
      if (d.reason != Reason::none) json.member("reason", name_of(d.reason));
      json.member("repeated", d.repeated).member("quantity", d.quantity.value);
      if (d.purchase.value != 0) json.member("purchase", d.purchase.value);
      if (d.customer.value != kNoIndex) {
        json.member("customer", seen.sale->customer_name(d.customer));
      }
      if (d.place != 0) json.member("place", d.place);
      if (tells_until(d)) json.member("until", d.until);
      json.end_object();
    }
    json.end_array();
  }
  json.end_object();
}

}  // namespace fairsale::cli
