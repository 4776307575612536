#include "projections/delivery/webhook_sender.hpp"

#include <curl/curl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <vector>

#include "core/domain/invariant.hpp"
#include "projections/delivery/address.hpp"
#include "projections/delivery/signature.hpp"

namespace fairsale {

namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kMaxUrl = 2048;

// Once in a process, and before its threads use it.
bool curl_ready() {
  static const bool ready = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
  return ready;
}

Timestamp wall_now() {
  return Timestamp{
      std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count()};
}

}  // namespace

struct WebhookSender::Impl {
  explicit Impl(WebhookSenderOptions o) : options(std::move(o)) {}

  struct Transfer {
    CURL* easy = nullptr;
    curl_slist* headers = nullptr;
    Impl* owner = nullptr;
    const OutgoingMessage* message = nullptr;  // none: idle
    std::size_t index = 0;
    Timestamp at;
    steady_clock::time_point begun;
    std::size_t received = 0;
    std::string refused;  // the address that it must not connect to
  };

  static curl_socket_t open_socket(void* self, curlsocktype, curl_sockaddr* a) {
    auto& t = *static_cast<Transfer*>(self);
    // Here the name has been resolved, so what a name server says later does not matter.
    if (!t.owner->options.private_addresses && !is_public(a->addr, a->addrlen)) {
      t.refused = text_of(a->addr, a->addrlen);
      return CURL_SOCKET_BAD;
    }
    return ::socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
  }

  static std::size_t take_body(char*, std::size_t size, std::size_t count, void* self) {
    auto& t = *static_cast<Transfer*>(self);
    t.received += size * count;
    return t.received > kMaxAnswer ? 0 : size * count;
  }

  void begin(Transfer& t, const std::string& url, std::span<const std::string> secrets,
             const OutgoingMessage& m, std::size_t index) {
    t.owner = this;
    t.message = &m;
    t.index = index;
    t.at = wall_now();
    t.begun = steady_clock::now();
    t.received = 0;
    t.refused.clear();
    curl_easy_reset(t.easy);
    curl_slist_free_all(t.headers);
    t.headers = nullptr;
    const std::int64_t seconds = t.at.value / 1000;
    for (const std::string& line :
         {std::string("Content-Type: application/cloudevents+json; charset=utf-8"),
          std::string("Expect:"), fmt::format("webhook-id: {}", m.id),
          fmt::format("webhook-timestamp: {}", seconds),
          fmt::format("webhook-signature: {}", webhook_signature(secrets, m.id, seconds, m.body)),
          fmt::format("traceparent: {}", m.traceparent)}) {
      curl_slist* const longer = curl_slist_append(t.headers, line.c_str());
      FAIRSALE_INVARIANT(longer != nullptr, "there is memory for a header");
      t.headers = longer;
    }
    const auto set = [&](CURLoption option, auto value) {
      const CURLcode code = curl_easy_setopt(t.easy, option, value);
      FAIRSALE_INVARIANT(code == CURLE_OK, "libcurl has what webhooks need");
    };
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_PROXY, "");  // a proxy would connect to wherever it likes
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_QUICK_EXIT, 1L);  // a name server that says nothing is not waited for
    set(CURLOPT_USERAGENT, "fairsale");
    set(CURLOPT_HTTPHEADER, t.headers);
    set(CURLOPT_POST, 1L);
    set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(m.body.size()));
    set(CURLOPT_POSTFIELDS, m.body.data());
    set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
    set(CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout.count()));
    set(CURLOPT_OPENSOCKETFUNCTION, &open_socket);
    set(CURLOPT_OPENSOCKETDATA, static_cast<void*>(&t));
    set(CURLOPT_WRITEFUNCTION, &take_body);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&t));
    set(CURLOPT_PRIVATE, static_cast<void*>(&t));
    if (!options.ca_file.empty()) set(CURLOPT_CAINFO, options.ca_file.c_str());
    FAIRSALE_INVARIANT(curl_multi_add_handle(multi, t.easy) == CURLM_OK, "a handle can be added");
  }

  WebhookAttempt end(Transfer& t, CURLcode code) {
    WebhookAttempt a{.message = t.message->id, .at = t.at};
    a.duration_ms = static_cast<std::uint32_t>(
        std::chrono::duration_cast<milliseconds>(steady_clock::now() - t.begun).count());
    long status = 0;
    curl_easy_getinfo(t.easy, CURLINFO_RESPONSE_CODE, &status);
    // What follows its head does not change what it says.
    const bool enough = code == CURLE_OK || (code == CURLE_WRITE_ERROR && t.received > kMaxAnswer);
    if (enough) {
      a.status = static_cast<int>(status);
      if (status >= 300 && status < 400) {
        a.error =
            fmt::format("answered {}; redirects are not followed: register where it goes", status);
      } else if (status < 200 || status >= 300) {
        a.error = fmt::format("answered {}", status);
      }
    } else if (!t.refused.empty()) {
      a.error = fmt::format(
          "{} is not an address of the public Internet; --webhook-private-addresses allows those",
          t.refused);
    } else {
      a.error = curl_easy_strerror(code);
    }
    drop(t);
    return a;
  }

  void drop(Transfer& t) {
    curl_multi_remove_handle(multi, t.easy);
    t.message = nullptr;
  }

  const WebhookSenderOptions options;
  CURLM* multi = nullptr;
  std::array<Transfer, kWindow> transfers;
  std::size_t window = kWindow;
  std::atomic<bool> interrupted{false};
};

WebhookSender::WebhookSender(WebhookSenderOptions options)
    : impl_(std::make_unique<Impl>(std::move(options))) {
  FAIRSALE_INVARIANT(curl_ready(), "libcurl can be used");
  impl_->multi = curl_multi_init();
  FAIRSALE_INVARIANT(impl_->multi != nullptr, "there is memory for libcurl");
  curl_multi_setopt(impl_->multi, CURLMOPT_MAX_TOTAL_CONNECTIONS, static_cast<long>(kWindow));
  curl_multi_setopt(impl_->multi, CURLMOPT_MAXCONNECTS, static_cast<long>(kWindow));
  for (auto& t : impl_->transfers) {
    t.easy = curl_easy_init();
    FAIRSALE_INVARIANT(t.easy != nullptr, "there is memory for libcurl");
  }
}

WebhookSender::~WebhookSender() {
  for (auto& t : impl_->transfers) {
    if (t.message != nullptr) impl_->drop(t);
    curl_easy_cleanup(t.easy);
    curl_slist_free_all(t.headers);
  }
  curl_multi_cleanup(impl_->multi);
}

void WebhookSender::interrupt() {
  impl_->interrupted.store(true);
  curl_multi_wakeup(impl_->multi);
}

std::size_t WebhookSender::send(const std::string& url, std::span<const std::string> secrets,
                                std::span<const OutgoingMessage> messages,
                                const std::function<void(const WebhookAttempt&)>& told) {
  Impl& me = *impl_;
  const auto enough = steady_clock::now() + me.options.patience;
  std::vector<bool> taken(messages.size(), false);
  std::size_t next = 0;
  std::size_t under_way = 0;
  bool failed = false;
  const auto may_begin = [&](const OutgoingMessage& m) {
    if (under_way >= me.window) return false;
    if (m.purchase.value == 0) return under_way == 0;
    return std::none_of(me.transfers.begin(), me.transfers.end(), [&](const auto& t) {
      return t.message != nullptr &&
             (t.message->purchase == m.purchase || t.message->purchase.value == 0);
    });
  };
  while (!me.interrupted.load()) {
    while (!failed && next < messages.size() && may_begin(messages[next]) &&
           steady_clock::now() < enough) {
      auto idle = std::find_if(me.transfers.begin(), me.transfers.end(),
                               [](const auto& t) { return t.message == nullptr; });
      me.begin(*idle, url, secrets, messages[next], next);
      ++next;
      ++under_way;
    }
    if (under_way == 0) break;
    int running = 0;
    curl_multi_perform(me.multi, &running);
    int left = 0;
    bool ended = false;
    while (CURLMsg* m = curl_multi_info_read(me.multi, &left)) {
      if (m->msg != CURLMSG_DONE) continue;
      const CURLcode code = m->data.result;
      Impl::Transfer* t = nullptr;
      curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &t);
      const std::size_t index = t->index;
      const WebhookAttempt a = me.end(*t, code);
      --under_way;
      ended = true;
      taken[index] = a.taken();
      if (!a.taken()) failed = true;
      // One at a time, until whoever was in trouble is well again.
      me.window = a.taken() && !failed ? kWindow : 1;
      told(a);
    }
    if (!ended) curl_multi_poll(me.multi, nullptr, 0, 1000, nullptr);
  }
  for (auto& t : me.transfers) {
    if (t.message != nullptr) me.drop(t);
  }
  const auto first = std::find(taken.begin(), taken.end(), false);
  return static_cast<std::size_t>(first - taken.begin());
}

std::string webhook_url_fault(const std::string& url) {
  if (url.size() > kMaxUrl) return fmt::format("must have at most {} bytes", kMaxUrl);
  CURLU* const u = curl_url();
  if (u == nullptr) return "cannot be read";
  const auto part = [&](CURLUPart p) {
    char* text = nullptr;
    std::string out;
    if (curl_url_get(u, p, &text, 0) == CURLUE_OK) out = text;
    curl_free(text);
    return out;
  };
  std::string fault;
  if (curl_url_set(u, CURLUPART_URL, url.c_str(), CURLU_DISALLOW_USER) != CURLUE_OK ||
      part(CURLUPART_HOST).empty()) {
    fault = "must be a whole URL like https://shop.example/hooks, without a user in it";
  } else if (const auto scheme = part(CURLUPART_SCHEME); scheme != "https" && scheme != "http") {
    fault = "must begin with https:// or http://";
  } else if (!part(CURLUPART_FRAGMENT).empty()) {
    fault = "must not have a fragment (#)";
  }
  curl_url_cleanup(u);
  return fault;
}

}  // namespace fairsale
