// The API's routes. One Desk per worker: it answers the worker's requests and drives the shard of
// the same number. What belongs to another shard goes there by mail and its answer comes back by
// mail, once per turn and not per purchase.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <variant>
#include <vector>

#include "api/auth.hpp"
#include "api/bodies.hpp"
#include "api/cluster/member.hpp"
#include "api/config.hpp"
#include "api/http/worker.hpp"
#include "api/metrics.hpp"
#include "api/pages.hpp"
#include "api/projection_routes.hpp"
#include "api/query.hpp"
#include "api/rate_limit.hpp"
#include "api/streams/event_streams.hpp"
#include "api/webhook_routes.hpp"
#include "core/engine/engine.hpp"
#include "projections/availability.hpp"
#include "projections/line.hpp"
#include "projections/returns.hpp"

namespace fairsale::api {

// The projections of one shard; they live on its thread.
struct ShardProjections {
  // What is to be stored goes into `queue`, if there is one.
  ShardProjections(AvailabilityBoard& board, StretchQueue* queue) : availability(board) {
    if (queue != nullptr) stored.emplace(availability, *queue);
    // In this order: what is stored has been rendered.
    if (stored) all = Observers({&availability, &line, &returns, &*stored});
  }

  AvailabilityProjection availability;
  LineProjection line;
  Returns returns;
  std::optional<ProjectionFollower> stored;
  Observers all{{&availability, &line, &returns}};
};

struct EventMail {
  SkuId sku;
  Event event;
  Reply reply;
};

struct AnswerMail {
  http::Ticket ticket;
  std::uint16_t origin = 0;  // as in Query
  int status = 0;
  std::string_view content_type;  // a literal
  std::string headers;
  std::string body;
};

// What streams of one desk want to know of purchases of another's shard, and the answers.
struct LookMail {
  std::uint16_t origin = 0;
  std::vector<Look> looks;
};

struct LookedMail {
  std::vector<Looked> looked;
};

using Mail = std::variant<EventMail, Query, AnswerMail, LookMail, PurchaseStream, LookedMail>;

// Bounded for events, queries and looks; answers always fit, since each is of a request let in
// earlier.
class Mailbox {
 public:
  static constexpr std::size_t kLimit = 65'536;

  // Moves the batch in; returns false, and leaves it, when events and queries would overflow it.
  bool put(std::vector<Mail>& batch) { return add(batch, false); }
  void put_answers(std::vector<Mail>& batch) { add(batch, true); }
  // Swaps the content into `out` (which must be empty).
  void take(std::vector<Mail>& out);
  // Returns when there is mail, or after `patience`.
  void wait(std::chrono::milliseconds patience);

 private:
  bool add(std::vector<Mail>& batch, bool always);

  std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<Mail> mail_;
};

class Audits;
class Clerk;
class Cluster;
class Explainer;

// What all desks share.
struct Office {
  const ServerConfig& config;
  Engine& engine;
  const Clock& clock;
  AvailabilityBoard& board;
  Metrics& metrics;
  RateLimiter& customer_limiter;
  RateLimiter& address_limiter;
  Projector* projector = nullptr;  // none when nothing is kept on disk
  MessageHub* hub = nullptr;       // likewise
  StreamCount* streams = nullptr;
  std::string_view openapi;
  const Pages& pages;
  std::vector<std::unique_ptr<Mailbox>> mailboxes;
  std::vector<http::Worker*> workers;
  std::atomic<std::size_t> serving{0};  // workers whose loop is running
  Explainer* explainer = nullptr;
  Clerk* clerk = nullptr;
  Clerk* redeliveries = nullptr;  // these wait for others' servers, and nothing else is to
  const WebhookRoutes* webhooks = nullptr;
  const Dispatcher* dispatcher = nullptr;  // none when nothing is kept on disk
  Audits* audits = nullptr;                // none when nothing is kept on disk
  Cluster* cluster = nullptr;              // none when this server is alone
  // Called when the log has failed: never returns. Nothing may be acknowledged any more.
  void (*fail)(const Error&) = nullptr;

  // From any thread: the answer goes to the desk that has the request.
  void deliver(std::uint16_t origin, AnswerMail);
};

class Desk final : public http::Service, public MemberDesk {
 public:
  Desk(Office& office, std::size_t index, const Secrets& secrets, ShardProjections& projections);

  void on_request(const http::Request&, http::Ticket) override;
  std::chrono::steady_clock::time_point on_turn() override;
  void on_decided(const fairsale::Ticket&, SkuId, Seq, const Event&, const Decision&,
                  const Sale&) override;
  void on_refused(const fairsale::Ticket&, const Event&, Admission) override;
  void on_followed(const Ordered&, const Head& after) override;
  void give(const Reply&, const Rendered&) override;
  void give_up(const Reply&, bool sent) override;
  void take_forwarded(Query, http::Ticket slot) override;
  std::shared_ptr<const Availability> look_of(SkuId sku) override {
    return projections_.availability.latest(sku);
  }
  void on_stream_closed(http::Ticket t) override { closed_streams_.push_back(t); }

  // After this worker's loop has ended: drives the shard for the others until theirs have too.
  void serve_others();

 private:
  struct SaleWait {
    SkuName sku;
    Seq min_seq;
    http::Ticket ticket;
    std::chrono::steady_clock::time_point asked;
  };

  // An answer that tells of what other processors of a cluster may not have, and may be taken back.
  struct Held {
    SkuId sku;
    cluster::Position at;
    std::chrono::steady_clock::time_point asked;
    AnswerMail answer{};
  };

  // A read of a stored projection that waits for its min_seq.
  struct ProjectionWait {
    ProjectionRoutes::Read read;
    Seq min_seq;
    http::Ticket ticket;
    std::chrono::steady_clock::time_point deadline;
  };

  // Routes.
  void list_sales(const http::Request&, http::Ticket);
  void get_sale(const http::Request&, http::Ticket, const SkuName&);
  void put_sale(const http::Request&, http::Ticket, const SkuName&);
  void patch_sale(const http::Request&, http::Ticket, const SkuName&);
  void post_purchase(const http::Request&, http::Ticket, const SkuName&, const Principal&);
  void get_purchases(const http::Request&, http::Ticket, const SkuName&, const Principal&);
  void get_line(const http::Request&, http::Ticket, const SkuName&);
  void stream_sale(const http::Request&, http::Ticket, const SkuName&);
  void stream_decisions(const http::Request&, http::Ticket, const SkuName&);
  void with_purchase(const http::Request&, http::Ticket, std::string_view id,
                     std::string_view rest);
  void post_token(const http::Request&, http::Ticket);
  void post_payment_callback(const http::Request&, http::Ticket);
  void send_payment(http::Ticket, const SkuName&, Seq purchase, const PaymentBody&,
                    const Principal&);
  void post_guest(const http::Request&, http::Ticket);
  void get_stats(const http::Request&, http::Ticket);
  void get_metrics(http::Ticket);
  void route_audits(const http::Request&, http::Ticket);
  void get_page(const http::Request&, http::Ticket);
  void pay_in_demo(const http::Request&, http::Ticket, Query);
  void respond_token(http::Ticket, std::string_view customer, std::int64_t ttl_seconds);
  void read_projection(const http::Request&, http::Ticket, const SkuName&, StoredProjection);
  void route_projections(const http::Request&, http::Ticket, const http::PathSegments&);
  void respond(http::Ticket, const ProjectionRoutes::Answer&);
  void route_webhooks(const http::Request&, http::Ticket, const http::PathSegments&);
  void by_clerk(Clerk&, http::Ticket,
                std::function<ProjectionRoutes::Answer(const WebhookRoutes&)>);
  void route_sale(const http::Request&, http::Ticket, const SkuName&, std::string_view rest);

  // Gates: each answers by itself and returns false when the request may not pass.
  bool authenticate(const http::Request&, http::Ticket, Principal&);
  bool allow(http::Ticket, const Principal&, bool role_ok);
  bool admit(const http::Request&, http::Ticket, const Principal&, std::string_view customer);
  bool json_body(const http::Request&, http::Ticket);
  bool min_seq(const http::Request&, http::Ticket, Seq&);
  bool last_event_id(const http::Request&, http::Ticket, std::optional<Cursor>&);
  // Of streams that follow the outbox.
  bool outbox_kept(http::Ticket);
  bool page_limit(const http::Request&, http::Ticket, std::uint32_t&,
                  std::uint32_t most = kMaxPage);
  bool method(const http::Request&, http::Ticket, http::Method wanted, std::string_view allowed);

  // To a shard, here or elsewhere.
  void send(SkuId, const Event&, const Reply&);
  void send(const Query&);
  void watch_snapshots();
  // Valid until the next call; nothing when there is no such sale.
  const Availability* find_sale(const SkuName& sku);
  void submit(SkuId, const Event&, const Reply&);
  void refuse_event(const Reply&, Admission);
  void get_cluster(const http::Request&, http::Ticket);
  void run(Query);
  bool come_to(const Query&) const;
  std::chrono::steady_clock::time_point knows_until(const SkuName&) const;
  void unknown_sale(http::Ticket, const SkuName&);
  bool elsewhere(http::Ticket, const SkuName&);
  void go_on(const Query&);
  void answer_query(const Query&);
  void answer_events(const Query&, const Sale&, PurchaseIndex, SkuId);
  void begin(const PurchaseStream&);
  void too_many_streams(http::Ticket);
  std::chrono::steady_clock::time_point serve_streams();
  void look(const std::vector<Look>&, std::vector<Looked>&);
  void act(const Query&);
  void read_mail();
  void post_mail();
  void post_answers();

  // Answers, to a request of this desk or another's.
  void reply(std::uint16_t origin, http::Ticket, int status, std::string_view content_type,
             std::string_view headers, std::string_view body);
  void problem(std::uint16_t origin, http::Ticket, int status, std::string_view name,
               std::string_view title, std::string_view detail, std::string_view headers = {},
               std::string_view extra = {});
  void problem(http::Ticket t, int status, std::string_view name, std::string_view title,
               std::string_view detail, std::string_view headers = {}) {
    problem(index_, t, status, name, title, detail, headers);
  }
  void refuse(std::uint16_t origin, http::Ticket, Reason, std::string_view sku, Seq purchase,
              Seq position, bool repeated = false);
  void bad_request(http::Ticket, std::string_view detail);
  void not_found(http::Ticket t) { not_found(index_, t); }
  void not_found(std::uint16_t origin, http::Ticket);
  void respond_sale(http::Ticket, const Availability&, std::string_view if_none_match);
  void answer_attempt(const Reply&, Seq, const Event&, const Decision&, const Sale&);
  void append_purchase(std::string& out, const Sale&, PurchaseIndex, SkuId);
  std::optional<Standing> standing(const Sale&, PurchaseIndex, SkuId) const;
  void answer_looks();
  void check_waits();
  std::size_t waiting() const {
    return sale_waits_.size() + waits_.size() + held_.size() + projection_waits_.size();
  }
  bool may_wait(std::uint16_t origin, http::Ticket, Seq wanted, Seq position);
  void too_late(std::uint16_t origin, http::Ticket);
  void overloaded(std::uint16_t origin, http::Ticket);
  void stopping(http::Ticket);
  void count();

  static constexpr std::uint32_t kMaxPage = 1000;  // entries of one listing

  Office& office_;
  std::uint16_t index_;
  http::Worker* worker_ = nullptr;
  Sequencer& shard_;
  Member* const member_;  // of a cluster; null without one
  ShardProjections& projections_;
  Authenticator authenticator_;
  const std::string payment_secret_;  // empty: no callbacks are taken
  BodyReader bodies_;
  ProjectionRoutes stored_;
  EventStreams streams_;

  std::vector<Mail> incoming_;
  std::size_t read_ = 0;  // of incoming_; the rest waits for room in the shard's inbox
  std::vector<std::vector<Mail>> outgoing_;  // events and queries, by desk
  std::vector<std::vector<Mail>> answers_;   // by desk
  std::vector<Query> looks_;                 // to be answered after this turn
  std::vector<Query> waits_;                 // to be answered once their min_seq is reached
  std::vector<SaleWait> sale_waits_;
  std::vector<Held> held_;
  Held* holds_ = nullptr;  // what is being answered
  std::vector<ProjectionWait> projection_waits_;
  std::chrono::steady_clock::time_point next_check_{};  // of those who wait
  std::vector<http::Ticket> closed_streams_;            // since the last turn
  std::vector<Look> stream_looks_;
  std::vector<std::vector<Look>> looks_at_;  // those, by the desk that owns the purchase
  std::vector<Looked> looked_;
  std::string body_;
  std::string headers_;

  // Since the last turn, for metrics.
  std::array<std::uint32_t, Metrics::kKinds> kinds_{};
  std::array<std::uint32_t, Metrics::kReasons> reasons_{};
  bool counted_ = false;
  std::uint32_t requests_ = 0;
  std::uint32_t rate_limited_ = 0;
  std::uint32_t overloaded_ = 0;
  std::uint32_t denied_ = 0;
  http::WorkerStats last_stats_;
  // The sale that was looked at last, by find_sale().
  std::shared_ptr<const Availability> seen_;
  SkuName seen_name_;
  std::uint64_t seen_version_ = ~std::uint64_t{0};

  std::size_t last_skus_ = 0;
  std::uint64_t snapshots_ = 0;  // taken, as counted
};

}  // namespace fairsale::api
