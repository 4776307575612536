#include "tools/rush/crowd.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace fairsale::rush {

namespace {

// How often the head of the line and the sale are looked at, and how far into the line.
constexpr std::int64_t kLookUs = 100'000;
constexpr std::size_t kHead = 64;

std::int64_t wall_clock_ms() {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return std::int64_t{t.tv_sec} * 1000 + t.tv_nsec / 1'000'000;
}

}  // namespace

Crowd::Crowd(Driver& driver, const Requests& requests, const RunInfo& info,
             const CrowdOptions& options, const SaleFacts& sale, RecordWriter* record,
             Violations& violations)
    : driver_(driver),
      requests_(requests),
      info_(info),
      options_(options),
      sale_(sale),
      record_(record),
      violations_(violations),
      random_(options.seed) {}

// Everything that is random about the crowd is drawn here, in a fixed order, except delays.
void Crowd::plan(const std::vector<RatePiece>& curve) {
  arrivals_ = plan_arrivals(curve, options_.attempts, random_);
  if (options_.duration_seconds > 0 && !options_.closed_loop) {
    const auto end = static_cast<std::int64_t>(options_.duration_seconds * 1e6);
    arrivals_.erase(std::lower_bound(arrivals_.begin(), arrivals_.end(), end), arrivals_.end());
  }
  claims_.resize(arrivals_.size());
  plans_.resize(arrivals_.size());
  for (std::size_t i = 0; i < claims_.size(); ++i) {
    claims_[i].customer = static_cast<std::uint32_t>(random_.below(options_.customers));
    claims_[i].quantity = options_.units[random_.below(options_.units.size())];
    const double u = random_.uniform();
    plans_[i].intent = u < options_.pay                     ? pay
                       : u < options_.pay + options_.cancel ? give_up
                                                            : leave;
    plans_[i].repeats = random_.uniform() < options_.retry;
    plans_[i].doubles = random_.uniform() < options_.duplicate;
  }
}

Result<void> Crowd::run(const std::vector<RatePiece>& curve, const volatile int& interrupted,
                        const std::function<void(const Crowd&)>& progress) {
  plan(curve);
  if (claims_.empty()) return fail(Fault::invalid, "no attempt is planned before --duration ends");
  interrupted_ = &interrupted;
  progress_ = &progress;
  violations_.ran("repeats");
  constexpr std::int64_t kRunUpUs = 20'000;
  start_us_ = now_us() + kRunUpUs;
  wall_offset_ms_ = wall_clock_ms() - now_us() / 1000;
  driver_.arrive(attempt, arrivals_, start_us_, options_.closed_loop);
  auto done = driver_.run(*this, options_.patience_us);
  const std::int64_t end = now_us();
  report_.peak_per_second = std::max(report_.peak_per_second, in_second_);
  report_.seconds = static_cast<double>(end - start_us_) / 1e6;
  const std::int64_t first =
      start_us_ + (arrivals_.empty() || options_.closed_loop ? 0 : arrivals_[0]);
  report_.attempt_seconds =
      static_cast<double>(std::max<std::int64_t>(last_answer_us_ - first, 0)) / 1e6;
  if (record_ != nullptr) {
    for (std::uint32_t i = 0; i < claims_.size(); ++i) {
      if (claims_[i].waiting_at != 0 || claims_[i].offered_at != 0) record_->seen(i, claims_[i]);
    }
  }
  return done;
}

void Crowd::render(const Task& task, std::string& out) {
  Claim& c = claims_[task.index];
  switch (task.kind) {
    case attempt:
      if (plans_[task.index].doubles && task.tries == 0) {
        // The double click: the same request at once on another connection.
        driver_.submit({.index = task.index, .kind = repeat, .urgent = true});
        plans_[task.index].doubles = false;
      }
      [[fallthrough]];
    case repeat: return requests_.purchase(task.index, c, out);
    case payment:
      if (c.payment == PaymentAnswer::none) {
        c.payment = PaymentAnswer::sent;
        if (record_ != nullptr) record_->payment(task.index, c);
      }
      return requests_.payment(task.index, c, sale_.price * c.quantity, sale_.currency, out);
    case cancel:
      if (c.cancel == CancelAnswer::none) c.cancel = CancelAnswer::sent;
      return requests_.cancel(c, out);
    case look: return requests_.read_purchase(c, 0, out);
    default: return requests_.read_sale(0, out);
  }
}

void Crowd::answered(const Task& task, const Response& r, std::int64_t sent_us, std::int64_t now) {
  const auto service = static_cast<std::uint64_t>(now - sent_us);
  switch (task.kind) {
    case attempt:
    case repeat: return on_attempt(task, r, sent_us, now);
    case payment: report_.payment_service.record(service); return on_payment(task.index, r);
    case cancel: report_.payment_service.record(service); return on_cancel(task.index, r);
    case look: report_.read_service.record(service); return on_look(task.index, r, now);
    default:
      report_.read_service.record(service);
      looking_at_sale_ = false;
      --looks_;
      if (r.status == 200) {
        SaleFacts seen;
        if (reader_.read(r.body, seen)) {
          sale_ = seen;
          sale_seen_us_ = sent_us;
        }
      } else {
        unexpected(task, r);
      }
  }
}

void Crowd::on_attempt(const Task& task, const Response& r, std::int64_t sent_us,
                       std::int64_t now) {
  const std::uint32_t i = task.index;
  Claim& c = claims_[i];
  Plan& plan = plans_[i];
  if (c.first == First::none) {
    first_answer(i, r, sent_us, now);
    if (c.first == First::none) return;
  } else {
    ++report_.repeats;
    if (r.status != c.status || digest_of(r.body) != c.digest) {
      violations_.add("repeats", fmt::format("attempt {} was first answered with {} and then with "
                                             "{}: {}",
                                             i, c.status, r.status, r.body.substr(0, 200)));
    }
  }
  if (!r.replayed) {
    if (plan.fresh) {
      violations_.add("repeats", fmt::format("attempt {} was decided twice: two answers lack "
                                             "Idempotent-Replayed",
                                             i));
    }
    plan.fresh = true;
  }
}

void Crowd::first_answer(std::uint32_t i, const Response& r, std::int64_t sent_us,
                         std::int64_t now) {
  Claim& c = claims_[i];
  Answer a;
  const bool read = reader_.read(r.body, info_.sku, a);
  First first = First::none;
  if (read && r.status == 201 && a.status == "reserved") {
    first = First::reserved;
  } else if (read && r.status == 202 && a.status == "waiting") {
    first = First::waiting;
  } else if (read && r.status >= 400) {
    const auto reason = reason_named(a.type);
    if (reason && documented_status(*reason) != 0) {
      first = First::refused;
      c.reason = *reason;
    }
  }
  if (first == First::none) return unexpected({.index = i, .kind = attempt}, r);

  c.first = first;
  c.status = static_cast<std::uint16_t>(r.status);
  c.seq = a.seq;
  c.position = a.position;
  c.place = a.place;
  c.digest = digest_of(r.body);
  c.sent_ms = wall_ms(sent_us);
  c.answered_ms = wall_ms(now);
  if (record_ != nullptr) record_->answer(i, c);

  ++report_.first[static_cast<std::size_t>(first)];
  if (first == First::refused) ++report_.refused[static_cast<std::size_t>(c.reason)];
  report_.attempt_service.record(static_cast<std::uint64_t>(now - sent_us));
  const std::int64_t due = options_.closed_loop ? sent_us : start_us_ + arrivals_[i];
  report_.attempt_latency.record(static_cast<std::uint64_t>(std::max<std::int64_t>(now - due, 0)));
  last_answer_us_ = now;
  const std::int64_t second = (now - start_us_) / 1'000'000;
  if (second != second_) {
    report_.peak_per_second = std::max(report_.peak_per_second, in_second_);
    second_ = second;
    in_second_ = 0;
  }
  ++in_second_;

  if (first == First::reserved) hold(i, now);
  if (first == First::waiting) line_[c.quantity].emplace(c.seq, i);
  if (plans_[i].repeats) {
    const double delay = random_.uniform() * options_.retry_within_seconds * 1e6;
    driver_.submit_at({.index = i, .kind = repeat}, now + static_cast<std::int64_t>(delay));
  }
}

// What a customer does who has been told that units are held for him.
void Crowd::hold(std::uint32_t i, std::int64_t now) {
  const double seconds = options_.pay_delay_from +
                         random_.uniform() * (options_.pay_delay_to - options_.pay_delay_from);
  const std::int64_t due = now + static_cast<std::int64_t>(seconds * 1e6);
  switch (plans_[i].intent) {
    case pay: return driver_.submit_at({.index = i, .kind = payment, .urgent = true}, due);
    case give_up: return driver_.submit_at({.index = i, .kind = cancel, .urgent = true}, due);
    case leave: ++report_.left;
  }
}

void Crowd::on_payment(std::uint32_t i, const Response& r) {
  Claim& c = claims_[i];
  Answer a;
  const bool read = reader_.read(r.body, info_.sku, a);
  if (read && r.status == 200 && a.status == "ordered") {
    c.payment = PaymentAnswer::ordered;
    ++report_.paid;
  } else if (read && r.status == 200 && a.status == "refund_due") {
    c.payment = PaymentAnswer::refund_due;
    ++report_.refund_due;
  } else {
    c.payment = PaymentAnswer::refused;
    ++report_.payments_refused;
    unexpected({.index = i, .kind = payment}, r);
  }
  if (record_ != nullptr) record_->payment(i, c);
}

void Crowd::on_cancel(std::uint32_t i, const Response& r) {
  Claim& c = claims_[i];
  Answer a;
  const bool read = reader_.read(r.body, info_.sku, a);
  if (read && r.status == 200 && a.status == "cancelled") {
    c.cancel = CancelAnswer::cancelled;
    ++report_.given_up;
  } else if (read && r.status == 200 && a.status == "declined") {
    c.cancel = CancelAnswer::declined;
    ++report_.given_up;
  } else if (r.status == 409) {
    // The hold had expired; or this repeats a cancellation whose answer was lost.
    c.cancel = CancelAnswer::refused;
    ++report_.give_up_refused;
  } else {
    c.cancel = CancelAnswer::refused;
    unexpected({.index = i, .kind = cancel}, r);
  }
  if (record_ != nullptr) record_->cancel(i, c);
}

void Crowd::on_look(std::uint32_t i, const Response& r, std::int64_t now) {
  --looks_;
  plans_[i].looking = false;
  Claim& c = claims_[i];
  Answer a;
  const bool read = r.status == 200 && reader_.read(r.body, info_.sku, a);
  const auto status = status_named(a.status);
  if (!read || !status) {
    unexpected({.index = i, .kind = look}, r);
    line_[c.quantity].erase(c.seq);
    return;
  }
  if (*status == PurchaseStatus::waiting) {
    c.waiting_at = std::max(c.waiting_at, a.position);
    return;
  }
  line_[c.quantity].erase(c.seq);
  if (*status == PurchaseStatus::released) {
    // At the end of a sale the whole line is released at once: no need to ask everyone.
    if (a.reason != Reason::insufficient_stock) line_.clear();
    return;
  }
  if (c.offered_at == 0) {
    c.offered_at = a.position;
    ++report_.offered;
  }
  if (*status == PurchaseStatus::offered) hold(i, now);
  look_at_head(now);  // the head has moved on
}

// Looks at the first few of each line that were not looked at a moment ago.
void Crowd::look_at_head(std::int64_t now) {
  for (const auto& [quantity, line] : line_) {
    std::size_t n = 0;
    for (const auto& [seq, i] : line) {
      if (++n > kHead) break;
      Plan& p = plans_[i];
      if (p.looking || now - p.looked_us < kLookUs) continue;
      p.looking = true;
      p.looked_us = now;
      ++looks_;
      driver_.submit({.index = i, .kind = look, .urgent = true});
    }
  }
}

void Crowd::unexpected(const Task& task, const Response& r) {
  ++report_.unexpected[r.status];
  if (r.status == 401) token_refused_ = true;
  if (report_.first_unexpected.empty()) {
    constexpr std::array kNames = {"attempt", "repeat", "payment",
                                   "cancel",  "look",   "look at sale"};
    report_.first_unexpected =
        fmt::format("{} {}: {} {}", kNames[task.kind], task.index, r.status, r.body.substr(0, 300));
  }
}

bool Crowd::tick(std::int64_t now) {
  if (record_ != nullptr) record_->flush();
  (*progress_)(*this);
  if (*interrupted_ != 0 || token_refused_) return false;

  if (now - last_look_us_ >= kLookUs && now >= start_us_) {
    last_look_us_ = now;
    look_at_head(now);
    if (!looking_at_sale_) {
      looking_at_sale_ = true;
      ++looks_;
      driver_.submit({.index = 0, .kind = look_at_sale, .urgent = true});
    }
  }
  const bool busy = !driver_.all_arrived() || driver_.unanswered() > looks_;
  if (busy && !driver_.all_arrived()) return true;
  if (all_answered_us_ == 0) all_answered_us_ = now;
  const auto bound = static_cast<std::int64_t>(options_.settle_seconds * 1e6);
  if (now - all_answered_us_ > bound) return false;
  if (busy) return true;
  if (!options_.until_settled) return false;
  // Settled: seen after everything was answered, nothing is held and nobody waits for anything.
  const bool seen = sale_seen_us_ > all_answered_us_ && sale_seen_us_ > last_answer_us_;
  const bool over = sale_.state == "ended" || sale_.state == "closed";
  report_.settled = seen && sale_.held == 0 && (sale_.waiting == 0 || over);
  return !report_.settled;
}

}  // namespace fairsale::rush
