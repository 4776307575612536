#include "tests/tools/fake_server.hpp"

#include <utility>  // Asio 1.74 forgets to include it

#include <fmt/format.h>

#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <future>
#include <map>
#include <set>
#include <thread>

#include "core/domain/sale.hpp"
#include "core/log/digest.hpp"

namespace fairsale::testing {

namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using tcp = asio::ip::tcp;

class NoSink final : public DecisionSink {
 public:
  void on(const Decision&) override {}
};

Timestamp now() {
  return Timestamp{std::chrono::duration_cast<std::chrono::milliseconds>(
                       std::chrono::system_clock::now().time_since_epoch())
                       .count()};
}

// "name":"value" or "name":number of a flat object, as the crowd writes it.
std::string member(const std::string& body, const std::string& name) {
  const std::size_t at = body.find("\"" + name + "\":");
  if (at == std::string::npos) return {};
  std::size_t begin = at + name.size() + 3;
  if (body[begin] == '"') {
    ++begin;
    return body.substr(begin, body.find('"', begin) - begin);
  }
  return body.substr(begin, body.find_first_of(",}", begin) - begin);
}

int status_of(Reason r) {
  switch (r) {
    case Reason::not_started: return 425;
    case Reason::over_limit: return 403;
    case Reason::quantity_invalid:
    case Reason::key_reused: return 422;
    case Reason::unknown_purchase: return 404;
    default: return 409;
  }
}

}  // namespace

struct FakeServer::Impl {
  class Session;

  explicit Impl(FakeOptions o) : options(std::move(o)) {
    SaleScheduled e;
    e.sku = *SkuName::from(options.sku);
    e.terms.stock = options.stock;
    e.terms.price = {MinorUnits{4900}, Currency{{'E', 'U', 'R'}}};
    e.terms.starts_at = Timestamp{0};
    e.terms.hold = options.hold;
    e.terms.limit_per_customer = options.limit;
    e.terms.units_per_purchase = options.units;
    e.terms.line_limit = options.line_limit;
    e.terms.line_policy = options.policy;
    apply(e);
    listen(0);
    port = acceptor->local_endpoint().port();
    thread = std::thread([this] { io.run(); });
  }

  ~Impl() {
    on_thread([this] {
      stop();
      sessions.clear();
    });
    work.reset();
    io.stop();
    thread.join();
  }

  void on_thread(std::function<void()> f) {
    std::promise<void> done;
    asio::post(io, [&] {
      f();
      done.set_value();
    });
    done.get_future().wait();
  }

  void listen(std::uint16_t at) {
    acceptor.emplace(io);
    const tcp::endpoint endpoint(asio::ip::make_address("127.0.0.1"), at);
    acceptor->open(endpoint.protocol());
    acceptor->set_option(asio::socket_base::reuse_address(true));
    acceptor->bind(endpoint);
    acceptor->listen(1024);
    accept();
  }

  void accept();
  void stop();

  Decision apply(const Event& e) {
    const Timestamp at = std::max(now(), sale.time());
    return sale.apply(Seq{sale.seq().value + 1}, at, e, sink);
  }

  bool every(unsigned n, unsigned& count) { return n != 0 && ++count % n == 0; }

  FakeReply problem(Reason r, Seq purchase) {
    std::string id;
    if (purchase.value != 0)
      id = fmt::format(R"("purchase":"{}:{}",)", options.sku, purchase.value);
    return {status_of(r),
            fmt::format(R"({{"type":"urn:fairsale:problem:{0}","title":"{0}","status":{1},)"
                        R"("detail":"x","reason":"{0}",{2}"position":{3}}})",
                        name_of(r), status_of(r), id, sale.seq().value),
            {},
            false};
  }

  FakeReply attempt(const std::string& key, const std::string& body) {
    const std::string customer = member(body, "customer");
    const std::string id = customer + "|" + key;
    if (const auto known = answers.find(id); known != answers.end()) {
      FakeReply again = known->second;
      again.replayed = true;
      return again;
    }
    const Decision d = apply(PurchaseAttempted{
        *CustomerId::from(customer), idempotency_key(key),
        Quantity{static_cast<std::uint32_t>(std::stoul(member(body, "quantity")))}});
    ++attempts;
    FakeReply r;
    const std::string head =
        fmt::format(R"({{"purchase":"{0}:{1}","sku":"{0}","customer":"{2}","quantity":{3},)",
                    options.sku, d.purchase.value, customer, d.quantity.value);
    if (d.kind == DecisionKind::reserved) {
      r = {201, head + fmt::format(R"("status":"reserved","until":"2026","position":{}}})",
                                   sale.seq().value)};
    } else if (d.kind == DecisionKind::waiting) {
      r = {202, head + fmt::format(R"("status":"waiting","place":{},"position":{}}})", d.place,
                                   sale.seq().value)};
    } else {
      r = problem(d.reason, d.purchase);
    }
    r.purchase_attempt = id;
    answers[id] = r;
    return r;
  }

  FakeReply read(Seq seq) {
    const auto index = sale.find_purchase(seq);
    if (!index) return problem(Reason::unknown_purchase, Seq{0});
    const Purchase& p = sale.purchase(*index);
    std::string reason;
    if (p.reason != Reason::none) reason = fmt::format(R"("reason":"{}",)", name_of(p.reason));
    return {200,
            fmt::format(R"({{"purchase":"{}:{}","quantity":{},"status":"{}",{}"position":{}}})",
                        options.sku, seq.value, p.quantity, name_of(p.status), reason,
                        sale.seq().value)};
  }

  FakeReply listing(const std::string& customer) {
    std::string list;
    if (const auto c = sale.find_customer(customer)) {
      for (std::uint32_t i = 0; i < sale.purchases(); ++i) {
        const Purchase& p = sale.purchase(PurchaseIndex{i});
        if (p.customer != c->value) continue;
        list += fmt::format(R"({}{{"purchase":"{}:{}","status":"{}"}})", list.empty() ? "" : ",",
                            options.sku, p.seq.value, name_of(p.status));
      }
    }
    return {200, fmt::format(R"({{"purchases":[{}],"position":{}}})", list, sale.seq().value)};
  }

  FakeReply document() {
    const Counters& c = sale.counters();
    return {200, fmt::format(
                     R"({{"sku":"{}","state":"{}","stock":{},"available":{},"held":{},"sold":{},)"
                     R"("waiting":{},"price":{{"amount":4900,"currency":"EUR"}},)"
                     R"("limit_per_customer":{},"line_limit":{},"line_policy":"{}",)"
                     R"("position":{}}})",
                     options.sku, name_of(sale.phase()), c.stocked.value, c.available.value,
                     c.held.value, c.sold.value, c.waiting, options.limit.value, options.line_limit,
                     options.policy == LinePolicy::strict ? "strict" : "skip_if_unfit",
                     sale.seq().value)};
  }

  FakeReply act(const std::string& method, const std::string& target, const std::string& key,
                const std::string& body) {
    if (sale.next_deadline() <= now()) apply(TimePassed{});
    const std::string path = target.substr(0, target.find('?'));
    const std::string of_sale = "/v1/sales/" + options.sku;
    const std::string of_purchase = "/v1/purchases/" + options.sku + ":";
    if (path == of_sale) return document();
    if (path == of_sale + "/purchases") {
      if (method == "POST") return attempt(key, body);
      return listing(target.substr(target.find('=') + 1));
    }
    if (!path.starts_with(of_purchase)) return {404, "{}"};
    const Seq seq{std::stoull(path.substr(of_purchase.size()))};
    if (method == "GET") return read(seq);
    if (method == "DELETE") {
      const auto index = sale.find_purchase(seq);
      const bool offered = index && sale.purchase(*index).status == PurchaseStatus::offered;
      const Decision d = offered ? apply(OfferDeclined{seq}) : apply(PurchaseCancelled{seq});
      if (d.kind == DecisionKind::refused) return problem(d.reason, d.purchase);
      return read(seq);
    }
    PaymentReceived e;
    e.purchase = seq;
    e.reference = *PaymentReference::from(member(body, "reference"));
    e.amount = {MinorUnits{std::stoll(member(body, "amount"))}, Currency{{'E', 'U', 'R'}}};
    const Decision d = apply(e);
    if (d.kind == DecisionKind::refused) return problem(d.reason, d.purchase);
    return {200, fmt::format(R"({{"purchase":"{}:{}","status":"{}","position":{}}})", options.sku,
                             seq.value, name_of(d.kind), sale.seq().value)};
  }

  FakeOptions options;
  asio::io_context io;
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{
      asio::make_work_guard(io)};
  std::optional<tcp::acceptor> acceptor;
  std::set<std::shared_ptr<Session>> sessions;
  std::uint16_t port = 0;
  Sale sale;
  NoSink sink;
  std::map<std::string, FakeReply> answers;
  std::atomic<std::uint64_t> attempts{0};
  unsigned limited = 0;
  unsigned dropped = 0;
  unsigned garbled = 0;
  std::thread thread;
};

class FakeServer::Impl::Session : public std::enable_shared_from_this<Session> {
 public:
  Session(Impl& server, tcp::socket socket) : server_(server), socket_(std::move(socket)) {}

  void read() {
    request_ = {};
    http::async_read(socket_, buffer_, request_,
                     [self = shared_from_this()](boost::beast::error_code error, std::size_t) {
                       if (error) return self->end();
                       self->answer();
                     });
  }

  void close() {
    boost::beast::error_code ignored;
    // A reset, as when a process dies, rather than an orderly end.
    socket_.set_option(asio::socket_base::linger(true, 0), ignored);
    socket_.close(ignored);
  }

 private:
  void end() {
    close();
    server_.sessions.erase(shared_from_this());
  }

  void answer() {
    const std::string method(request_.method_string());
    const std::string target(request_.target());
    const bool buys = method == "POST" && target.ends_with("/purchases");
    response_ = {};
    response_.version(11);
    if (buys && server_.every(server_.options.rate_limit_every, server_.limited)) {
      response_.result(429);
      response_.set(http::field::retry_after, "0");
      response_.body() = R"({"type":"urn:fairsale:problem:rate_limited","status":429})";
    } else {
      FakeReply reply =
          server_.act(method, target, std::string(request_["Idempotency-Key"]), request_.body());
      if (server_.options.lie) server_.options.lie(method, target, reply);
      if (buys && server_.every(server_.options.drop_every, server_.dropped)) return end();
      if (server_.every(server_.options.garbage_every, server_.garbled)) return garbage();
      response_.result(static_cast<unsigned>(reply.status));
      if (reply.replayed) response_.set("Idempotent-Replayed", "true");
      response_.body() = reply.body;
    }
    response_.set(http::field::content_type, "application/json");
    response_.prepare_payload();
    http::async_write(socket_, response_,
                      [self = shared_from_this()](boost::beast::error_code error, std::size_t) {
                        if (error) return self->end();
                        self->read();
                      });
  }

  void garbage() {
    static constexpr std::string_view kNoise = "SSH-2.0-OpenSSH_9.2\r\n\r\n";
    asio::async_write(
        socket_, asio::buffer(kNoise),
        [self = shared_from_this()](boost::beast::error_code, std::size_t) { self->end(); });
  }

  Impl& server_;
  tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
  http::request<http::string_body> request_;
  http::response<http::string_body> response_;
};

void FakeServer::Impl::accept() {
  acceptor->async_accept([this](boost::system::error_code error, tcp::socket socket) {
    if (error) return;
    const auto session = std::make_shared<Session>(*this, std::move(socket));
    sessions.insert(session);
    session->read();
    accept();
  });
}

void FakeServer::Impl::stop() {
  acceptor->close();
  for (const auto& session : sessions) session->close();
}

FakeServer::FakeServer(FakeOptions o) : impl_(std::make_unique<Impl>(std::move(o))) {}
FakeServer::~FakeServer() = default;

std::uint16_t FakeServer::port() const { return impl_->port; }
std::string FakeServer::url() const { return fmt::format("http://127.0.0.1:{}", impl_->port); }
void FakeServer::away() {
  impl_->on_thread([this] { impl_->stop(); });
}
void FakeServer::back() {
  impl_->on_thread([this] { impl_->listen(impl_->port); });
}
std::uint64_t FakeServer::attempts_decided() const { return impl_->attempts; }

}  // namespace fairsale::testing
