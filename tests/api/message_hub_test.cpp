// Whoever listens gets every message behind its cursor once and in order, whatever happens to the
// store, to the desks and to those who come and go beside it.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <rocksdb/env.h>

#include <map>
#include <set>

#include "api/streams/message_hub.hpp"
#include "api/streams/sse.hpp"
#include "core/log/memory_log.hpp"
#include "projections/outbox/message.hpp"
#include "tests/projections/life.hpp"

namespace fairsale::test {
namespace {

using api::Frame;
using api::MessageHub;
using std::chrono::milliseconds;

constexpr std::size_t kDesks = 2;

// A client with a stream that it may lose and resume.
struct Listener {
  std::string sku;
  Seq purchase;
  Cursor began;
  Cursor seen;  // what it resumes after
  std::vector<std::string> got;
  bool there = true;

  std::vector<std::string> due(const EventLog& log) const {
    std::vector<std::string> all;
    for (const MessageRow& m : said(log, sku_id(sku))) {
      const bool its = purchase.value == 0 || (concerns_purchase(m) && m.purchase == purchase);
      const Cursor at{m.position, m.number};
      if (!its || at <= began) continue;
      std::string data;
      append_message_json(data, sku, m);
      api::append_event(all.emplace_back(), name_of(m.kind), api::event_id(at), data);
    }
    return all;
  }
};

std::string line_of(std::string_view text, std::string_view field) {
  const std::size_t at = text.find(field);
  if (at == std::string_view::npos) return {};
  return std::string(text.substr(at + field.size(), text.find('\n', at) - at - field.size()));
}

// Desks with their trays, and a hub that works when it is told to.
class Desks {
 public:
  Desks(MessageHub::StoreSource store, const api::MessageHubOptions& options)
      : hub(
            std::move(store), kDesks, [this](std::size_t desk) { woken.insert(desk); }, options) {}

  void come(std::uint16_t desk, std::uint32_t connection, Listener who) {
    who.seen = who.began;
    if (const auto old = at_.find({desk, connection}); old != at_.end()) old->second->there = false;
    ++at(desk, connection).generation;
    at_[{desk, connection}] = &all_.emplace_back(std::move(who));
    subscribe(desk, connection);
  }
  // `told`: the hub is told, as it is at once or when another has the place already.
  void leave(std::uint16_t desk, std::uint32_t connection) {
    const auto found = at_.find({desk, connection});
    if (found == at_.end()) return;
    hub.unsubscribe(desk, ticket(desk, connection));
    found->second->there = false;
    at_.erase(found);
  }
  // Ends its subscription and begins another on the same stream, as a desk does for who is slow.
  void go_on(std::uint16_t desk, std::uint32_t connection) {
    if (!at_.contains({desk, connection})) return;
    hub.unsubscribe(desk, ticket(desk, connection));
    subscribe(desk, connection);
  }
  // Loses its stream and resumes.
  void resume(std::uint16_t desk, std::uint32_t connection, bool left_first) {
    if (!at_.contains({desk, connection})) return;
    const http::Ticket old = ticket(desk, connection);
    if (left_first) hub.unsubscribe(desk, old);
    ++at(desk, connection).generation;
    subscribe(desk, connection);
    if (!left_first) hub.unsubscribe(desk, old);
  }

  // Returns whether there was anything but heartbeats.
  bool take(std::uint16_t desk) {
    woken.erase(desk);
    std::vector<Frame> frames;
    hub.tray(desk).take(frames);
    bool any = false;
    for (const Frame& f : frames) {
      const auto found = at_.find({desk, f.ticket.connection});
      const Stream& stream = at(desk, f.ticket.connection);
      if (found == at_.end() || f.ticket.generation != stream.generation ||
          f.number != stream.subscription) {
        continue;
      }
      Listener& it = *found->second;
      any = any || f.message || !f.bytes;
      if (!f.bytes) {
        resume(desk, f.ticket.connection, true);
        ++ended;
        continue;
      }
      if (f.message) it.got.push_back(*f.bytes);
      if (const std::string id = line_of(*f.bytes, "id: "); !id.empty()) {
        const auto cursor = api::parse_event_id(id);
        RC_ASSERT(cursor.has_value());
        RC_ASSERT(*cursor >= it.seen);
        it.seen = *cursor;
      }
    }
    return any;
  }

  // What each has got is what it was to get, up to where those stood who have left.
  void check(const EventLog& log) const {
    for (const Listener& it : all_) {
      std::vector<std::string> due = it.due(log);
      if (!it.there && due.size() > it.got.size()) due.resize(it.got.size());
      RC_ASSERT(it.got == due);
    }
  }

  std::size_t told() const {
    std::size_t n = 0;
    for (const Listener& it : all_) n += it.got.size();
    return n;
  }

  MessageHub hub;
  std::set<std::size_t> woken;
  std::size_t ended = 0;

 private:
  using Place = std::pair<std::uint16_t, std::uint32_t>;
  struct Stream {
    std::uint32_t generation = 0;
    std::uint32_t subscription = 0;
  };

  Stream& at(std::uint16_t desk, std::uint32_t connection) { return streams_[{desk, connection}]; }
  http::Ticket ticket(std::uint16_t desk, std::uint32_t connection) {
    return {connection, at(desk, connection).generation, 0};
  }
  void subscribe(std::uint16_t desk, std::uint32_t connection) {
    const Listener& it = *at_[{desk, connection}];
    hub.subscribe({.desk = desk,
                   .ticket = ticket(desk, connection),
                   .number = ++at(desk, connection).subscription,
                   .sku = sku_id(it.sku),
                   .name = *SkuName::from(it.sku),
                   .purchase = it.purchase,
                   .after = it.seen});
  }

  std::deque<Listener> all_;
  std::map<Place, Listener*> at_;
  std::map<Place, Stream> streams_;
};

// Evenly, also in the first cases, in which ranges are short otherwise.
template <typename T>
T below(T end) {
  return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<T>(0, end));
}

TEST(MessageHub, EveryListenerGetsEveryMessageBehindItsCursorOnceAndInOrder) {
  std::size_t ended = 0;
  std::size_t told = 0;
  ASSERT_TRUE(rc::check([&] {
    const std::unique_ptr<rocksdb::Env> disk(rocksdb::NewMemEnv(rocksdb::Env::Default()));
    MemoryLog log;
    ManualClock clock{kStart};
    std::unique_ptr<Life> life;
    bool readable = true;
    int stores = 0;
    // Long heartbeats: nothing may depend on them.
    const milliseconds heartbeat{*rc::gen::element(20, 1'000'000'000)};
    // Small ones often, so that they are full in some of any hundred cases.
    const std::size_t tray = 4 + below<std::size_t>(below(2) == 0 ? 4 : 60);
    Desks desks([&] { return readable ? life->projector.store() : nullptr; },
                {.piece = 1 + below<std::size_t>(5),
                 .fan_out = 1 + below<std::size_t>(30),
                 .near = below<std::uint64_t>(20),
                 .tray = tray,
                 .heartbeat = heartbeat,
                 .retry_after = milliseconds(below(5)),
                 .report = {}});
    const auto live = [&] {
      life.reset();
      life = std::make_unique<Life>(log, fmt::format("/projections-{}", stores), clock,
                                    1 + below<std::uint64_t>(40), disk.get());
      life->grew = [&desks](SkuId sku) { desks.hub.grew(sku); };
    };
    live();
    const std::vector<std::string> skus{"demo", "other", "third"};
    for (const auto& sku : skus) life->now(sku, scheduled(sku, 3));
    std::vector<Seq> purchases;
    MessageHub::TimePoint now{};
    const auto desk = [] { return below<std::uint16_t>(kDesks); };
    const auto connection = [] { return below<std::uint32_t>(6); };
    const auto steps = *rc::gen::inRange(20, 200);
    for (int i = 0; i < steps; ++i) {
      const std::string& sku = skus[below(skus.size())];
      switch (below(18)) {
        case 0: live(); break;
        case 1:
          // The store is lost and built anew from the log.
          if (below(4) == 0) ++stores;
          live();
          break;
        case 2: readable = !readable; break;
        case 3:
          clock.advance(Duration{1 + below(70'000)});
          life->turn();
          break;
        case 4:
          if (!purchases.empty()) life->now(sku, payment(*rc::gen::elementOf(purchases)));
          break;
        case 5:
        case 6: life->projector.work(); break;
        case 7:
        case 8: {
          const std::uint64_t head = 1 + life->sequencer.find(sku_id(sku))->seq().value;
          const Seq at{below<std::uint64_t>(head + 3)};
          const Cursor after = below(2) == 0 ? Cursor::past(at) : Cursor{at, below(3u)};
          const Seq purchase{below(2) == 0 ? 0 : below<std::uint64_t>(head + 3)};
          desks.come(desk(), connection(),
                     {.sku = sku, .purchase = purchase, .began = after, .seen = {}, .got = {}});
          break;
        }
        case 9: desks.leave(desk(), connection()); break;
        case 10: desks.go_on(desk(), connection()); break;
        case 11: desks.resume(desk(), connection(), below(2) == 0); break;
        case 12: desks.take(desk()); break;
        case 13:
        case 14:
          now += milliseconds(below(30));
          desks.hub.work(now);
          break;
        default:
          for (int n = below(6); n >= 0; --n) {
            purchases.push_back(life->now(sku, attempt(below(100))).purchase);
          }
      }
    }
    readable = true;
    life->settle();
    for (int quiet = 0; quiet < 10; ++quiet) {
      now += milliseconds(1);
      bool more = desks.hub.work(now);
      for (std::uint16_t d = 0; d < kDesks; ++d) more = desks.take(d) || more;
      if (more) quiet = 0;
    }
    desks.check(log);
    ended += desks.ended;
    told += desks.told();
  }));
  EXPECT_GT(ended, 0U) << "no tray was ever full";
  EXPECT_GT(told, 1000U);
}

// Although others are read well in between.
TEST(MessageHub, TellsOfATroubleOnce) {
  const std::unique_ptr<rocksdb::Env> disk(rocksdb::NewMemEnv(rocksdb::Env::Default()));
  MemoryLog log;
  ManualClock clock{kStart};
  auto life = std::make_unique<Life>(log, "/first", clock, 8192, disk.get());
  std::vector<std::string> reports;
  Desks desks([&] { return life->projector.store(); },
              {.retry_after = milliseconds(1),
               .report = [&](const Error& e) { reports.push_back(e.message); }});
  for (const char* sku : {"demo", "other"}) life->now(sku, scheduled(sku, 3));
  life->settle();
  MessageHub::TimePoint now{};
  const auto work = [&] {
    now += milliseconds(1);
    while (desks.hub.work(now)) {
    }
    desks.take(0);
  };
  desks.come(0, 1, {.sku = "demo", .purchase = {}, .began = {}, .seen = {}, .got = {}});
  desks.come(0, 2, {.sku = "other", .purchase = {}, .began = {}, .seen = {}, .got = {}});
  work();
  ASSERT_TRUE(reports.empty());

  // The store is lost, and one comes who wants what is not in the new one yet.
  life.reset();
  life = std::make_unique<Life>(log, "/second", clock, 8192, disk.get());
  desks.come(0, 3, {.sku = "demo", .purchase = {}, .began = {}, .seen = {}, .got = {}});
  for (int i = 0; i < 10; ++i) {
    desks.hub.grew(sku_id("other"));
    work();
  }
  EXPECT_EQ(reports.size(), 1U);
  life->settle();
  for (int i = 0; i < 10; ++i) work();
  desks.check(log);
  EXPECT_EQ(reports.size(), 1U);
}

}  // namespace
}  // namespace fairsale::test
