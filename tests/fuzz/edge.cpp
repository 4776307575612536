// The whole edge, as a client meets it: a worker on a socket with a desk behind it and a sale in
// memory, new for each input. Each whole request gets exactly one answer, in order, each answer is
// well-formed HTTP with fields that the server means to send, and the sale comes out sound.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <set>
#include <thread>

#include <simdjson.h>

#include "api/clerk.hpp"
#include "api/desk.hpp"
#include "api/explainer.hpp"
#include "api/http/problem.hpp"
#include "api/server.hpp"
#include "core/engine/recovery.hpp"
#include "core/log/memory_log.hpp"
#include "tests/fuzz/stream.hpp"

namespace fairsale::fuzz {

using namespace api;

namespace {

constexpr Timestamp kOpening{1'700'000'000'000};
constexpr std::uint64_t kPosition = 3;  // of the sale at the start

const Secrets& secrets() {
  static const Secrets s{"operator-secret-0123456789", "shop-secret-0123456789abcd",
                         "customer-key-0123456789abc"};
  return s;
}

// A socket that listens under a name of its own, without a port that could run out.
http::Listener listener(sockaddr_un& name, socklen_t& size) {
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  name = {};
  name.sun_family = AF_UNIX;
  size = sizeof(sa_family_t);
  expect(fd >= 0 && ::bind(fd, reinterpret_cast<const sockaddr*>(&name), size) == 0 &&
             ::listen(fd, 8) == 0,
         "a socket can listen");
  size = sizeof name;
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
  return http::Listener(fd);
}

struct Nobody final : Answers {
  void on_decided(const fairsale::Ticket&, SkuId, Seq, const Event&, const Decision&,
                  const Sale&) override {}
};

// Everything that serve() puts together, for one worker and one sale.
class Server final : public http::Service {
 public:
  Server() {
    auto opened = Engine::open(log_, clock_, observers_, {.snapshot_every = 0});
    expect(opened.has_value(), "an empty log opens");
    engine_ = std::move(*opened);
    open_sale();
    config_.limits = small_limits();
    worker_ = std::make_unique<http::Worker>(listener(name_, name_size_), config_.limits);
    office_.reset(new Office{.config = config_,
                             .engine = *engine_,
                             .clock = clock_,
                             .board = board_,
                             .metrics = metrics_,
                             .customer_limiter = customer_limiter_,
                             .address_limiter = address_limiter_,
                             .streams = &streams_,
                             .openapi = R"({"openapi":"3.1.0"})",
                             .pages = pages_,
                             .mailboxes = {},
                             .workers = {worker_.get()},
                             .serving = 1,
                             .explainer = &explainer_,
                             .clerk = &clerk_,
                             .redeliveries = &clerk_,
                             .webhooks = &webhooks_,
                             .fail = [](const Error&) { std::abort(); }});
    office_->mailboxes.push_back(std::make_unique<Mailbox>());
    desk_.emplace(*office_, 0, secrets(), projections_);
    thread_ = std::thread([this] { worker_->run(*this); });
  }

  ~Server() override {
    if (thread_.joinable()) stop();
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  void on_request(const http::Request& r, http::Ticket t) override {
    ++requests_;
    desk_->on_request(r, t);
  }
  std::chrono::steady_clock::time_point on_turn() override { return desk_->on_turn(); }

  int connect() const {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    expect(fd >= 0 && ::connect(fd, reinterpret_cast<const sockaddr*>(&name_), name_size_) == 0,
           "the server takes connections");
    return fd;
  }

  void stop() {
    worker_->drain(std::chrono::milliseconds(0));
    thread_.join();
    explainer_.stop();
    clerk_.stop();
  }

  // For who waits in vain.
  std::string progress() const {
    const http::WorkerStats s = worker_->stats();
    return std::to_string(s.turns) + " turns, " + std::to_string(s.accepted) + " accepted, " +
           std::to_string(s.bytes_in) + " bytes in, " + std::to_string(s.requests) + " requests, " +
           std::to_string(s.refused) + " refused, " + std::to_string(s.bytes_out) + " bytes out";
  }

  // After stop().
  std::size_t requests() const { return requests_; }
  void judge_sales() const {
    const auto heads = log_.heads();
    expect(heads.has_value(), "the log tells its heads");
    for (const SkuHead& h : *heads) {
      const Sale* sale = engine_->shard(0).find(h.sku);
      expect(sale != nullptr && sale->seq() == h.head.seq, "what is in the log is decided");
      const auto wrong = sale->check();
      expect(!wrong, "sales stay sound", wrong.value_or(""));
      const auto folded = fold(log_, h, FoldFrom::start, nullptr);
      expect(folded && state_digest(folded->sale) == state_digest(*sale),
             "a state is the fold of its log");
    }
  }

 private:
  // One unit is reserved for anna, nobody waits.
  void open_sale() {
    const Terms terms{.stock = Quantity{2},
                      .price = {MinorUnits{4900}, Currency{{'E', 'U', 'R'}}},
                      .starts_at = kOpening,
                      .hold = Duration{60'000},
                      .grace = Duration{0},
                      .limit_per_customer = Quantity{2},
                      .units_per_purchase = Quantity{2},
                      .line_limit = 2};
    const SkuId sku = sku_id("demo");
    Nobody nobody;
    const auto add = [&](const Event& e) {
      expect(engine_->shard(0).submit(sku, e, {}) == Admission::accepted, "there is room");
    };
    add(SaleScheduled{.sku = *SkuName::from("demo"), .terms = terms, .actor = {}});
    add(PurchaseAttempted{*CustomerId::from("anna"), idempotency_key("k1"), Quantity{1}});
    add(PaymentFailed{Seq{2}, *PaymentReference::from("p")});
    expect(engine_->shard(0).turn(nobody).has_value(), "memory does not fail");
  }

  MemoryLog log_;
  ManualClock clock_{kOpening};
  AvailabilityBoard board_;
  ShardProjections projections_{board_, nullptr};
  std::vector<SaleObserver*> observers_{&projections_.all};
  std::unique_ptr<Engine> engine_;
  ServerConfig config_;
  Metrics metrics_;
  RateLimiter customer_limiter_{{10, 20}, 64};
  RateLimiter address_limiter_{{200, 400}, 64};
  StreamCount streams_{0};  // a stream would not end
  const Pages pages_{false, {}};
  const WebhookRoutes webhooks_{nullptr, nullptr};
  std::unique_ptr<http::Worker> worker_;
  std::unique_ptr<Office> office_;
  Clerk clerk_;
  Explainer explainer_{log_, [this](std::uint16_t origin, AnswerMail mail) {
                         std::vector<Mail> batch;
                         batch.emplace_back(std::move(mail));
                         office_->mailboxes[origin]->put_answers(batch);
                         worker_->wake();
                       }};
  std::optional<Desk> desk_;
  sockaddr_un name_{};
  socklen_t name_size_ = 0;
  std::size_t requests_ = 0;
  std::thread thread_;
};

// Sends everything, piece by piece, says that no more will come, and reads to the end.
std::string exchange(const Server& server, std::string_view bytes, std::size_t piece) {
  const int fd = server.connect();
  std::string answers;
  bool sending = true;
  for (;;) {
    if (sending && bytes.empty()) {
      ::shutdown(fd, SHUT_WR);
      sending = false;
    }
    pollfd ready{fd, static_cast<short>(sending ? POLLIN | POLLOUT : POLLIN), 0};
    // In short waits that sum up to more than any timeout of the server, since a machine that was
    // stopped meanwhile is to be charged with one of them at most.
    int waits = 0;
    while (::poll(&ready, 1, 1'000) == 0) {
      expect(++waits < 100, "a connection makes progress", server.progress());
    }
    if ((ready.revents & POLLOUT) != 0) {
      const ssize_t n = ::send(fd, bytes.data(), std::min(piece, bytes.size()), MSG_NOSIGNAL);
      if (n > 0) bytes.remove_prefix(static_cast<std::size_t>(n));
      // The server has closed and wants no more.
      if (n < 0 && errno != EAGAIN) sending = false;
    }
    if ((ready.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    char buffer[16'384];
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n > 0) answers.append(buffer, static_cast<std::size_t>(n));
    if (n == 0 || (n < 0 && errno != EAGAIN)) break;
  }
  ::close(fd);
  return answers;
}

std::string_view cut_line(std::string_view& s, std::string_view all) {
  const std::size_t end = s.find("\r\n");
  expect(end != std::string_view::npos, "lines are whole", all);
  const std::string_view line = s.substr(0, end);
  s.remove_prefix(end + 2);
  expect(line.find_first_of("\r\n") == std::string_view::npos, "and end with CRLF", all);
  return line;
}

// Takes one answer off the front; returns its status.
int judge_answer(std::string_view& s, bool to_head, bool last) {
  static const std::set<std::string_view> kFields = {"Date",
                                                     "Connection",
                                                     "Content-Type",
                                                     "Content-Length",
                                                     "ETag",
                                                     "Location",
                                                     "Allow",
                                                     "Retry-After",
                                                     "RateLimit",
                                                     "RateLimit-Policy",
                                                     "Cache-Control",
                                                     "WWW-Authenticate",
                                                     "Content-Security-Policy",
                                                     "X-Content-Type-Options",
                                                     "Referrer-Policy",
                                                     "Vary",
                                                     "Idempotent-Replayed"};
  const std::string_view all = s;
  const std::string_view line = cut_line(s, all);
  expect(line.starts_with("HTTP/1.1 ") && line.size() >= 13 && line[12] == ' ',
         "an answer begins with its status", all);
  const auto status = http::parse_number(line.substr(9, 3));
  expect(status && *status >= 100 && *status <= 503, "a status is a number", all);
  std::set<std::string_view> seen;
  std::size_t length = 0;
  std::string_view type;
  for (std::string_view field = cut_line(s, all); !field.empty(); field = cut_line(s, all)) {
    const std::size_t colon = field.find(": ");
    const std::string_view name = field.substr(0, colon);
    expect(colon != std::string_view::npos && kFields.contains(name), "a field is meant", all);
    expect(seen.insert(name).second, "and sent once", all);
    const std::string_view value = field.substr(colon + 2);
    if (name == "Content-Length") length = http::parse_number(value).value_or(~0U);
    if (name == "Content-Type") type = value;
    if (name == "Connection") expect(value != "close" || last, "after close nothing comes", all);
  }
  const auto code = static_cast<int>(*status);
  if (code == 100) return code;
  const bool bodiless = code == 204 || code == 304;
  expect(bodiless || seen.contains("Content-Length"), "an answer says how long it is", all);
  expect(seen.contains("Date"), "and when it was given", all);
  if (bodiless || to_head) return code;
  expect(length <= s.size(), "a body is as long as it was said", all);
  const std::string_view body = s.substr(0, length);
  s.remove_prefix(length);
  if (type.starts_with("application/")) {
    simdjson::dom::parser parser;
    simdjson::dom::element e;
    expect(parser.parse(body.data(), body.size()).get(e) == simdjson::SUCCESS, "JSON is JSON",
           body);
    std::int64_t told = 0;
    if (type == http::kProblemJson) {
      expect(e["status"].get(told) == simdjson::SUCCESS && told == code,
             "a problem tells its status", body);
    }
  }
  return code;
}

// A read that waits for a position that does not come takes its two seconds.
bool would_wait(const ReadRequest& r) {
  char scratch[32];
  std::string_view value;
  if (http::query_parameter(r.query, "min_seq", scratch, value) != http::Parameter::present) {
    return false;
  }
  const auto n = http::parse_number(value);
  return n && *n > kPosition && *n <= 200'000;
}

}  // namespace

void judge(std::string_view input) {
  Choices in(input);
  const std::size_t piece = std::size_t{1} + 4 * in.byte();
  const ReadStream expected = read_stream(in.rest(), small_limits(), in.rest().size() + 1);
  if (std::any_of(expected.requests.begin(), expected.requests.end(), would_wait)) return;

  Server server;
  const std::string answers = exchange(server, in.rest(), piece);
  server.stop();
  expect(server.requests() == expected.requests.size(), "every whole request is handed over once");
  std::string_view rest = answers;
  const std::size_t count = expected.requests.size() + (expected.refused != 0 ? 1 : 0);
  for (std::size_t i = 0; i < count; ++i) {
    const bool refusal = i == expected.requests.size();
    const bool head = refusal ? expected.refused_head : expected.requests[i].head;
    if (refusal && expected.refused_early && rest.empty()) break;
    expect(!rest.empty(), "every request is answered", answers);
    int status = 0;
    do {
      status = judge_answer(rest, head, i + 1 == count);
    } while (status == 100);
    if (refusal) expect(status >= 400, "what is refused is told so", answers);
  }
  // Where the rest of a request did not come, there may be a promise to read on, or a refusal of
  // what came of it.
  bool refused = !expected.unfinished;
  while (!rest.empty()) {
    const int status = judge_answer(rest, false, true);
    expect(status == 100 || (status >= 400 && !refused), "and once only", answers);
    refused = refused || status != 100;
  }
  server.judge_sales();
}

std::vector<std::string> seeds() {
  const std::string customer = Authenticator(secrets()).mint("ben", kOpening.value / 1000 + 3600);
  const auto request = [](std::string_view line, std::string_view token, std::string_view body,
                          std::string_view fields = "") {
    std::string s = std::string(line) + " HTTP/1.1\r\nHost: a\r\n";
    if (!token.empty()) s += "Authorization: Bearer " + std::string(token) + "\r\n";
    s += fields;
    if (!body.empty()) s += "Content-Length: " + std::to_string(body.size()) + "\r\n";
    return s + "\r\n" + std::string(body);
  };
  const std::string& shop = secrets().shop_token;
  const std::string& boss = secrets().operator_token;
  const std::string key = "Idempotency-Key: k2\r\n";
  const std::string buy =
      request("POST /v1/sales/demo/purchases", shop, R"({"customer":"cleo","quantity":1})", key);
  const std::string own = request("POST /v1/sales/demo/purchases", customer, "{}", key);
  const std::string pay = request("POST /v1/purchases/demo:2/payment", shop,
                                  R"({"reference":"p1","amount":4900,"currency":"EUR"})");
  const std::string put =
      request("PUT /v1/sales/new", boss,
              R"({"stock":5,"price":{"amount":1,"currency":"EUR"},"hold_seconds":1.5})");
  const std::string pause =
      request("PATCH /v1/sales/demo", boss, R"({"action":"pause","actor":"o","reason":"r"})");
  const std::string refund = request("POST /v1/purchases/demo:2/refund", shop,
                                     R"({"restock":true,"actor":"o","reason":"r"})");
  const std::string token = request("POST /v1/tokens", shop, R"({"customer":"ben"})");
  const std::string cancel = request("DELETE /v1/purchases/demo:2", shop, "");
  std::vector<std::string> out;
  for (const std::string& s : {buy, own, pay, put, pause, refund, token, cancel}) {
    out.push_back('\xff' + s);
  }
  for (const std::string_view path : {"/",
                                      "/livez",
                                      "/readyz",
                                      "/openapi.json",
                                      "/metrics",
                                      "/v1/sales",
                                      "/v1/sales/demo",
                                      "/v1/sales/demo?min_seq=3",
                                      "/v1/sales/demo/line?limit=2",
                                      "/v1/sales/demo/audit-head",
                                      "/v1/sales/demo/orders?after=1",
                                      "/v1/sales/demo/timeline?after=2026-01-01T00:00:00Z",
                                      "/v1/sales/demo/purchases?customer=anna",
                                      "/v1/purchases/demo:2",
                                      "/v1/purchases/demo:2/explanation",
                                      "/v1/projections",
                                      "/v1/sales/d%65mo",
                                      "/v1/sales/demo/events",
                                      "/v1/purchases/demo:2/events",
                                      "/v1/sales/demo/decisions",
                                      "/v1/webhooks",
                                      "/v1/webhooks/wh_1/attempts",
                                      "/v1/outbox",
                                      "/v1/audits",
                                      "/v1/stats",
                                      "/s/demo",
                                      "/console"}) {
    out.push_back('\x08' +
                  request("GET " + std::string(path), boss, "", "If-None-Match: \"1\"\r\n"));
  }
  out.push_back('\xff' + request("POST /v1/webhooks", shop, R"({"url":"https://a.example/"})"));
  out.push_back('\xff' + request("PATCH /v1/webhooks/wh_1", shop, R"({"enabled":true})") +
                request("POST /v1/payments/callback", "", "{}") +
                request("POST /v1/guests", "", ""));
  out.push_back('\xff' + buy + buy + own + pay + cancel + refund +
                request("HEAD /v1/sales/demo", "", "") + pause + own);
  out.push_back('\xff' + request("HEAD /livez", "", "") + request("HEAD /nothing", "", "") +
                request("GET /readyz", "", ""));
  out.push_back('\2' + request("GET /v1/sales/demo", "", "", "Connection: close\r\n") + buy);
  out.push_back('\xff' + request("POST /v1/tokens", shop, "", "Expect: 100-continue\r\n"));
  return out;
}

}  // namespace fairsale::fuzz
