#include "tools/gateway/fake_gateway.hpp"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <simdjson.h>

#include <algorithm>

#include "api/http/problem.hpp"
#include "core/json/json.hpp"
#include "core/log/digest.hpp"
#include "projections/delivery/signature.hpp"
#include "tools/http_client.hpp"

namespace fairsale::gateway {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

constexpr std::size_t kMaxDeeds = 1'000'000;
constexpr std::size_t kCallers = 4;
constexpr int kMaxCallbackTries = 200;
constexpr milliseconds kCallbackRetry{250};
constexpr std::string_view kNoStore = "Cache-Control: no-store\r\n";

std::string text_of(const simdjson::dom::element& e, const char* name) {
  std::string_view text;
  return e[name].get(text) == simdjson::SUCCESS ? std::string(text.substr(0, 128)) : std::string{};
}

}  // namespace

FakeGateway::FakeGateway(Options o, http::Worker& w)
    : options_(std::move(o)), worker_(w), random_(options_.faults.seed) {
  if (options_.callback_url.empty()) return;
  for (std::size_t i = 0; i < kCallers; ++i) callers_.emplace_back([this] { send_callbacks(); });
}

FakeGateway::~FakeGateway() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& t : callers_) t.join();
}

bool FakeGateway::chance(double share) {
  return share > 0 && std::uniform_real_distribution(0.0, 1.0)(random_) < share;
}

// As chance(), but the same at every try.
bool FakeGateway::fated(double share, std::string_view what) const {
  const std::string text = fmt::format("{} {}", options_.faults.seed, what);
  const Digest d = sha256(std::as_bytes(std::span(text.data(), text.size())));
  std::uint32_t n = 0;
  for (std::size_t i = 0; i < 4; ++i) n = n << 8 | std::to_integer<std::uint32_t>(d.bytes[i]);
  return static_cast<double>(n) < share * 4294967296.0;
}

void FakeGateway::answer(http::Ticket t, const Answered& a) {
  worker_.respond(t, {a.status, http::kJson, kNoStore, a.body});
}

void FakeGateway::hang(http::Ticket t) {
  hanging_.emplace(steady_clock::now() + options_.faults.hang, t);
}

steady_clock::time_point FakeGateway::on_turn() {
  const auto now = steady_clock::now();
  while (!hanging_.empty() && (hanging_.begin()->first <= now || worker_.draining())) {
    answer(hanging_.begin()->second, {504, R"({"detail":"too late"})"});
    hanging_.erase(hanging_.begin());
  }
  return hanging_.empty() ? steady_clock::time_point::max() : hanging_.begin()->first;
}

void FakeGateway::on_request(const http::Request& r, http::Ticket t) {
  const auto problem = [&](int status, std::string_view name, std::string_view detail) {
    std::string body;
    http::append_problem(body, {status, name, {}, detail});
    worker_.respond(t, {status, http::kProblemJson, {}, body});
  };
  if (r.method == http::Method::get && r.path == "/livez") {
    return answer(t, {200, R"({"status":"ok"})"});
  }
  const std::string bearer = "Bearer " + options_.token;
  if (!options_.token.empty() &&
      (r.authorization.size() != bearer.size() ||
       CRYPTO_memcmp(r.authorization.data(), bearer.data(), bearer.size()) != 0)) {
    return problem(401, "unauthorized", "Send Authorization: Bearer with the gateway's token.");
  }
  if (r.method == http::Method::get && r.path == "/ledger") return answer(t, {200, ledger()});
  const bool known = r.path == "/charges" || r.path == "/captures" || r.path == "/handovers" ||
                     r.path == "/refunds";
  if (!known || r.method != http::Method::post) {
    return problem(404, "not_found",
                   "POST /charges, /captures, /handovers or /refunds; GET /ledger.");
  }
  simdjson::dom::parser parser;
  simdjson::dom::element document;
  const std::string body(r.body);
  Deed deed;
  if (parser.parse(body).get(document) != simdjson::SUCCESS || !document.is_object() ||
      document["amount"].get(deed.amount) != simdjson::SUCCESS) {
    return problem(400, "invalid",
                   "The body must be a JSON object with purchase, amount, currency.");
  }
  deed.purchase = text_of(document, "purchase");
  deed.reference = text_of(document, "reference");
  deed.currency = text_of(document, "currency");
  if (deed.purchase.empty() || deed.currency.empty() ||
      (deed.reference.empty() && r.path != "/charges") || r.idempotency_key.empty()) {
    return problem(400, "invalid",
                   "purchase, currency and, except of a charge, reference are required; so is an "
                   "Idempotency-Key.");
  }
  const auto note = [&](const char* fault) {
    const std::scoped_lock lock(mutex_);
    ++faults_[fault];
  };
  const Faults& f = options_.faults;
  if (chance(f.errors)) {
    note("errors");
    return answer(t, {503, R"({"detail":"try again"})"});
  }
  if (chance(f.timeouts)) {
    note("timeouts");
    return hang(t);
  }
  const Answered a = perform(r.path, std::string(r.idempotency_key), deed);
  if (chance(f.lost)) {
    note("lost");
    if (chance(0.5)) return hang(t);
    return answer(t, {500, R"({"detail":"something went wrong after it was done"})"});
  }
  answer(t, a);
}

FakeGateway::Answered FakeGateway::perform(std::string_view path, const std::string& key,
                                           const Deed& asked) {
  const std::scoped_lock lock(mutex_);
  const std::string full = std::string(path) + " " + key;
  if (const auto it = answered_.find(full); it != answered_.end()) {
    ++repeats_;
    return it->second;
  }
  if (answered_.size() >= kMaxDeeds) return {503, R"({"detail":"the ledger is full"})"};
  const Faults& f = options_.faults;
  Deed deed = asked;
  Answered a{200, R"({"status":"done"})"};
  const auto declined = [&](double share, std::string_view reason) {
    if (!fated(share, full)) return false;
    a = {402, fmt::format(R"({{"status":"declined","reason":"{}"}})", reason)};
    declined_.emplace_back(path.substr(1), deed);
    return true;
  };
  if (path == "/charges") {
    deed.reference = fmt::format("ch-{}", charges_.size() + 1);
    const bool received = !fated(f.decline_charges, full);
    charges_.emplace(deed.reference, Charge{deed, received, {}});
    a = {202, fmt::format(R"({{"status":"pending","reference":"{}"}})", deed.reference)};
    if (!options_.callback_url.empty()) {
      const bool late = chance(f.late);
      if (late) ++faults_["late"];
      const std::int64_t spread = std::uniform_int_distribution<std::int64_t>(
          0, std::max<std::int64_t>(f.delay.count(), 0))(random_);
      const auto when =
          steady_clock::now() + milliseconds(spread) + (late ? f.late_delay : milliseconds(0));
      callbacks_.emplace(when, Callback{deed.reference});
      if (chance(f.duplicates)) {
        ++faults_["duplicates"];
        callbacks_.emplace(when + milliseconds(spread), Callback{deed.reference});
      }
      changed_.notify_all();
    }
  } else if (path == "/captures") {
    if (!declined(f.decline_captures, "card_declined")) captures_.push_back(deed);
  } else if (path == "/handovers") {
    if (!declined(f.decline_handovers, "not_deliverable")) handovers_.push_back(deed);
  } else {
    refunds_.push_back(deed);
  }
  answered_.emplace(full, a);
  return a;
}

// Sends until the other side has taken it or refuses it for good.
void FakeGateway::send_callbacks() {
  HttpClient client(milliseconds(5'000));
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (callbacks_.empty()) {
      changed_.wait(lock);
      continue;
    }
    if (const When next = callbacks_.begin()->first; next > steady_clock::now()) {
      changed_.wait_until(lock, next);
      continue;
    }
    Callback callback = std::move(callbacks_.extract(callbacks_.begin()).mapped());
    const Charge& charge = charges_.at(callback.reference);
    const Deed deed = charge.deed;
    const bool received = charge.received;
    ++calling_;
    lock.unlock();

    std::string body;
    JsonWriter json(body);
    json.begin_object()
        .member("purchase", std::string_view(deed.purchase))
        .member("outcome", received ? "received" : "failed")
        .member("reference", std::string_view(deed.reference));
    json.member("amount", deed.amount).member("currency", std::string_view(deed.currency));
    json.end_object();
    const std::int64_t now = std::chrono::duration_cast<std::chrono::seconds>(
                                 std::chrono::system_clock::now().time_since_epoch())
                                 .count();
    const std::string id = "evt-" + deed.reference;
    const std::string signature =
        webhook_signature(std::span(&options_.callback_secret, 1), id, now, body);
    const auto reply =
        client.post(options_.callback_url,
                    {"Content-Type: application/json", "webhook-id: " + id,
                     fmt::format("webhook-timestamp: {}", now), "webhook-signature: " + signature},
                    body);
    std::string said = reply ? std::to_string(reply->status) : "no answer";
    simdjson::dom::parser parser;
    simdjson::dom::element document;
    if (reply && reply->status == 200 &&
        parser.parse(reply->body).get(document) == simdjson::SUCCESS) {
      said = text_of(document, "status");
    }
    const bool again =
        !reply || reply->status >= 500 || reply->status == 429 || reply->status == 408;

    lock.lock();
    --calling_;
    if (again && ++callback.tries < kMaxCallbackTries) {
      callbacks_.emplace(steady_clock::now() + kCallbackRetry, std::move(callback));
    } else {
      charges_.at(callback.reference).answers.push_back(std::move(said));
    }
  }
}

std::string FakeGateway::ledger() const {
  const std::scoped_lock lock(mutex_);
  std::string out;
  JsonWriter json(out);
  const auto deed = [&](const Deed& d) {
    json.member("purchase", std::string_view(d.purchase))
        .member("reference", std::string_view(d.reference))
        .member("amount", d.amount)
        .member("currency", std::string_view(d.currency));
  };
  json.begin_object().key("charges").begin_array();
  for (const auto& [reference, c] : charges_) {
    json.begin_object();
    deed(c.deed);
    json.member("outcome", c.received ? "received" : "failed").key("callbacks").begin_array();
    for (const auto& a : c.answers) json.value(std::string_view(a));
    json.end_array().end_object();
  }
  json.end_array();
  for (const auto& [name, deeds] :
       {std::pair{"captures", &captures_}, std::pair{"handovers", &handovers_},
        std::pair{"refunds", &refunds_}}) {
    json.key(name).begin_array();
    for (const auto& d : *deeds) {
      json.begin_object();
      deed(d);
      json.end_object();
    }
    json.end_array();
  }
  json.key("declined").begin_array();
  for (const auto& [what, d] : declined_) {
    json.begin_object().member("of", std::string_view(what));
    deed(d);
    json.end_object();
  }
  json.end_array().key("faults").begin_object();
  for (const auto& [name, n] : faults_) json.member(name, n);
  json.end_object()
      .member("repeats", repeats_)
      .member("callbacks_pending", callbacks_.size() + calling_)
      .end_object();
  return out;
}

}  // namespace fairsale::gateway
