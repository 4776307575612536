#include "api/streams/event_streams.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "api/streams/sse.hpp"
#include "core/json/json.hpp"
#include "projections/outbox/message.hpp"

namespace fairsale::api {

namespace {

using std::chrono::milliseconds;

constexpr std::string_view kNoStore = "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n";
constexpr milliseconds kRound{500};  // at most one frame of a sale in this time
// With very many streams a round takes longer, so that they take a bounded part of a core.
constexpr std::chrono::microseconds kRoundPerStream{200};
constexpr milliseconds kHeartbeat{10'000};
constexpr milliseconds kLookEvery{2'000};   // at who waits
constexpr milliseconds kLookAgain{30'000};  // at others, unless there is a message
// Of one turn, which sends some ten microseconds at each frame: purchases wait for it.
constexpr std::size_t kVisits = 1024;
constexpr std::size_t kSaleFrames = 8;
constexpr std::size_t kLooks = 128;
constexpr std::size_t kTrayFrames = 16;
// Unsent, a stream is sent no more messages: well below what ends it (http::Limits::stream_bytes).
constexpr std::size_t kMuch = 65'536;
constexpr milliseconds kGoOnEvery{20};  // who is behind is looked at

}  // namespace

void append_standing(std::string& out, const Standing& s) {
  JsonWriter json(out);
  json.begin_object()
      .member("place", s.place)
      .member("units_ahead", s.units_ahead)
      .member("units_may_return", s.units_may_return)
      .key("eta_seconds");
  if (s.eta) {
    json.value((s.eta->value + 999) / 1000);
  } else {
    json.null();
  }
  json.end_object();
}

EventStreams::EventStreams(http::Worker& worker, const AvailabilityBoard& board, const Clock& clock,
                           MessageHub* hub, std::uint16_t desk, StreamCount& count)
    : worker_(worker), board_(board), clock_(clock), hub_(hub), desk_(desk), count_(count) {}

bool EventStreams::admit() {
  if (count_.open.fetch_add(1) < count_.most) return true;
  count_.open.fetch_sub(1);
  return false;
}

// After admit(). False when no stream has begun: the client has gone, or asked for the header only.
bool EventStreams::begin(Stream s, std::string_view first) {
  if (!worker_.begin_stream(s.ticket, {200, kEventStream, kNoStore, first})) {
    count_.open.fetch_sub(1);
    return false;
  }
  if (index_.size() <= s.ticket.connection) index_.resize(s.ticket.connection + std::size_t{1});
  streams_.push_back(std::move(s));
  index_[streams_.back().ticket.connection] = static_cast<std::uint32_t>(streams_.size());
  return true;
}

bool EventStreams::begin_sale(http::Ticket t, std::shared_ptr<const Availability> sale,
                              std::optional<Cursor> seen) {
  if (!admit()) return false;
  const auto watched = watches_.try_emplace(sale->sku.value).first;
  if (!watched->second.now) show(watched->second, std::move(sale));
  refresh(watched->second);
  const Seq position = watched->second.now->position;
  scratch_ = kEventStreamStart;
  if (!seen || *seen != Cursor::past(position)) scratch_ += watched->second.frame;
  ++watched->second.watchers;
  const bool begun = begin({.ticket = t,
                            .kind = Kind::sale,
                            .watched = watched,
                            .sent = position,
                            .due = worker_.now() + kHeartbeat},
                           scratch_);
  if (begun) {
    ++sale_streams_;
  } else if (--watched->second.watchers == 0) {
    watches_.erase(watched);
  }
  return true;
}

bool EventStreams::begin_decisions(http::Ticket t, const Availability& sale, Cursor after) {
  if (!admit()) return false;
  scratch_ = kEventStreamStart;
  append_position(scratch_, event_id(after));
  if (begin(
          {.ticket = t, .kind = Kind::decisions, .sku = sale.sku, .name = sale.name, .told = after},
          scratch_)) {
    subscribe(streams_.back());
  }
  return true;
}

bool EventStreams::begin_purchase(const PurchaseStream& p) {
  if (!admit()) return false;
  scratch_ = kEventStreamStart;
  if (!p.document.empty()) append_event(scratch_, "purchase", event_id(p.after), p.document);
  if (begin({.ticket = p.ticket,
             .kind = Kind::purchase,
             .sku = p.sku,
             .name = p.name,
             .purchase = p.purchase,
             .told = p.after,
             .due = worker_.now()},
            scratch_)) {
    subscribe(streams_.back());
  }
  return true;
}

void EventStreams::subscribe(Stream& s) {
  hub_->subscribe({.desk = desk_,
                   .ticket = s.ticket,
                   .number = s.subscription,
                   .sku = s.sku,
                   .name = s.name,
                   .purchase = s.purchase,
                   .after = s.told});
}

EventStreams::Stream* EventStreams::find(http::Ticket t) {
  if (t.connection >= index_.size() || index_[t.connection] == 0) return nullptr;
  Stream& s = streams_[index_[t.connection] - 1];
  return s.ticket.generation == t.generation ? &s : nullptr;
}

void EventStreams::closed(http::Ticket t) {
  Stream* s = find(t);
  if (s == nullptr) return;
  if (s->kind == Kind::sale) {
    --sale_streams_;
    if (--s->watched->second.watchers == 0) watches_.erase(s->watched);
  } else if (!s->behind) {
    hub_->unsubscribe(desk_, t);
  }
  index_[t.connection] = 0;
  if (s != &streams_.back()) {
    *s = std::move(streams_.back());
    index_[s->ticket.connection] = static_cast<std::uint32_t>(s - streams_.data() + 1);
  }
  streams_.pop_back();
  count_.open.fetch_sub(1);
}

// ---- Turns ----

EventStreams::TimePoint EventStreams::turn(std::vector<Look>& looks) {
  now_ = worker_.now();
  read_tray();
  if (streams_.empty()) return read_ < frames_.size() ? now_ : TimePoint::max();
  go_on();
  if (!in_round_ && now_ >= round_at_) {
    in_round_ = true;
    next_ = 0;
    round_at_ = now_ + std::max<std::chrono::microseconds>(kRound, sale_streams_ * kRoundPerStream);
  }
  if (in_round_) {
    sent_ = 0;
    std::size_t visits = 0;
    while (next_ < streams_.size() && visits < kVisits && sent_ < kSaleFrames &&
           looks.size() < kLooks) {
      visit(streams_[next_++], looks);
      ++visits;
    }
    in_round_ = next_ < streams_.size();
  }
  const bool more = in_round_ || read_ < frames_.size();
  if (more) return now_;
  return behind_.empty() ? round_at_ : std::min(round_at_, go_on_at_);
}

void EventStreams::refresh(Watched& w) {
  const std::uint64_t version = board_.version();
  if (version == w.version) return;
  w.version = version;
  auto now = board_.find(w.now->name.view());
  if (now != nullptr && now != w.now) show(w, std::move(now));
}

void EventStreams::show(Watched& w, std::shared_ptr<const Availability> now) {
  w.now = std::move(now);
  w.frame.clear();
  append_event(w.frame, "sale", event_id(Cursor::past(w.now->position)), w.now->json());
}

void EventStreams::visit(Stream& s, std::vector<Look>& looks) {
  switch (s.kind) {
    case Kind::sale: {
      Watched& w = s.watched->second;
      refresh(w);
      if (w.now->position != s.sent) {
        s.sent = w.now->position;
        worker_.send(s.ticket, w.frame);
      } else if (now_ >= s.due) {
        worker_.send(s.ticket, kComment);
      } else {
        return;
      }
      ++sent_;
      s.due = now_ + kHeartbeat;
      return;
    }
    case Kind::purchase:
      if (now_ < s.due) return;
      s.due = now_ + kLookAgain;
      looks.push_back({s.ticket, s.sku, s.purchase});
      return;
    case Kind::decisions: return;
  }
}

void EventStreams::read_tray() {
  if (hub_ == nullptr) return;
  if (read_ == frames_.size()) {
    frames_.clear();
    read_ = 0;
    hub_->tray(desk_).take(frames_);
  }
  const std::size_t end = std::min(frames_.size(), read_ + kTrayFrames);
  for (; read_ < end; ++read_) {
    Frame& f = frames_[read_];
    const auto bytes = std::move(f.bytes);
    Stream* s = find(f.ticket);
    if (s == nullptr || s->behind || s->subscription != f.number) continue;
    if (!bytes) {
      worker_.end(f.ticket);
      continue;
    }
    if (f.message && worker_.unsent(f.ticket) > kMuch) {
      hub_->unsubscribe(desk_, f.ticket);
      s->behind = true;
      ++s->subscription;
      behind_.push_back(f.ticket);
      continue;
    }
    worker_.send(f.ticket, *bytes);
    if (!f.message) continue;
    s->told = f.at;
    // It stands otherwise than when it was looked at.
    if (s->kind == Kind::purchase) s->due = now_;
  }
}

// Subscribes those again who can take more.
void EventStreams::go_on() {
  if (behind_.empty() || now_ < go_on_at_) return;
  go_on_at_ = now_ + kGoOnEvery;
  std::erase_if(behind_, [this](const http::Ticket& t) {
    Stream* s = find(t);
    if (s == nullptr) return true;
    if (worker_.unsent(t) > 0) return false;
    s->behind = false;
    subscribe(*s);
    return true;
  });
}

void EventStreams::looked(const Looked& l) {
  Stream* s = find(l.ticket);
  if (s == nullptr) return;
  if (l.standing) {
    s->due = std::min(s->due, now_ + kLookEvery);
    if (s->standing == l.standing) return;
    s->standing = l.standing;
    std::string data;
    append_standing(data, *l.standing);
    scratch_.clear();
    append_event(scratch_, "place", {}, data);
    worker_.send(s->ticket, scratch_);
    return;
  }
  s->standing.reset();
  if (l.until.value == 0 || s->announced == l.until) return;
  const std::int64_t left = l.until.value - clock_.now().wall.value;
  const std::int64_t before = reminder_lead(l.hold).value;
  if (left > before) {
    s->due = std::min(s->due, now_ + milliseconds(left - before));
    return;
  }
  s->announced = l.until;
  if (left <= 0) return;
  std::string data;
  JsonWriter(data)
      .begin_object()
      .member("until", l.until)
      .member("seconds", (left + 999) / 1000)
      .end_object();
  scratch_.clear();
  append_event(scratch_, kReminderKind, {}, data);
  worker_.send(s->ticket, scratch_);
}

}  // namespace fairsale::api
