#include "api/desk.hpp"

#include <fmt/compile.h>
#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>

#include "api/audits.hpp"
#include "api/clerk.hpp"
#include "api/cluster/cluster.hpp"
#include "api/explainer.hpp"
#include "api/http/problem.hpp"
#include "api/reasons.hpp"
#include "api/streams/sse.hpp"
#include "projections/delivery/signature.hpp"

namespace fairsale::api {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxWaits = 4096;  // requests that wait for a position
// Of those, who wait for a stored projection: each look costs a read.
constexpr std::size_t kMaxProjectionWaits = 128;
constexpr milliseconds kMinSeqPatience{2000};
constexpr milliseconds kFresh{600};          // what is known, at least, to answer of it
constexpr milliseconds kSureFor{1000};       // likewise, to deny it at once
constexpr milliseconds kMinSeqPoll{2};       // how often those who wait are looked after
constexpr std::uint64_t kMaxAhead = 65'536;  // no sale gets that far within the patience
constexpr std::string_view kRetrySoon = "Retry-After: 1\r\n";
constexpr std::string_view kNoStore = "Cache-Control: no-store\r\n";
constexpr std::string_view kNoStoreReplayed =
    "Cache-Control: no-store\r\nIdempotent-Replayed: true\r\n";

// A log line or header must not be forged by what is echoed: ids are checked before they get here.
template <class... Args>
void append(std::string& out, fmt::format_string<Args...> format, Args&&... args) {
  fmt::format_to(std::back_inserter(out), format, std::forward<Args>(args)...);
}

struct PurchaseId {
  SkuName sku;
  Seq seq;
};

// "demo:17"
std::optional<PurchaseId> parse_purchase_id(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto sku = parse_sku(text.substr(0, colon));
  const auto seq = http::parse_number(text.substr(colon + 1));
  if (!sku || !seq || *seq == 0) return std::nullopt;
  return PurchaseId{*sku, Seq{*seq}};
}

// JSON, or what curl -d claims to send unless told otherwise: the body is parsed as JSON in any
// case, and every request that has one carries its credentials in a header, so no form can forge
// it.
bool may_be_json(std::string_view content_type) {
  std::string_view type = content_type.substr(0, content_type.find(';'));
  while (!type.empty() && (type.back() == ' ' || type.back() == '\t')) type.remove_suffix(1);
  const auto is = [&](std::string_view want) {
    return std::equal(type.begin(), type.end(), want.begin(), want.end(), [](char a, char b) {
      return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b;
    });
  };
  return is("application/json") || is("application/x-www-form-urlencoded");
}

bool has_tag(std::string_view if_none_match, Seq position) {
  if (if_none_match == "*") return true;
  return if_none_match.find(fmt::format("\"{}\"", position.value)) != std::string_view::npos;
}

}  // namespace

// ---- Tickets and mail ----

fairsale::Ticket Reply::pack() const {
  return {{ticket.connection | std::uint64_t{ticket.generation} << 32,
           ticket.request | std::uint64_t{origin} << 32 | static_cast<std::uint64_t>(kind) << 48,
           0}};
}

Reply::Kind Reply::kind_of(const Event& event) {
  struct Of {
    Kind operator()(const SaleScheduled&) const { return Kind::put; }
    Kind operator()(const SaleChanged&) const { return Kind::put; }
    Kind operator()(const SalePaused&) const { return Kind::patch; }
    Kind operator()(const SaleResumed&) const { return Kind::patch; }
    Kind operator()(const SaleClosed&) const { return Kind::patch; }
    Kind operator()(const StockAdjusted&) const { return Kind::patch; }
    Kind operator()(const PurchaseAttempted&) const { return Kind::attempt; }
    Kind operator()(const PurchaseCancelled&) const { return Kind::give_up; }
    Kind operator()(const OfferDeclined&) const { return Kind::give_up; }
    Kind operator()(const PaymentReceived&) const { return Kind::payment; }
    Kind operator()(const PaymentFailed&) const { return Kind::payment; }
    Kind operator()(const OrderRefunded&) const { return Kind::refund; }
    // Nobody asks for it, so that its answer is thrown away.
    Kind operator()(const TimePassed&) const { return Kind::patch; }
  };
  return std::visit(Of{}, event);
}

Reply Reply::unpack(const fairsale::Ticket& t) {
  Reply r;
  r.ticket.connection = static_cast<std::uint32_t>(t.words[0]);
  r.ticket.generation = static_cast<std::uint32_t>(t.words[0] >> 32);
  r.ticket.request = static_cast<std::uint32_t>(t.words[1]);
  r.origin = static_cast<std::uint16_t>(t.words[1] >> 32);
  r.kind = static_cast<Kind>(t.words[1] >> 48 & 0xff);
  return r;
}

bool Mailbox::add(std::vector<Mail>& batch, bool always) {
  {
    const std::scoped_lock lock(mutex_);
    if (!always && mail_.size() + batch.size() > kLimit) return false;
    mail_.insert(mail_.end(), std::make_move_iterator(batch.begin()),
                 std::make_move_iterator(batch.end()));
  }
  batch.clear();
  arrived_.notify_one();
  return true;
}

void Mailbox::take(std::vector<Mail>& out) {
  const std::scoped_lock lock(mutex_);
  out.swap(mail_);
}

void Mailbox::wait(milliseconds patience) {
  std::unique_lock lock(mutex_);
  arrived_.wait_for(lock, patience, [&] { return !mail_.empty(); });
}

void Office::deliver(std::uint16_t origin, AnswerMail mail) {
  const std::uint16_t desk = origin & kDeskOfOrigin;
  mail.origin = origin;
  std::vector<Mail> batch;
  batch.emplace_back(std::move(mail));
  mailboxes[desk]->put_answers(batch);
  workers[desk]->wake();
}

// ---- The desk ----

Desk::Desk(Office& office, std::size_t index, const Secrets& secrets, ShardProjections& projections)
    : office_(office),
      index_(static_cast<std::uint16_t>(index)),
      worker_(office.workers[index]),
      shard_(office.engine.shard(index)),
      member_(office.cluster != nullptr ? &office.cluster->member(index) : nullptr),
      projections_(projections),
      authenticator_(secrets),
      payment_secret_(secrets.payment_secret),
      stored_(office.projector),
      streams_(*worker_, office.board, office.clock, office.hub, index_, *office.streams),
      outgoing_(office.workers.size()),
      answers_(office.workers.size()),
      looks_at_(office.workers.size()) {}

void Desk::on_request(const http::Request& r, http::Ticket t) {
  ++requests_;
  const auto segments = http::split_path(r.path);
  const auto is = [&](std::size_t n, std::string_view s) { return segments[n] == s; };
  char scratch[128];

  if (segments.size >= 2 && segments.size <= 4 && is(0, "v1") &&
      !(segments.size == 4 && is(3, ""))) {
    if (is(1, "sales")) {
      if (segments.size == 2) return list_sales(r, t);
      const auto name = http::percent_decode(segments[2], scratch);
      const auto sku = name ? parse_sku(*name) : std::nullopt;
      if (!sku) return not_found(t);
      return route_sale(r, t, *sku, segments.size == 4 ? segments[3] : std::string_view{});
    }
    if (is(1, "purchases") && segments.size >= 3) {
      const auto id = http::percent_decode(segments[2], scratch);
      if (!id) return not_found(t);
      return with_purchase(r, t, *id, segments.size == 4 ? segments[3] : std::string_view{});
    }
    if (is(1, "tokens") && segments.size == 2) return post_token(r, t);
    if (is(1, "payments") && segments.size == 3 && is(2, "callback") && !payment_secret_.empty()) {
      return post_payment_callback(r, t);
    }
    if (is(1, "audits") && segments.size == 2) return route_audits(r, t);
    if (is(1, "stats") && segments.size == 2) return get_stats(r, t);
    if (is(1, "guests") && segments.size == 2 && office_.config.demo) return post_guest(r, t);
  }
  if (segments.size >= 2 && segments.size <= 5 && is(0, "v1") && is(1, "projections")) {
    return route_projections(r, t, segments);
  }
  if (segments.size >= 2 && segments.size <= 4 && is(0, "v1") &&
      (is(1, "webhooks") || (is(1, "outbox") && segments.size == 2))) {
    return route_webhooks(r, t, segments);
  }
  if (segments.size == 2 && is(0, "v1") && is(1, "cluster")) return get_cluster(r, t);
  if (segments.size == 1) {
    const bool known =
        is(0, "livez") || is(0, "readyz") || is(0, "metrics") || is(0, "openapi.json") || is(0, "");
    if (known && !method(r, t, http::Method::get, "GET, HEAD")) return;
    if (is(0, "livez")) {
      worker_->respond(t, {200, "text/plain", kNoStore, "ok\n"});
      return;
    }
    if (is(0, "readyz")) {
      std::string why = worker_->draining() ? "stopping" : "";
      if (why.empty() && office_.cluster != nullptr) why = office_.cluster->why_not_ready();
      const bool ready = why.empty();
      if (ready) why = "ready";
      why += '\n';
      if (office_.cluster != nullptr) why += office_.cluster->where();
      worker_->respond(t, {ready ? 200 : 503, "text/plain", kNoStore, why});
      return;
    }
    if (is(0, "openapi.json")) {
      worker_->respond(t, {200, http::kJson, {}, office_.openapi});
      return;
    }
    if (is(0, "metrics")) {
      if (!office_.config.public_metrics) {
        Principal who;
        if (!authenticate(r, t, who)) return;
        if (!allow(t, who, who.role != Role::customer)) return;
      }
      return get_metrics(t);
    }
    if (is(0, "") && r.accept.find("text/html") == std::string_view::npos) {
      worker_->respond(t, {200, "text/plain", "Vary: Accept\r\n",
                           "fairsale: a flash sale that can prove it was fair.\n"
                           "The API is described by /openapi.json; sales are at /v1/sales.\n"});
      return;
    }
  }
  get_page(r, t);
}

void Desk::get_page(const http::Request& r, http::Ticket t) {
  const Pages::Page* page = office_.pages.find(r.path);
  if (page == nullptr) return not_found(t);
  if (!method(r, t, http::Method::get, "GET, HEAD")) return;
  if (r.if_none_match.data() != nullptr &&
      r.if_none_match.find(page->etag) != std::string_view::npos) {
    worker_->respond(t, {304, {}, page->not_modified, {}});
    return;
  }
  worker_->respond_raw(t, page->response);
}

void Desk::route_sale(const http::Request& r, http::Ticket t, const SkuName& sku,
                      std::string_view rest) {
  if (rest.empty()) {
    if (r.method == http::Method::get || r.method == http::Method::head) {
      return get_sale(r, t, sku);
    }
    if (r.method != http::Method::put && r.method != http::Method::patch) {
      method(r, t, http::Method::get, "GET, HEAD, PUT, PATCH");
      return;
    }
    Principal who;
    if (!authenticate(r, t, who) || !allow(t, who, who.is_operator()) || !json_body(r, t)) return;
    if (r.method == http::Method::put) return put_sale(r, t, sku);
    return patch_sale(r, t, sku);
  }
  if (rest == "purchases") {
    const bool get = r.method == http::Method::get || r.method == http::Method::head;
    if (!get && !method(r, t, http::Method::post, "GET, HEAD, POST")) return;
    Principal who;
    if (!authenticate(r, t, who)) return;
    return get ? get_purchases(r, t, sku, who) : post_purchase(r, t, sku, who);
  }
  if (rest == "line") {
    if (!method(r, t, http::Method::get, "GET, HEAD")) return;
    Principal who;
    if (!authenticate(r, t, who) || !allow(t, who, who.role != Role::customer)) return;
    return get_line(r, t, sku);
  }
  if (rest == "audit-head") {
    if (!method(r, t, http::Method::get, "GET, HEAD")) return;
    Principal who;
    if (!authenticate(r, t, who) || !allow(t, who, who.role != Role::customer)) return;
    return send(Query{
        .kind = Query::Kind::audit_head, .sku = sku, .who = who, .origin = index_, .ticket = t});
  }
  if (rest == "events") return stream_sale(r, t, sku);
  if (rest == "decisions") return stream_decisions(r, t, sku);
  if (rest == "orders") return read_projection(r, t, sku, StoredProjection::orders);
  if (rest == "timeline") return read_projection(r, t, sku, StoredProjection::timeline);
  not_found(t);
}

// ---- Gates ----

bool Desk::method(const http::Request& r, http::Ticket t, http::Method wanted,
                  std::string_view allowed) {
  if (r.method == wanted || (wanted == http::Method::get && r.method == http::Method::head)) {
    return true;
  }
  problem(t, 405, "method_not_allowed", "Method not allowed",
          "This resource does not know the method; the Allow field lists those it does.",
          fmt::format("Allow: {}\r\n", allowed));
  return false;
}

bool Desk::authenticate(const http::Request& r, http::Ticket t, Principal& who) {
  const std::int64_t now = office_.clock.now().wall.value / 1000;
  const auto result = authenticator_.authenticate(r.authorization, now);
  if (result.denied == Denied::none) {
    who = result.principal;
    return true;
  }
  // Guessing costs the guesser's address what a customer's request would.
  if (!admit(r, t, Principal{}, {})) return false;
  ++denied_;
  problem(t, 401, "unauthorized", "Unauthorized", detail_of(result.denied),
          "WWW-Authenticate: Bearer realm=\"fairsale\"\r\n");
  return false;
}

bool Desk::allow(http::Ticket t, const Principal& who, bool role_ok) {
  if (role_ok) return true;
  ++denied_;
  problem(t, 403, "forbidden", "Forbidden",
          who.role == Role::customer
              ? "A customer's token is only good for that customer's own purchases."
              : "This needs the operator's token.");
  return false;
}

// Takes a token of the address (customers only: a shop speaks for many) and of the customer.
bool Desk::admit(const http::Request& r, http::Ticket t, const Principal& who,
                 std::string_view customer) {
  const auto limited = [&](std::string_view policy, const Rate& rate, const Verdict& verdict) {
    ++rate_limited_;
    headers_.clear();
    append_rate_headers(headers_, policy, rate, verdict);
    problem(t, 429, "rate_limited", "Too many requests",
            policy == "customer"
                ? "This customer sends too many requests. Wait as Retry-After says; "
                  "the same Idempotency-Key may be used again."
                : "This address sends too many requests. Wait as Retry-After says; "
                  "the same Idempotency-Key may be used again.",
            headers_);
    return false;
  };
  if (who.role == Role::customer && office_.address_limiter.enabled()) {
    const Verdict v = office_.address_limiter.take(r.address, worker_->now());
    if (!v.allowed) return limited("address", office_.address_limiter.rate(), v);
  }
  if (!customer.empty() && office_.customer_limiter.enabled()) {
    const Verdict v = office_.customer_limiter.take(customer, worker_->now());
    if (!v.allowed) return limited("customer", office_.customer_limiter.rate(), v);
  }
  return true;
}

bool Desk::json_body(const http::Request& r, http::Ticket t) {
  // A missing Content-Type is let pass: many small clients send none.
  if (r.content_type.data() == nullptr || may_be_json(r.content_type)) return true;
  problem(t, 415, "unsupported_media_type", "Unsupported media type",
          "Send the body as application/json.");
  return false;
}

bool Desk::min_seq(const http::Request& r, http::Ticket t, Seq& out) {
  char scratch[32];
  std::string_view value;
  switch (http::query_parameter(r.query, "min_seq", scratch, value)) {
    case http::Parameter::absent: out = Seq{0}; return true;
    case http::Parameter::present:
      if (const auto n = http::parse_number(value)) {
        out = Seq{*n};
        return true;
      }
      break;
    default: break;
  }
  bad_request(t, "min_seq must be one whole number: a position that an earlier answer gave");
  return false;
}

bool Desk::page_limit(const http::Request& r, http::Ticket t, std::uint32_t& out,
                      std::uint32_t most) {
  char scratch[32];
  std::string_view text;
  const auto given = http::query_parameter(r.query, "limit", scratch, text);
  const auto n = given == http::Parameter::present ? http::parse_number(text) : std::nullopt;
  if (given != http::Parameter::absent && (!n || *n == 0 || *n > most)) {
    bad_request(t, fmt::format("limit must be from 1 to {}", most));
    return false;
  }
  out = static_cast<std::uint32_t>(n.value_or(100));
  return true;
}

// ---- Sales ----

void Desk::list_sales(const http::Request& r, http::Ticket t) {
  if (!method(r, t, http::Method::get, "GET, HEAD")) return;
  char scratch[128];
  std::string_view after;
  std::uint32_t limit = 0;
  if (http::query_parameter(r.query, "after", scratch, after) > http::Parameter::present) {
    return bad_request(t, "after must be one SKU");
  }
  if (!page_limit(r, t, limit)) return;
  const auto found = office_.board.list(after, limit + std::size_t{1});
  body_ = "{\"sales\":[";
  std::string_view last;
  for (std::size_t i = 0; i < found.size() && i < limit; ++i) {
    if (i > 0) body_ += ',';
    body_ += found[i]->json();
    last = found[i]->name.view();
  }
  body_ += "],\"next\":";
  if (found.size() > limit) {
    append(body_, "\"{}\"}}", last);
  } else {
    body_ += "null}";
  }
  worker_->respond(t, {200, http::kJson, "Cache-Control: public, max-age=1\r\n", body_});
}

// A crowd looks at one sale: between two commits only the first look takes the board's locks.
const Availability* Desk::find_sale(const SkuName& sku) {
  const std::uint64_t version = office_.board.version();
  if (version != seen_version_ || !(sku == seen_name_)) {
    seen_ = office_.board.find(sku.view());
    seen_version_ = version;
    seen_name_ = sku;
  }
  return seen_.get();
}

void Desk::get_sale(const http::Request& r, http::Ticket t, const SkuName& sku) {
  Seq wanted;
  if (!r.query.empty() && !min_seq(r, t, wanted)) return;
  const Availability* now = find_sale(sku);
  if (!now && member_ == nullptr) {
    return refuse(index_, t, Reason::unknown_sale, sku.view(), Seq{0}, Seq{0});
  }
  const Seq position = now ? now->position : Seq{0};
  if (!now || position < wanted) {
    // A wait costs more than a look, so a stranger's are limited like a customer's requests.
    if (!admit(r, t, Principal{}, {}) || !may_wait(index_, t, wanted, position)) return;
    sale_waits_.push_back({sku, wanted, t, worker_->now()});
    return;
  }
  respond_sale(t, *now, r.if_none_match);
}

void Desk::respond_sale(http::Ticket t, const Availability& a, std::string_view if_none_match) {
  if (if_none_match.data() != nullptr && has_tag(if_none_match, a.position)) {
    headers_.clear();
    append(headers_, "ETag: \"{}\"\r\nCache-Control: public, max-age=1\r\n", a.position.value);
    worker_->respond(t, {304, {}, headers_, {}});
    return;
  }
  worker_->respond_raw(t, a.response);
}

void Desk::put_sale(const http::Request& r, http::Ticket t, const SkuName& sku) {
  const Availability* existing = find_sale(sku);
  const auto terms =
      bodies_.terms(r.body, office_.clock.now().wall, existing ? &existing->terms : nullptr);
  if (!terms) return bad_request(t, terms.error().message);
  const Reply reply{.origin = index_, .kind = Reply::Kind::put, .ticket = t};
  const auto actor = *Actor::from("operator");
  if (existing) {
    return send(existing->sku,
                SaleChanged{.terms = *terms, .actor = actor, .why = *Why::from("PUT")}, reply);
  }
  send(sku_id(sku.view()), SaleScheduled{.sku = sku, .terms = *terms, .actor = actor}, reply);
}

void Desk::patch_sale(const http::Request& r, http::Ticket t, const SkuName& sku) {
  const Availability* existing = find_sale(sku);
  if (!existing && member_ == nullptr) {
    return refuse(index_, t, Reason::unknown_sale, sku.view(), Seq{0}, Seq{0});
  }
  const auto body = bodies_.patch(r.body);
  if (!body) return bad_request(t, body.error().message);
  const Reply reply{.origin = index_, .kind = Reply::Kind::patch, .ticket = t};
  Event event;
  switch (body->action) {
    case PatchBody::Action::pause: event = SalePaused{body->actor, body->reason}; break;
    case PatchBody::Action::resume: event = SaleResumed{body->actor, body->reason}; break;
    case PatchBody::Action::close: event = SaleClosed{body->actor, body->reason}; break;
    case PatchBody::Action::stock:
      event = StockAdjusted{body->stock, body->actor, body->reason};
      break;
  }
  send(existing ? existing->sku : sku_id(sku.view()), event, reply);
}

// ---- Purchases ----

void Desk::post_purchase(const http::Request& r, http::Ticket t, const SkuName& sku,
                         const Principal& who) {
  if (!json_body(r, t)) return;
  const std::string_view key = r.idempotency_key;
  if (key.data() == nullptr) {
    return problem(t, 400, "idempotency_key_missing", "Idempotency-Key missing",
                   "Send an Idempotency-Key header, a new one (a UUID, say) for each purchase "
                   "and the same one for each retry of it.");
  }
  if (key.empty() || key.size() > 255 ||
      !std::all_of(key.begin(), key.end(), [](char c) { return c >= 0x21 && c <= 0x7e; })) {
    return bad_request(t, "Idempotency-Key must be 1 to 255 visible ASCII characters");
  }
  const auto body = bodies_.attempt(r.body);
  if (!body) return bad_request(t, body.error().message);
  if (!body->customer && who.role != Role::customer) {
    return bad_request(t, "\"customer\" is required with a shop's token: for whom to buy");
  }
  const CustomerId customer = body->customer ? *body->customer : who.customer;
  if (!allow(t, who, who.may_act_for(customer.view()))) return;
  if (!admit(r, t, who, customer.view())) return;

  const Availability* sale = find_sale(sku);
  // A node of a cluster hears of a new sale a moment later than whoever made it.
  if (!sale && member_ == nullptr) {
    return refuse(index_, t, Reason::unknown_sale, sku.view(), Seq{0}, Seq{0});
  }
  send(sale ? sale->sku : sku_id(sku.view()),
       PurchaseAttempted{
           .customer = customer, .key = idempotency_key(key), .quantity = body->quantity},
       Reply{.origin = index_, .kind = Reply::Kind::attempt, .ticket = t});
}

void Desk::get_purchases(const http::Request& r, http::Ticket t, const SkuName& sku,
                         const Principal& who) {
  char scratch[256];
  std::string_view customer;
  const auto given = http::query_parameter(r.query, "customer", scratch, customer);
  if (given == http::Parameter::absent && who.role == Role::customer) {
    customer = who.customer.view();
  } else if (given != http::Parameter::present || !is_customer_name(customer)) {
    return bad_request(t, "customer must name one customer: ?customer=...");
  }
  if (!allow(t, who, who.may_act_for(customer)) || !admit(r, t, who, who.customer.view())) return;
  Query q{.kind = Query::Kind::customer,
          .sku = sku,
          .customer = *CustomerId::from(customer),
          .who = who,
          .origin = index_,
          .ticket = t};
  if (!min_seq(r, t, q.min_seq)) return;
  send(q);
}

void Desk::get_line(const http::Request& r, http::Ticket t, const SkuName& sku) {
  std::uint32_t limit = 0;
  if (!page_limit(r, t, limit)) return;
  Query q{.kind = Query::Kind::line, .sku = sku, .limit = limit, .origin = index_, .ticket = t};
  if (!min_seq(r, t, q.min_seq)) return;
  send(q);
}

void Desk::with_purchase(const http::Request& r, http::Ticket t, std::string_view id,
                         std::string_view rest) {
  using http::Method;
  const bool read = r.method == Method::get || r.method == Method::head;
  if (rest.empty()) {
    if (!read && r.method != Method::del) {
      method(r, t, Method::get, "GET, HEAD, DELETE");
      return;
    }
  } else if (rest == "explanation" || rest == "events") {
    if (!method(r, t, Method::get, "GET, HEAD")) return;
  } else if (rest != "payment" && rest != "refund" &&
             !(rest == "demo-payment" && office_.config.demo)) {
    return not_found(t);
  } else if (!method(r, t, Method::post, "POST")) {
    return;
  }
  Principal who;
  if (!authenticate(r, t, who)) return;
  const auto parsed = parse_purchase_id(id);
  if (!parsed) return refuse(index_, t, Reason::unknown_purchase, {}, Seq{0}, Seq{0});
  Query q{.sku = parsed->sku, .purchase = parsed->seq, .who = who, .origin = index_, .ticket = t};
  if (rest.empty()) {
    q.kind = read ? Query::Kind::purchase : Query::Kind::give_up;
    if (read && !min_seq(r, t, q.min_seq)) return;
    if (!admit(r, t, who, who.customer.view())) return;
    return send(q);
  }
  if (rest == "demo-payment") return pay_in_demo(r, t, q);
  if (rest == "events") {
    q.kind = Query::Kind::events;
    if (!last_event_id(r, t, q.after) || !outbox_kept(t)) return;
    if (!admit(r, t, who, who.customer.view())) return;
    return send(q);
  }
  if (!allow(t, who, who.role != Role::customer)) return;
  if (rest == "explanation") {
    q.kind = Query::Kind::explanation;
    return send(q);
  }
  if (!json_body(r, t)) return;
  if (rest == "payment") {
    const auto body = bodies_.payment(r.body);
    if (!body) return bad_request(t, body.error().message);
    return send_payment(t, q.sku, q.purchase, *body, who);
  }
  const auto body = bodies_.refund(r.body);
  if (!body) return bad_request(t, body.error().message);
  q.kind = Query::Kind::refund;
  q.event = OrderRefunded{q.purchase, body->restock, body->actor, body->reason};
  send(q);
}

void Desk::send_payment(http::Ticket t, const SkuName& sku, Seq purchase, const PaymentBody& body,
                        const Principal& who) {
  Query q{.kind = Query::Kind::payment,
          .sku = sku,
          .purchase = purchase,
          .who = who,
          .origin = index_,
          .ticket = t};
  if (body.received) {
    q.event = PaymentReceived{purchase, body.reference, body.amount};
  } else {
    q.event = PaymentFailed{purchase, body.reference};
  }
  send(q);
}

// What a payment provider says, proven by its signature instead of a token. A callback that comes
// again, or late, is judged as the shop's own word would be: by the payment's reference and the
// grace rule.
void Desk::post_payment_callback(const http::Request& r, http::Ticket t) {
  if (!method(r, t, http::Method::post, "POST")) return;
  const std::int64_t now = office_.clock.now().wall.value / 1000;
  const SignatureFault fault = check_signature(payment_secret_, r.webhook_id, r.webhook_timestamp,
                                               r.webhook_signature, r.body, now);
  if (fault != SignatureFault::none) {
    // As for a token: guessing costs the guesser's address.
    if (!admit(r, t, Principal{}, {})) return;
    ++denied_;
    return problem(t, 401, "unauthorized", "Unauthorized", detail_of(fault),
                   "WWW-Authenticate: Webhook realm=\"fairsale\"\r\n");
  }
  if (!json_body(r, t)) return;
  const auto body = bodies_.payment_callback(r.body);
  if (!body) return bad_request(t, body.error().message);
  const auto id = parse_purchase_id(body->purchase);
  if (!id) return refuse(index_, t, Reason::unknown_purchase, {}, Seq{0}, Seq{0});
  send_payment(t, id->sku, id->seq, body->payment, Principal{.role = Role::shop});
}

// What a payment provider would do after the customer paid, or did not: the references are made
// from the outcome, so that a repeat is one.
void Desk::pay_in_demo(const http::Request& r, http::Ticket t, Query q) {
  if (!json_body(r, t) || !admit(r, t, q.who, q.who.customer.view())) return;
  const auto body = bodies_.demo_payment(r.body);
  if (!body) return bad_request(t, body.error().message);
  if (body->declined) {
    q.kind = Query::Kind::payment;
    q.event = PaymentFailed{q.purchase, *PaymentReference::from("demo-declined")};
  } else {
    q.kind = Query::Kind::demo_payment;
    q.event = PaymentReceived{
        q.purchase, *PaymentReference::from(fmt::format("demo-{}", q.purchase.value)), {}};
  }
  send(q);
}

void Desk::post_token(const http::Request& r, http::Ticket t) {
  if (!method(r, t, http::Method::post, "POST")) return;
  Principal who;
  if (!authenticate(r, t, who) || !allow(t, who, who.role != Role::customer) || !json_body(r, t)) {
    return;
  }
  const auto body = bodies_.token(r.body);
  if (!body) return bad_request(t, body.error().message);
  respond_token(t, body->customer.view(), body->ttl_seconds);
}

// Only in a demo: whoever comes is a customer.
void Desk::post_guest(const http::Request& r, http::Ticket t) {
  if (!method(r, t, http::Method::post, "POST") || !admit(r, t, Principal{}, {})) return;
  std::array<std::byte, 8> random{};
  if (::getrandom(random.data(), random.size(), 0) != ssize_t{random.size()}) {
    return overloaded(index_, t);
  }
  std::string customer = "guest-";
  for (const std::byte b : random) append(customer, "{:02x}", static_cast<unsigned>(b));
  constexpr std::int64_t kDay = 86'400;
  respond_token(t, customer, kDay);
}

void Desk::respond_token(http::Ticket t, std::string_view customer, std::int64_t ttl_seconds) {
  const std::int64_t expires = office_.clock.now().wall.value / 1000 + ttl_seconds;
  const std::string token = authenticator_.mint(customer, expires);
  body_.clear();
  JsonWriter(body_)
      .begin_object()
      .member("token", std::string_view(token))
      .member("customer", customer)
      .member("expires_at", Timestamp{expires * 1000})
      .end_object();
  worker_->respond(t, {201, http::kJson, kNoStore, body_});
}

void Desk::get_stats(const http::Request& r, http::Ticket t) {
  if (!method(r, t, http::Method::get, "GET, HEAD")) return;
  Principal who;
  if (!authenticate(r, t, who) || !allow(t, who, who.is_operator())) return;
  worker_->respond(t, {200, http::kJson, kNoStore, office_.metrics.json()});
}

void Desk::get_metrics(http::Ticket t) {
  if (office_.projector != nullptr) {
    for (const ProjectionStatus& p : office_.projector->status()) {
      office_.metrics.projection(name_of(p.projection), static_cast<double>(p.lag), p.progress);
    }
  }
  if (office_.dispatcher != nullptr) office_.metrics.outbox(office_.dispatcher->status());
  if (office_.cluster != nullptr) office_.metrics.cluster(office_.cluster->figures());
  body_ = office_.metrics.text();
  worker_->respond(t, {200, "text/plain; version=0.0.4; charset=utf-8", kNoStore, body_});
}

void Desk::route_audits(const http::Request& r, http::Ticket t) {
  const bool get = r.method == http::Method::get || r.method == http::Method::head;
  if (!get && !method(r, t, http::Method::post, "GET, HEAD, POST")) return;
  Principal who;
  if (!authenticate(r, t, who) || !allow(t, who, who.is_operator())) return;
  if (office_.audits == nullptr) {
    return problem(t, 503, "audit_unavailable", "Audit unavailable",
                   "This server keeps its log in memory only: there is no store to audit.");
  }
  if (!get) {
    if (!json_body(r, t)) return;
    const auto body = bodies_.audit(r.body);
    if (!body) return bad_request(t, body.error().message);
    if (worker_->draining()) return stopping(t);
    if (!office_.audits->begin(body->fairness, office_.clock.now().wall)) {
      return problem(t, 409, "audit_under_way", "Audit under way",
                     "One audit is made at a time; GET tells how far it has come.");
    }
  }
  worker_->respond(t, {get ? 200 : 202, http::kJson, kNoStore, office_.audits->json()});
}

// ---- Event streams ----

// The header, or the query parameter where a client cannot set headers.
bool Desk::last_event_id(const http::Request& r, http::Ticket t, std::optional<Cursor>& out) {
  char scratch[64];
  std::string_view text = r.last_event_id;
  bool good = true;
  if (text.empty()) {
    good =
        http::query_parameter(r.query, "last_event_id", scratch, text) <= http::Parameter::present;
  }
  if (good && text.empty()) return true;
  if (good) out = parse_event_id(text);
  if (out) return true;
  bad_request(t,
              "Last-Event-ID must be the id of an event that this stream sent: POSITION or "
              "POSITION.NUMBER, such as 17 or 17.0; leave it out to begin anew");
  return false;
}

bool Desk::outbox_kept(http::Ticket t) {
  if (office_.hub != nullptr) return true;
  problem(t, 503, "not_kept", "Not kept",
          "This server keeps its log in memory only, and no messages. Run it with a data directory "
          "to have streams of them.");
  return false;
}

void Desk::too_many_streams(http::Ticket t) {
  ++overloaded_;
  problem(t, 503, "too_many_streams", "Too many streams",
          "As many event streams are open as this server serves. Try again shortly, or ask for the "
          "state now and then.",
          "Retry-After: 5\r\n");
}

void Desk::stream_sale(const http::Request& r, http::Ticket t, const SkuName& sku) {
  std::optional<Cursor> seen;
  if (!method(r, t, http::Method::get, "GET, HEAD") || !last_event_id(r, t, seen)) return;
  // A stream costs more than a look, so a stranger's are limited like a customer's requests.
  if (!admit(r, t, Principal{}, {})) return;
  const Availability* now = find_sale(sku);
  if (!now) return unknown_sale(t, sku);
  if (worker_->draining()) return stopping(t);
  if (!streams_.begin_sale(t, seen_, seen)) too_many_streams(t);
}

void Desk::stream_decisions(const http::Request& r, http::Ticket t, const SkuName& sku) {
  if (!method(r, t, http::Method::get, "GET, HEAD")) return;
  Principal who;
  if (!authenticate(r, t, who) || !allow(t, who, who.role != Role::customer)) return;
  std::optional<Cursor> after;
  if (!last_event_id(r, t, after) || !outbox_kept(t) || elsewhere(t, sku)) return;
  const Availability* now = find_sale(sku);
  if (!now) return unknown_sale(t, sku);
  if (worker_->draining()) return stopping(t);
  // An id ahead of the log is of a log that was replaced by an older copy.
  if (!after || after->position > now->position) after = Cursor::past(now->position);
  if (!streams_.begin_decisions(t, *now, *after)) too_many_streams(t);
}

// At the owner of the purchase, for the desk that has the connection.
void Desk::answer_events(const Query& q, const Sale& sale, PurchaseIndex index, SkuId id) {
  PurchaseStream s{.ticket = q.ticket,
                   .sku = id,
                   .name = q.sku,
                   .purchase = q.purchase,
                   .after = Cursor::past(sale.seq()),
                   .document = {}};
  if (q.after && q.after->position <= sale.seq()) {
    s.after = *q.after;
  } else {
    append_purchase(s.document, sale, index, id);
  }
  if (q.origin == index_) return begin(s);
  answers_[q.origin].push_back(std::move(s));
}

void Desk::begin(const PurchaseStream& s) {
  if (worker_->draining()) return stopping(s.ticket);
  if (!streams_.begin_purchase(s)) too_many_streams(s.ticket);
}

std::chrono::steady_clock::time_point Desk::serve_streams() {
  for (const http::Ticket& t : closed_streams_) streams_.closed(t);
  closed_streams_.clear();
  const auto due = streams_.turn(stream_looks_);
  for (const Look& l : stream_looks_) {
    looks_at_[office_.engine.shard_of(l.sku)].push_back(l);
  }
  stream_looks_.clear();
  for (std::size_t to = 0; to < looks_at_.size(); ++to) {
    if (looks_at_[to].empty()) continue;
    if (to == index_) {
      look(looks_at_[to], looked_);
      for (const Looked& l : looked_) streams_.looked(l);
      looked_.clear();
    } else {
      outgoing_[to].push_back(LookMail{index_, looks_at_[to]});
    }
    looks_at_[to].clear();
  }
  return due;
}

void Desk::look(const std::vector<Look>& looks, std::vector<Looked>& out) {
  for (const Look& l : looks) {
    const Sale* sale = shard_.find(l.sku);
    const auto index = sale != nullptr ? sale->find_purchase(l.purchase) : std::nullopt;
    if (!index) continue;
    const Purchase& p = sale->purchase(*index);
    out.push_back({.ticket = l.ticket,
                   .standing = standing(*sale, *index, l.sku),
                   .until = holds_units(p.status) ? p.until : Timestamp{},
                   .hold = sale->terms().hold});
  }
}

// ---- Stored projections ----

void Desk::route_projections(const http::Request& r, http::Ticket t,
                             const http::PathSegments& segments) {
  const auto operators = [&] {
    Principal who;
    return authenticate(r, t, who) && allow(t, who, who.is_operator());
  };
  if (segments.size == 2) {
    if (!method(r, t, http::Method::get, "GET, HEAD") || !operators()) return;
    return respond(t, stored_.list());
  }
  if (segments.size == 4 && segments[3] == "rebuild") {
    if (!method(r, t, http::Method::post, "POST") || !operators() || !json_body(r, t)) return;
    const auto body = bodies_.rebuild(r.body);
    if (!body) return bad_request(t, body.error().message);
    if (worker_->draining()) return stopping(t);
    return respond(t, stored_.rebuild(segments[2], body->force));
  }
  if (segments.size == 5 && segments[3] == "generations") {
    if (!method(r, t, http::Method::del, "DELETE") || !operators()) return;
    if (worker_->draining()) return stopping(t);
    return respond(t, stored_.drop(segments[2], segments[4]));
  }
  not_found(t);
}

void Desk::read_projection(const http::Request& r, http::Ticket t, const SkuName& sku,
                           StoredProjection projection) {
  if (!method(r, t, http::Method::get, "GET, HEAD")) return;
  Principal who;
  if (!authenticate(r, t, who) || !allow(t, who, who.role != Role::customer)) return;
  ProjectionRoutes::Read read{.projection = projection, .sku = sku};
  Seq wanted;
  if (!page_limit(r, t, read.limit, ProjectionRoutes::kMaxPage) || !min_seq(r, t, wanted)) return;
  char scratch[64];
  std::string_view after;
  const auto given = http::query_parameter(r.query, "after", scratch, after);
  if (given != http::Parameter::absent) {
    const bool present = given == http::Parameter::present;
    const auto seq = present ? http::parse_number(after) : std::nullopt;
    const auto time = present ? parse_rfc3339(after) : std::nullopt;
    if (projection == StoredProjection::orders) {
      if (!seq) return bad_request(t, "after must be the position of an order");
      read.after_position = Seq{*seq};
    } else {
      if (!time || time->value < 0) {
        return bad_request(t, "after must be a time, such as 2026-11-27T08:00:00Z");
      }
      read.after_second = time->value / 1000;
    }
  }
  if (elsewhere(t, sku)) return;
  if (!find_sale(sku)) return unknown_sale(t, sku);
  if (wanted.value > 0) {
    const auto position = stored_.position(read);
    if (position && *position < wanted) {
      if (projection_waits_.size() >= kMaxProjectionWaits) return overloaded(index_, t);
      if (!may_wait(index_, t, wanted, *position)) return;
      projection_waits_.push_back({read, wanted, t, worker_->now() + kMinSeqPatience});
      return;
    }
  }
  respond(t, stored_.read(read));
}

void Desk::respond(http::Ticket t, const ProjectionRoutes::Answer& answer) {
  if (!answer.problem.empty()) {
    return problem(t, answer.status, answer.problem, answer.title, answer.detail,
                   answer.status == 503 ? kRetrySoon : std::string_view{});
  }
  if (answer.status == 204) {
    worker_->respond(t, {204, {}, kNoStore, {}});
    return;
  }
  worker_->respond(t, {answer.status, http::kJson, kNoStore, answer.body});
}

// ---- The outbox and webhooks ----

void Desk::route_webhooks(const http::Request& r, http::Ticket t,
                          const http::PathSegments& segments) {
  using http::Method;
  const bool read = r.method == Method::get || r.method == Method::head;
  const auto wanted = [&](bool known, std::string_view allowed) {
    return known || method(r, t, Method::get, allowed);
  };
  Principal who;
  const auto shops = [&] {
    return authenticate(r, t, who) && allow(t, who, who.role != Role::customer);
  };
  if (segments[1] == "outbox") {
    if (!wanted(read, "GET, HEAD") || !authenticate(r, t, who) || !allow(t, who, who.is_operator()))
      return;
    return by_clerk(*office_.clerk, t, [](const WebhookRoutes& w) { return w.outbox(); });
  }
  if (segments.size == 2) {
    if (!wanted(read || r.method == Method::post, "GET, HEAD, POST") || !shops()) return;
    if (read) return by_clerk(*office_.clerk, t, [](const WebhookRoutes& w) { return w.list(); });
    if (!json_body(r, t)) return;
    const auto body = bodies_.webhook(r.body);
    if (!body) return bad_request(t, body.error().message);
    return by_clerk(*office_.clerk, t, [b = *body](const WebhookRoutes& w) { return w.add(b); });
  }
  const std::string id(segments[2]);
  if (segments.size == 3) {
    if (!wanted(read || r.method == Method::patch || r.method == Method::del,
                "GET, HEAD, PATCH, DELETE") ||
        !shops()) {
      return;
    }
    if (read)
      return by_clerk(*office_.clerk, t, [id](const WebhookRoutes& w) { return w.get(id); });
    if (r.method == Method::del) {
      return by_clerk(*office_.clerk, t, [id](const WebhookRoutes& w) { return w.remove(id); });
    }
    if (!json_body(r, t)) return;
    const auto body = bodies_.webhook_change(r.body);
    if (!body) return bad_request(t, body.error().message);
    return by_clerk(*office_.clerk, t,
                    [id, b = *body](const WebhookRoutes& w) { return w.change(id, b); });
  }
  if (segments[3] == "attempts") {
    if (!wanted(read, "GET, HEAD") || !shops()) return;
    return by_clerk(*office_.clerk, t, [id](const WebhookRoutes& w) { return w.attempts(id); });
  }
  if (segments[3] == "redeliver") {
    if (!method(r, t, Method::post, "POST") || !shops() || !json_body(r, t)) return;
    const auto body = bodies_.redelivery(r.body);
    if (!body) return bad_request(t, body.error().message);
    return by_clerk(*office_.redeliveries, t,
                    [id, b = *body](const WebhookRoutes& w) { return w.redeliver(id, b); });
  }
  not_found(t);
}

// A clerk's thread writes to disk and waits for others, so that no purchase does.
void Desk::by_clerk(Clerk& clerk, http::Ticket t,
                    std::function<ProjectionRoutes::Answer(const WebhookRoutes&)> what) {
  if (worker_->draining()) return stopping(t);
  const bool taken = clerk.ask([&office = office_, origin = index_, t,
                                what = std::move(what)](bool time) {
    ProjectionRoutes::Answer answer{
        503, {}, "stopping", "Stopping", "The server is going down; try again when it is back."};
    try {
      if (time) answer = what(*office.webhooks);
    } catch (const std::exception& e) {
      spdlog::error("A request could not be answered: {}", e.what());
      answer = {503,
                {},
                "overloaded",
                "Overloaded",
                "It could not be done now; the server's log says why."};
    }
    AnswerMail mail{.ticket = t, .status = answer.status, .headers = std::string(kNoStore)};
    if (!answer.problem.empty()) {
      mail.content_type = http::kProblemJson;
      mail.headers = answer.status == 503 ? kRetrySoon : std::string_view{};
      http::append_problem(mail.body, {answer.status, answer.problem, answer.title, answer.detail});
    } else if (answer.status != 204) {
      mail.content_type = http::kJson;
      mail.body = std::move(answer.body);
    }
    office.deliver(origin, std::move(mail));
  });
  if (!taken) overloaded(index_, t);
}

// ---- To the shards ----

void Desk::stopping(http::Ticket t) {
  problem(t, 503, "stopping", "Stopping",
          "The server is going down; nothing was recorded. Try again with the same "
          "Idempotency-Key.",
          kRetrySoon);
}

void Desk::send(SkuId sku, const Event& event, const Reply& reply) {
  if (worker_->draining()) return stopping(reply.ticket);
  const std::size_t owner = office_.engine.shard_of(sku);
  if (owner == index_) return submit(sku, event, reply);
  outgoing_[owner].push_back(EventMail{sku, event, reply});
}

void Desk::send(const Query& q) {
  const bool acts = q.kind == Query::Kind::give_up || q.kind == Query::Kind::payment ||
                    q.kind == Query::Kind::demo_payment || q.kind == Query::Kind::refund;
  if (acts && worker_->draining()) return stopping(q.ticket);
  const std::size_t owner = office_.engine.shard_of(sku_id(q.sku.view()));
  if (owner == index_) return run(q);
  outgoing_[owner].push_back(q);
}

void Desk::submit(SkuId sku, const Event& event, const Reply& reply) {
  if (member_ != nullptr) {
    if (!member_->submit(sku, event, reply)) overloaded(reply.origin, reply.ticket);
    return;
  }
  refuse_event(reply, shard_.submit(sku, event, reply.pack()));
}

void Desk::refuse_event(const Reply& reply, Admission why) {
  switch (why) {
    case Admission::accepted: return;
    case Admission::unknown_sale:
      // Whoever was asked to open a sale knew one that was taken back, and hears of that now.
      if (reply.kind == Reply::Kind::put) return give_up(reply, true);
      return refuse(reply.origin, reply.ticket, Reason::unknown_sale, {}, Seq{0}, Seq{0});
    case Admission::overloaded: return overloaded(reply.origin, reply.ticket);
    case Admission::id_taken:
      return problem(reply.origin, reply.ticket, 409, "id_taken", "SKU id taken",
                     "Another SKU's name has the same id. Choose another name.");
    case Admission::too_many_skus:
      return problem(reply.origin, reply.ticket, 503, "overloaded", "Too many SKUs",
                     "This server holds as many SKUs as it can.", kRetrySoon);
  }
}

// At the owner. What leads to an event goes into the coming turn; a look waits until after it, so
// that it sees all that came before.
void Desk::run(Query q) {
  q.asked = worker_->now();
  if (member_ != nullptr && !office_.cluster->takes(sku_id(q.sku.view()))) {
    // A stream cannot be passed on.
    if (q.kind == Query::Kind::events) return too_late(q.origin, q.ticket);
    // A processor that is behind would not know of a purchase that another node has answered.
    const Availability* sale = find_sale(q.sku);
    if (sale != nullptr && q.purchase <= sale->position) {
      q.min_seq = std::max(q.min_seq, q.purchase);
    }
    if (!member_->forward(q)) overloaded(q.origin, q.ticket);
    return;
  }
  if (acts(q.kind) && come_to(q)) return act(q);
  looks_.push_back(q);
}

// Whether the sale has come to where the query wants it. What is not here may be known to other
// nodes already, unless this one has heard otherwise since it was asked.
bool Desk::come_to(const Query& q) const {
  // A processor that is cut off, or is behind, may know less than clients were told already.
  const auto known = knows_until(q.sku);
  if (known < worker_->now() - kFresh) return false;
  const Sale* sale = shard_.find(sku_id(q.sku.view()));
  if (sale != nullptr && sale->seq() < q.min_seq) return false;
  const bool here = sale != nullptr && sale->exists() &&
                    (!of_purchase(q.kind) || sale->find_purchase(q.purchase));
  return here || known >= q.asked;
}

// Until when this node knows of all that was acknowledged.
steady_clock::time_point Desk::knows_until(const SkuName& sku) const {
  if (member_ == nullptr) return steady_clock::time_point::max();
  return office_.cluster->knows_until(sku_id(sku.view()));
}

// Whether other processors have the sale's store and streams, and not this one; then it says so.
bool Desk::elsewhere(http::Ticket t, const SkuName& sku) {
  if (member_ == nullptr || !office_.cluster->processor() ||
      office_.cluster->takes(sku_id(sku.view()))) {
    return false;
  }
  too_late(index_, t);
  return true;
}

// There is no sale of that name here. Who has heard nothing of the others for a while is not sure.
void Desk::unknown_sale(http::Ticket t, const SkuName& sku) {
  if (knows_until(sku) < worker_->now() - kSureFor) return too_late(index_, t);
  refuse(index_, t, Reason::unknown_sale, sku.view(), Seq{0}, Seq{0});
}

void Desk::go_on(const Query& q) {
  if (acts(q.kind)) return act(q);
  // These read the log later, by which time it may be longer.
  const bool later = q.kind == Query::Kind::explanation || q.kind == Query::Kind::events;
  if (member_ == nullptr || later) return answer_query(q);
  const SkuId sku = sku_id(q.sku.view());
  Held held{.sku = sku, .at = member_->last_of(sku), .asked = q.asked};
  if (office_.cluster->agreed(sku, held.at)) return answer_query(q);
  if (held_.size() >= kMaxWaits) return overloaded(q.origin, q.ticket);
  holds_ = &held;
  answer_query(q);
}

// ---- In a cluster ----

void Desk::get_cluster(const http::Request& r, http::Ticket t) {
  Principal who;
  if (!method(r, t, http::Method::get, "GET, HEAD") || !authenticate(r, t, who) ||
      !allow(t, who, who.is_operator())) {
    return;
  }
  constexpr std::string_view kAlone =
      R"({"node":"","id":"","role":"alone","not_ready":null,"partitions":[],"others":[]})";
  worker_->respond(t, {200, http::kJson, kNoStore,
                       office_.cluster != nullptr ? office_.cluster->json() : kAlone});
}

void Desk::on_refused(const fairsale::Ticket&, const Event& event, Admission why) {
  refuse_event({.origin = kOfBatch, .kind = Reply::kind_of(event)}, why);
}

void Desk::on_followed(const Ordered& m, const Head& after) {
  if (member_ != nullptr) member_->told(m, after);
}

void Desk::give(const Reply& r, const Rendered& a) {
  reply(r.origin, r.ticket, a.status, a.content_type, a.headers, a.body);
}

void Desk::give_up(const Reply& r, bool sent) {
  if (!sent) return overloaded(r.origin, r.ticket);
  problem(r.origin, r.ticket, 503, "unconfirmed", "Not confirmed yet",
          "It is not known yet what became of this. Ask again with the same Idempotency-Key: the "
          "answer is the same, and nothing happens twice.",
          kRetrySoon);
}

void Desk::take_forwarded(Query q, http::Ticket slot) {
  q.origin = index_ | kForwarded;
  q.ticket = slot;
  if (q.kind == Query::Kind::events) return not_found(q.origin, slot);
  run(q);
}

void Desk::act(const Query& q) {
  const SkuId id = sku_id(q.sku.view());
  const Sale* sale = shard_.find(id);
  const auto index = sale != nullptr ? sale->find_purchase(q.purchase) : std::nullopt;
  // Whether somebody else's purchase exists is nobody's business.
  if (!index ||
      !q.who.may_act_for(sale->customer_name(CustomerIndex{sale->purchase(*index).customer}))) {
    return refuse(q.origin, q.ticket, Reason::unknown_purchase, {}, Seq{0}, Seq{0});
  }
  Reply reply{.origin = q.origin, .kind = Reply::Kind::give_up, .ticket = q.ticket};
  switch (q.kind) {
    case Query::Kind::payment: reply.kind = Reply::Kind::payment; break;
    case Query::Kind::demo_payment: {
      reply.kind = Reply::Kind::payment;
      auto payment = std::get<PaymentReceived>(q.event);
      const Money unit = sale->terms().price;
      payment.amount = {MinorUnits{unit.amount.value * sale->purchase(*index).quantity},
                        unit.currency};
      return submit(id, payment, reply);
    }
    case Query::Kind::refund: reply.kind = Reply::Kind::refund; break;
    default: {
      const PurchaseStatus status = sale->purchase(*index).status;
      if (status == PurchaseStatus::offered || status == PurchaseStatus::declined) {
        return submit(id, OfferDeclined{q.purchase, q.who.role}, reply);
      }
      return submit(id, PurchaseCancelled{q.purchase, q.who.role}, reply);
    }
  }
  submit(id, q.event, reply);
}

// Nothing when the purchase does not wait.
std::optional<Standing> Desk::standing(const Sale& sale, PurchaseIndex index, SkuId sku) const {
  if (sale.purchase(index).status != PurchaseStatus::waiting) return std::nullopt;
  const auto place = projections_.line.place(sku, index);
  if (!place) return std::nullopt;
  const std::uint64_t ahead = projections_.line.units_ahead(sku, sale, index);
  return Standing{
      .place = *place,
      .units_ahead = ahead,
      .units_may_return = sale.counters().held.value,
      .eta = projections_.returns.estimate(sku, sale, ahead + sale.purchase(index).quantity)};
}

void Desk::append_purchase(std::string& out, const Sale& sale, PurchaseIndex index, SkuId sku) {
  const Purchase& p = sale.purchase(index);
  const std::string id = fmt::format("{}:{}", sale.sku(), p.seq.value);
  JsonWriter json(out);
  json.begin_object()
      .member("purchase", std::string_view(id))
      .member("sku", sale.sku())
      .member("customer", sale.customer_name(CustomerIndex{p.customer}))
      .member("quantity", p.quantity)
      .member("status", name_of(p.status));
  if (p.status == PurchaseStatus::released || p.status == PurchaseStatus::refused) {
    json.member("reason", name_of(p.reason));
  }
  if (const auto line = standing(sale, index, sku)) {
    json.member("place", line->place).key("line");
    append_standing(out, *line);
  }
  if (holds_units(p.status)) json.member("until", p.until);
  const Money unit = sale.terms().price;
  json.member("amount", Money{MinorUnits{unit.amount.value * p.quantity}, unit.currency})
      .member("position", sale.seq().value)
      .end_object();
}

void Desk::answer_query(const Query& q) {
  const SkuId id = sku_id(q.sku.view());
  const Sale* sale = shard_.find(id);
  if (sale == nullptr || !sale->exists()) {
    return refuse(q.origin, q.ticket,
                  of_purchase(q.kind) ? Reason::unknown_purchase : Reason::unknown_sale, {}, Seq{0},
                  Seq{0});
  }
  if (q.kind == Query::Kind::explanation) {
    if (!sale->find_purchase(q.purchase)) {
      return refuse(q.origin, q.ticket, Reason::unknown_purchase, {}, Seq{0}, Seq{0});
    }
    const ExplainJob job{{id, *shard_.head(id)}, q.purchase, q.origin, q.ticket};
    if (!office_.explainer->ask(job)) overloaded(q.origin, q.ticket);
    return;
  }
  body_.clear();
  switch (q.kind) {
    case Query::Kind::events:
    case Query::Kind::purchase: {
      // A refused attempt is not a purchase, but whoever kept its id may ask why.
      const auto index = sale->find_purchase(q.purchase);
      if (!index ||
          !q.who.may_act_for(sale->customer_name(CustomerIndex{sale->purchase(*index).customer}))) {
        return refuse(q.origin, q.ticket, Reason::unknown_purchase, {}, Seq{0}, Seq{0});
      }
      if (q.kind == Query::Kind::events) return answer_events(q, *sale, *index, id);
      append_purchase(body_, *sale, *index, id);
      break;
    }
    case Query::Kind::customer: {
      body_ = "{\"purchases\":[";
      if (const auto customer = sale->find_customer(q.customer.view())) {
        bool first = true;
        for (const PurchaseIndex p : sale->purchases_of(*customer, kMaxPage)) {
          if (!first) body_ += ',';
          first = false;
          append_purchase(body_, *sale, p, id);
        }
      }
      append(body_, "],\"position\":{}}}", sale->seq().value);
      break;
    }
    case Query::Kind::line: {
      append(body_, "{{\"waiting\":{},\"line\":[", sale->counters().waiting);
      std::uint32_t place = 0;
      for (const PurchaseIndex index : projections_.line.head(id, q.limit)) {
        const Purchase& p = sale->purchase(index);
        if (place > 0) body_ += ',';
        append(body_, R"({{"purchase":"{}:{}","customer":"{}","quantity":{},"place":{}}})",
               sale->sku(), p.seq.value, sale->customer_name(CustomerIndex{p.customer}), p.quantity,
               ++place);
      }
      append(body_, "],\"position\":{}}}", sale->seq().value);
      break;
    }
    case Query::Kind::audit_head:
      append(body_, R"({{"sku":"{}","position":{},"head":"{}","state_digest":"{}"}})", sale->sku(),
             sale->seq().value, to_hex(shard_.head(id)->digest), to_hex(state_digest(*sale)));
      break;
    default: FAIRSALE_INVARIANT(false, "only looks are answered here");
  }
  reply(q.origin, q.ticket, 200, http::kJson, kNoStore, body_);
}

// ---- Turns ----

std::chrono::steady_clock::time_point Desk::on_turn() {
  // What others are to decide is on its way while this shard syncs, and their answers after it.
  read_mail();
  const auto streams_due = serve_streams();
  post_mail();
  const auto begun = steady_clock::now();
  const auto turn = member_ != nullptr ? member_->turn(*this) : shard_.turn(*this);
  if (!turn) office_.fail(turn.error());
  if (turn->events > 0) {
    const std::chrono::duration<double> took = steady_clock::now() - begun;
    Metrics& m = office_.metrics;
    m.events.Increment(static_cast<double>(turn->events));
    m.blocks.Increment(static_cast<double>(turn->blocks));
    m.log_bytes.Increment(static_cast<double>(turn->bytes));
    m.turn_events.Observe(static_cast<double>(turn->events));
    m.turn_seconds.Observe(took.count());
  }
  if (projections_.stored) projections_.stored->hand_over();
  if (index_ == 0) watch_snapshots();
  answer_looks();
  check_waits();
  post_answers();
  count();

  auto next = streams_due;
  if (const auto in = shard_.next_turn_in()) {
    next = std::min(next, steady_clock::now() + milliseconds(in->value));
  }
  if (member_ != nullptr) {
    next = std::min(next, steady_clock::now() + milliseconds(member_->next_turn_in().value));
  }
  if (waiting() > 0) next = std::min(next, next_check_);
  if (read_ < incoming_.size()) next = steady_clock::now();
  return next;
}

void Desk::watch_snapshots() {
  Snapshotter& s = office_.engine.snapshotter();
  const std::uint64_t taken = s.taken();
  if (taken != snapshots_) {
    office_.metrics.snapshots.Increment(static_cast<double>(taken - snapshots_));
    snapshots_ = taken;
  }
  const auto error = s.take_error();
  if (error && error->fault == Fault::damaged) {
    spdlog::error("The log is damaged, and the next start will refuse it: {}", error->message);
  } else if (error) {
    spdlog::warn("A snapshot could not be written, so the next start takes longer: {}",
                 error->message);
  }
}

void Desk::serve_others() {
  office_.serving.fetch_sub(1);
  while (office_.serving.load() > 0) {
    on_turn();
    office_.mailboxes[index_]->wait(milliseconds(5));
  }
  on_turn();
}

void Desk::read_mail() {
  if (read_ == incoming_.size()) {
    incoming_.clear();
    read_ = 0;
    office_.mailboxes[index_]->take(incoming_);
    for (const Mail& mail : incoming_) {
      if (const auto* a = std::get_if<AnswerMail>(&mail)) {
        if ((a->origin & kForwarded) != 0) {
          member_->reply_forwarded(a->ticket, {a->status, a->content_type, a->headers, a->body});
          continue;
        }
        worker_->respond(a->ticket, {a->status, a->content_type, a->headers, a->body});
      } else if (const auto* stream = std::get_if<PurchaseStream>(&mail)) {
        begin(*stream);
      } else if (const auto* answers = std::get_if<LookedMail>(&mail)) {
        for (const Looked& l : answers->looked) streams_.looked(l);
      }
    }
  }
  // What finds the inbox full waits for the next turn, in its order, and is not refused: which
  // worker a shopper's connection came to must not matter.
  for (; read_ < incoming_.size() && !shard_.full(); ++read_) {
    Mail& mail = incoming_[read_];
    if (auto* event = std::get_if<EventMail>(&mail)) {
      submit(event->sku, event->event, event->reply);
    } else if (auto* query = std::get_if<Query>(&mail)) {
      run(*query);
    } else if (const auto* looks = std::get_if<LookMail>(&mail)) {
      LookedMail answer;
      look(looks->looks, answer.looked);
      answers_[looks->origin].push_back(std::move(answer));
    }
  }
}

void Desk::post_mail() {
  for (std::size_t to = 0; to < outgoing_.size(); ++to) {
    if (outgoing_[to].empty()) continue;
    if (!office_.mailboxes[to]->put(outgoing_[to])) {
      for (const Mail& mail : outgoing_[to]) {
        if (const auto* event = std::get_if<EventMail>(&mail)) {
          overloaded(index_, event->reply.ticket);
        } else if (const auto* query = std::get_if<Query>(&mail)) {
          overloaded(index_, query->ticket);
        }  // looks are made again
      }
      outgoing_[to].clear();
    }
    office_.workers[to]->wake();
  }
}

void Desk::post_answers() {
  for (std::size_t to = 0; to < answers_.size(); ++to) {
    if (answers_[to].empty()) continue;
    office_.mailboxes[to]->put_answers(answers_[to]);
    office_.workers[to]->wake();
  }
}

void Desk::overloaded(std::uint16_t origin, http::Ticket t) {
  ++overloaded_;
  problem(origin, t, 503, "overloaded", "Overloaded",
          "Too much is waiting; nothing was recorded. Try again with the same Idempotency-Key.",
          kRetrySoon);
}

// Looks see everything that was decided in this turn.
void Desk::answer_looks() {
  for (Query& q : looks_) {
    if (come_to(q)) {
      go_on(q);
      continue;
    }
    const Sale* sale = shard_.find(sku_id(q.sku.view()));
    if (may_wait(q.origin, q.ticket, q.min_seq, sale != nullptr ? sale->seq() : Seq{0})) {
      waits_.push_back(q);
    }
  }
  looks_.clear();
}

// Answers by itself and returns false when waiting for that position is of no use or too many wait.
bool Desk::may_wait(std::uint16_t origin, http::Ticket t, Seq wanted, Seq position) {
  if (wanted > position && wanted.value - position.value > kMaxAhead) {
    too_late(origin, t);
    return false;
  }
  if (waiting() < kMaxWaits) return true;
  overloaded(origin, t);
  return false;
}

void Desk::too_late(std::uint16_t origin, http::Ticket t) {
  // This node is behind; the edge asks another.
  if ((origin & kForwarded) != 0) return member_->drop_forwarded(t);
  problem(
      origin, t, 503, "position_not_reached", "Position not reached",
      "This server is behind others, or the sale is kept by others, or it has not come to min_seq "
      "yet: was that read from this sale?",
      kRetrySoon);
}

void Desk::check_waits() {
  if (waiting() == 0) return;
  const auto now = steady_clock::now();
  if (now < next_check_) return;
  next_check_ = now + kMinSeqPoll;
  // Answering adds to none of these lists, but what is held.
  std::erase_if(waits_, [&](const Query& q) {
    if (come_to(q)) {
      go_on(q);
      return true;
    }
    if (now < q.asked + kMinSeqPatience) return false;
    too_late(q.origin, q.ticket);
    return true;
  });
  std::erase_if(held_, [&](const Held& h) {
    if (office_.cluster->agreed(h.sku, h.at)) {
      const AnswerMail& a = h.answer;
      reply(a.origin, a.ticket, a.status, a.content_type, a.headers, a.body);
      return true;
    }
    if (now < h.asked + kMinSeqPatience) return false;
    too_late(h.answer.origin, h.answer.ticket);
    return true;
  });
  std::erase_if(sale_waits_, [&](const SaleWait& w) {
    const bool sure = knows_until(w.sku) >= w.asked;  // first: meanwhile it may come
    const Availability* sale = find_sale(w.sku);
    if (sale && sale->position >= w.min_seq) {
      respond_sale(w.ticket, *sale, {});
      return true;
    }
    // A node of a cluster hears of a new sale a moment later than whoever made it.
    if (!sale && sure) {
      refuse(index_, w.ticket, Reason::unknown_sale, w.sku.view(), Seq{0}, Seq{0});
      return true;
    }
    if (now < w.asked + kMinSeqPatience) return false;
    too_late(index_, w.ticket);
    return true;
  });
  std::erase_if(projection_waits_, [&](const ProjectionWait& w) {
    const auto position = stored_.position(w.read);
    if (!position || *position >= w.min_seq) {
      respond(w.ticket, stored_.read(w.read));
      return true;
    }
    if (now < w.deadline) return false;
    too_late(index_, w.ticket);
    return true;
  });
}

void Desk::count() {
  Metrics& m = office_.metrics;
  const auto add = [](prometheus::Counter& c, std::uint64_t n) {
    if (n != 0) c.Increment(static_cast<double>(n));
  };
  add(m.requests, requests_);
  add(m.rate_limited, rate_limited_);
  add(m.overloaded, overloaded_);
  add(m.denied, denied_);
  requests_ = rate_limited_ = overloaded_ = denied_ = 0;
  if (counted_) {
    m.answered(kinds_, reasons_);
    kinds_.fill(0);
    reasons_.fill(0);
    counted_ = false;
  }
  const http::WorkerStats stats = worker_->stats();
  add(m.edge_refused,
      stats.refused + stats.over_capacity - last_stats_.refused - last_stats_.over_capacity);
  add(m.edge_timeouts, stats.timeouts - last_stats_.timeouts);
  if (stats.connections != last_stats_.connections) {
    m.connections.Increment(static_cast<double>(stats.connections) -
                            static_cast<double>(last_stats_.connections));
  }
  last_stats_ = stats;
  if (shard_.skus() != last_skus_) {
    m.skus.Increment(static_cast<double>(shard_.skus()) - static_cast<double>(last_skus_));
    last_skus_ = shard_.skus();
  }
}

// ---- Answers ----

void Desk::reply(std::uint16_t origin, http::Ticket t, int status, std::string_view content_type,
                 std::string_view headers, std::string_view body) {
  const auto mail = [&] {
    return AnswerMail{.ticket = t,
                      .origin = origin,
                      .status = status,
                      .content_type = content_type,
                      .headers = std::string(headers),
                      .body = std::string(body)};
  };
  if (holds_ != nullptr) {
    holds_->answer = mail();
    held_.push_back(std::move(*std::exchange(holds_, nullptr)));
    return;
  }
  if (origin == index_) {
    worker_->respond(t, {status, content_type, headers, body});
    return;
  }
  if (origin == kOfBatch) return member_->tell({status, content_type, headers, body});
  if ((origin & kForwarded) != 0) {
    return member_->reply_forwarded(t, {status, content_type, headers, body});
  }
  answers_[origin].push_back(mail());
}

void Desk::problem(std::uint16_t origin, http::Ticket t, int status, std::string_view name,
                   std::string_view title, std::string_view detail, std::string_view headers,
                   std::string_view extra) {
  body_.clear();
  http::append_problem(body_, {status, name, title, detail}, extra);
  reply(origin, t, status, http::kProblemJson, headers, body_);
}

void Desk::bad_request(http::Ticket t, std::string_view detail) {
  problem(t, 400, "bad_request", "Bad request", detail);
}

void Desk::not_found(std::uint16_t origin, http::Ticket t) {
  problem(origin, t, 404, "not_found", "Not found", "There is nothing here; see /openapi.json.");
}

void Desk::refuse(std::uint16_t origin, http::Ticket t, Reason reason, std::string_view sku,
                  Seq purchase, Seq position, bool repeated) {
  const Wording w = wording_of(reason);
  char extra[256];
  auto end = fmt::format_to_n(extra, sizeof extra, R"("reason":"{}")", name_of(reason)).out;
  if (purchase.value != 0) {
    end = fmt::format_to(end, R"(,"purchase":"{}:{}")", sku, purchase.value);
  }
  if (position.value != 0) end = fmt::format_to(end, R"(,"position":{})", position.value);
  problem(origin, t, w.status, name_of(reason), w.title, w.detail,
          repeated ? std::string_view("Idempotent-Replayed: true\r\n") : std::string_view{},
          {extra, static_cast<std::size_t>(end - extra)});
}

void Desk::on_decided(const fairsale::Ticket& ticket, SkuId sku, Seq seq, const Event& event,
                      const Decision& d, const Sale& sale) {
  const Reply r = member_ != nullptr ? Reply{.origin = kOfBatch, .kind = Reply::kind_of(event)}
                                     : Reply::unpack(ticket);
  counted_ = true;
  ++kinds_[static_cast<std::size_t>(d.kind)];
  if (d.kind == DecisionKind::refused) ++reasons_[static_cast<std::size_t>(d.reason)];

  if (r.kind == Reply::Kind::attempt) return answer_attempt(r, seq, event, d, sale);
  if (d.kind == DecisionKind::refused) {
    return refuse(r.origin, r.ticket, d.reason, sale.sku(),
                  d.reason == Reason::unknown_purchase ? Seq{0} : d.purchase, seq);
  }
  body_.clear();
  switch (r.kind) {
    case Reply::Kind::put:
    case Reply::Kind::patch:
      headers_.clear();
      append(headers_, "ETag: \"{}\"\r\n", seq.value);
      body_ = render_sale(sale);
      return reply(r.origin, r.ticket, d.kind == DecisionKind::scheduled ? 201 : 200, http::kJson,
                   headers_, body_);
    case Reply::Kind::give_up: {
      const auto index = sale.find_purchase(d.purchase);
      FAIRSALE_INVARIANT(index.has_value(), "what was given up is a purchase");
      append_purchase(body_, sale, *index, sku);
      return reply(r.origin, r.ticket, 200, http::kJson, kNoStore, body_);
    }
    case Reply::Kind::payment: {
      const auto* received = std::get_if<PaymentReceived>(&event);
      const auto* failed = std::get_if<PaymentFailed>(&event);
      const std::string id = fmt::format("{}:{}", sale.sku(), d.purchase.value);
      JsonWriter json(body_);
      json.begin_object().member("purchase", std::string_view(id));
      json.member("status", d.kind == DecisionKind::payment_failure_noted
                                ? std::string_view("failure_noted")
                                : name_of(d.kind));
      if (d.reason != Reason::none) json.member("reason", name_of(d.reason));
      json.member("reference",
                  received != nullptr ? received->reference.view() : failed->reference.view())
          .member("position", seq.value)
          .end_object();
      return reply(r.origin, r.ticket, 200, http::kJson, d.repeated ? kNoStoreReplayed : kNoStore,
                   body_);
    }
    case Reply::Kind::refund:
      append(body_, R"({{"purchase":"{}:{}","status":"refunded","position":{}}})", sale.sku(),
             d.purchase.value, seq.value);
      return reply(r.origin, r.ticket, 200, http::kJson, d.repeated ? kNoStoreReplayed : kNoStore,
                   body_);
    case Reply::Kind::attempt: break;
  }
}

// The answer to a retry is byte for byte that to the first try: everything in it is from the
// purchase as it was first told.
void Desk::answer_attempt(const Reply& r, Seq seq, const Event& event, const Decision& d,
                          const Sale& sale) {
  if (d.kind == DecisionKind::refused) {
    const bool conflict = d.reason == Reason::key_reused || d.purchase.value == 0;
    return refuse(r.origin, r.ticket, d.reason, sale.sku(), conflict ? Seq{0} : d.purchase,
                  conflict ? seq : d.purchase, d.repeated);
  }
  const auto& attempt = std::get<PurchaseAttempted>(event);
  const bool reserved = d.kind == DecisionKind::reserved;
  const Money unit = sale.terms().price;
  body_.clear();
  const auto body = std::back_inserter(body_);
  fmt::format_to(
      body, FMT_COMPILE(R"({{"purchase":"{}:{}","sku":"{}","customer":"{}","quantity":{},)"),
      sale.sku(), d.purchase.value, sale.sku(), attempt.customer.view(), d.quantity.value);
  if (reserved) {
    const auto until = rfc3339(d.until);
    fmt::format_to(body, FMT_COMPILE(R"("status":"reserved","until":"{}",)"),
                   std::string_view(until.data(), until.size()));
  } else {
    fmt::format_to(body, FMT_COMPILE(R"("status":"waiting","place":{},)"), d.place);
  }
  fmt::format_to(body, FMT_COMPILE(R"("amount":{{"amount":{},"currency":"{}"}},"position":{}}})"),
                 unit.amount.value * d.quantity.value,
                 std::string_view(unit.currency.code.data(), unit.currency.code.size()),
                 d.purchase.value);
  headers_.clear();
  fmt::format_to(std::back_inserter(headers_), FMT_COMPILE("Location: /v1/purchases/{}:{}\r\n{}"),
                 sale.sku(), d.purchase.value, d.repeated ? "Idempotent-Replayed: true\r\n" : "");
  reply(r.origin, r.ticket, reserved ? 201 : 202, http::kJson, headers_, body_);
}

}  // namespace fairsale::api
