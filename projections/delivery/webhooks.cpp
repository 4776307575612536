#include "projections/delivery/webhooks.hpp"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <algorithm>
#include <array>
#include <deque>

#include "projections/delivery/signature.hpp"
#include "projections/outbox/message.hpp"

namespace fairsale {

namespace {

using std::chrono::milliseconds;

constexpr int kGone = 410;

Timestamp wall_now() {
  return Timestamp{
      std::chrono::duration_cast<milliseconds>(std::chrono::system_clock::now().time_since_epoch())
          .count()};
}

std::string new_id() {
  std::array<unsigned char, 8> bytes{};
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) return {};
  return fmt::format("wh_{:02x}", fmt::join(bytes, ""));
}

// A message or a reminder.
template <class M>
OutgoingMessage outgoing(std::string_view sku, const M& m) {
  OutgoingMessage out{.id = message_id(sku, m), .traceparent = traceparent(sku, m)};
  append_cloud_event(out.body, sku, m);
  out.purchase = m.purchase;
  return out;
}

}  // namespace

KindSet default_webhook_kinds() {
  KindSet kinds = all_message_kinds();
  kinds.remove(DecisionKind::reserved);
  kinds.remove(DecisionKind::waiting);
  return kinds;
}

std::string webhook_consumer(std::string_view id) { return fmt::format("webhook/{}", id); }

// What all of them use; lives as long as the last consumer.
struct Webhooks::Shared {
  Dispatcher& dispatcher;
  Dispatcher::StoreSource source;
  WebhookOptions options;
  std::unique_ptr<WebhookStore> store;
  std::mutex resending;
  WebhookSender resender;

  void report(std::string_view id, Error error) const {
    if (options.report) options.report(webhook_consumer(id), error);
  }
};

struct Webhooks::Endpoint {
  Endpoint(Shared& s, Webhook w) : id(w.id), shared(s), webhook(std::move(w)) {}

  Webhook copy() const {
    const std::scoped_lock lock(mutex);
    return webhook;
  }

  // What came of an attempt: into the log, and into the state of the webhook.
  void note(const WebhookAttempt& a) {
    const std::scoped_lock lock(mutex);
    if (gone) return;
    const std::uint64_t oldest = log.size() == kAttempts ? log.front().number : 0;
    if (oldest != 0) log.pop_front();
    log.push_back({++last_number, a});
    if (auto ok = shared.store->add(webhook.id, log.back(), oldest); !ok) {
      shared.report(webhook.id, ok.error());
    }
    if (a.taken()) {
      if (webhook.failing_since) change([](Webhook& w) { w.failing_since.reset(); });
      return;
    }
    if (a.status == kGone) return disable("it answered 410: it is gone");
    if (!webhook.failing_since) {
      change([&](Webhook& w) { w.failing_since = a.at; });
    } else if (a.at.value - webhook.failing_since->value >= shared.options.give_up_after.count()) {
      disable(fmt::format("it has taken nothing for {:.3g} days; last: {}",
                          static_cast<double>(a.at.value - webhook.failing_since->value) / 86.4e6,
                          a.error));
    }
  }

  const std::string id;  // for those who do not hold the mutex
  mutable std::mutex mutex;
  Shared& shared;
  Webhook webhook;
  bool gone = false;  // removed: nothing of it is written any more
  std::deque<NumberedAttempt> log;
  std::uint64_t last_number = 0;

 private:
  void disable(std::string why) {
    if (!webhook.enabled) return;
    change([&](Webhook& w) {
      w.enabled = false;
      w.disabled_because = std::move(why);
    });
  }

  // In memory in any case: what is not on disk is found out again.
  template <class Change>
  void change(Change&& how) {
    how(webhook);
    if (auto ok = shared.store->put(webhook); !ok) shared.report(webhook.id, ok.error());
  }
};

class Webhooks::Courier final : public Consumer {
 public:
  Courier(std::shared_ptr<Shared> shared, std::shared_ptr<Endpoint> endpoint)
      : shared_(std::move(shared)),
        endpoint_(std::move(endpoint)),
        name_(webhook_consumer(endpoint_->webhook.id)),
        past_(endpoint_->webhook.past),
        sender_(shared_->options.sender) {}

  std::string_view name() const override { return name_; }
  bool wants_the_past() const override { return past_; }
  void interrupt() override { sender_.interrupt(); }

  Taken take(const Consignment& c) override {
    const Webhook w = endpoint_->copy();
    if (!w.enabled) return disabled(w);
    if (w.sku && w.sku->view() != c.name) return {c.messages.size(), {}};
    std::vector<OutgoingMessage> wanted;
    std::vector<std::size_t> index;
    for (std::size_t i = 0; i < c.messages.size(); ++i) {
      if (!w.kinds.has(c.messages[i].kind)) continue;
      wanted.push_back(outgoing(c.name, c.messages[i]));
      index.push_back(i);
    }
    if (wanted.empty()) return {c.messages.size(), {}};
    Taken taken = send(w, wanted);
    const std::size_t n = taken.messages;
    taken.messages = n == wanted.size() ? c.messages.size() : index[n];
    return taken;
  }

  Taken remind(std::string_view sku, std::span<const Reminder> reminders) override {
    const Webhook w = endpoint_->copy();
    if (!w.kinds.has_reminders() || (w.sku && w.sku->view() != sku)) return {reminders.size(), {}};
    if (!w.enabled) return disabled(w);
    std::vector<OutgoingMessage> wanted;
    for (const Reminder& r : reminders) wanted.push_back(outgoing(sku, r));
    return send(w, wanted);
  }

 private:
  static Taken disabled(const Webhook& w) {
    return {0, Error{Fault::invalid, fmt::format("disabled: {}", w.disabled_because)}};
  }

  Taken send(const Webhook& w, std::span<const OutgoingMessage> messages) {
    Taken taken;
    taken.messages = sender_.send(w.url, w.secrets, messages, [&](const WebhookAttempt& a) {
      endpoint_->note(a);
      if (!a.taken() && !taken.trouble) taken.trouble = Error{Fault::io, a.error};
    });
    return taken;
  }

  const std::shared_ptr<Shared> shared_;
  const std::shared_ptr<Endpoint> endpoint_;
  const std::string name_;
  const bool past_;
  WebhookSender sender_;
};

Webhooks::Webhooks(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
Webhooks::~Webhooks() = default;

Result<std::unique_ptr<Webhooks>> Webhooks::open(const std::filesystem::path& directory,
                                                 Dispatcher& dispatcher,
                                                 Dispatcher::StoreSource source,
                                                 WebhookOptions options) {
  auto store = WebhookStore::open(directory);
  if (!store) return tl::unexpected(store.error());
  const WebhookSenderOptions sender = options.sender;
  std::shared_ptr<Shared> shared(new Shared{.dispatcher = dispatcher,
                                            .source = std::move(source),
                                            .options = std::move(options),
                                            .store = std::move(*store),
                                            .resending = {},
                                            .resender = WebhookSender(sender)});
  std::unique_ptr<Webhooks> it(new Webhooks(shared));
  auto known = shared->store->webhooks();
  if (!known) return tl::unexpected(known.error());
  for (Webhook& w : *known) {
    auto attempts = shared->store->attempts(w.id);
    if (!attempts) return tl::unexpected(attempts.error());
    auto endpoint = std::make_shared<Endpoint>(*shared, std::move(w));
    endpoint->log.assign(attempts->begin(), attempts->end());
    if (!attempts->empty()) endpoint->last_number = attempts->back().number;
    if (auto ok = dispatcher.add(std::make_unique<Courier>(shared, endpoint)); !ok) {
      return tl::unexpected(ok.error());
    }
    it->endpoints_.push_back(std::move(endpoint));
  }
  return it;
}

Result<std::shared_ptr<Webhooks::Endpoint>> Webhooks::endpoint(std::string_view id) const {
  const std::scoped_lock lock(mutex_);
  for (const auto& e : endpoints_) {
    if (e->id == id) return e;
  }
  return fail(Fault::not_found, "there is no such webhook");
}

std::vector<Webhook> Webhooks::list() const {
  const std::scoped_lock lock(mutex_);
  std::vector<Webhook> all;
  for (const auto& e : endpoints_) all.push_back(e->copy());
  return all;
}

std::optional<Webhook> Webhooks::find(std::string_view id) const {
  const auto e = endpoint(id);
  if (!e) return std::nullopt;
  return (*e)->copy();
}

std::optional<std::vector<WebhookAttempt>> Webhooks::attempts(std::string_view id) const {
  const auto e = endpoint(id);
  if (!e) return std::nullopt;
  const std::scoped_lock lock((*e)->mutex);
  std::vector<WebhookAttempt> all;
  for (auto a = (*e)->log.rbegin(); a != (*e)->log.rend(); ++a) all.push_back(a->attempt);
  return all;
}

Result<Webhook> Webhooks::add(NewWebhook wanted) {
  const std::scoped_lock changing(changing_);
  if (const std::string fault = webhook_url_fault(wanted.url); !fault.empty()) {
    return fail(Fault::invalid, "\"url\" " + fault);
  }
  if (list().size() >= kMax) {
    return fail(Fault::full,
                fmt::format("{} webhooks are registered, as many as may be: delete one", kMax));
  }
  Webhook w{.id = new_id(),
            .url = std::move(wanted.url),
            .kinds = wanted.kinds.value_or(default_webhook_kinds()),
            .sku = wanted.sku,
            .past = wanted.past,
            .created = wall_now(),
            .secrets = {new_webhook_secret()}};
  if (w.id.empty() || w.secrets.front().empty()) {
    return fail(Fault::io, "the system gave no random bytes for a secret");
  }
  if (auto ok = shared_->store->put(w); !ok) return tl::unexpected(ok.error());
  auto e = std::make_shared<Endpoint>(*shared_, w);
  if (auto ok = shared_->dispatcher.add(std::make_unique<Courier>(shared_, e)); !ok) {
    // As if it had never been; what cannot be undone now begins with the next start.
    static_cast<void>(shared_->store->erase(w.id));
    return tl::unexpected(ok.error());
  }
  const std::scoped_lock lock(mutex_);
  endpoints_.push_back(std::move(e));
  return w;
}

Result<void> Webhooks::remove(std::string_view id) {
  const std::scoped_lock changing(changing_);
  const auto e = endpoint(id);
  if (!e) return tl::unexpected(e.error());
  if (auto ok = shared_->dispatcher.remove(webhook_consumer(id)); !ok) return ok;
  {
    const std::scoped_lock lock(mutex_);
    std::erase(endpoints_, *e);
  }
  // A redelivery may still be under way.
  const std::scoped_lock lock((*e)->mutex);
  (*e)->gone = true;
  return shared_->store->erase(id);
}

template <class Change>
Result<Webhook> Webhooks::change(std::string_view id, Change&& how) {
  const std::scoped_lock changing(changing_);
  const auto e = endpoint(id);
  if (!e) return tl::unexpected(e.error());
  const std::scoped_lock lock((*e)->mutex);
  Webhook w = (*e)->webhook;
  if (Result<void> ok = how(w); !ok) return tl::unexpected(ok.error());
  if (auto ok = shared_->store->put(w); !ok) return tl::unexpected(ok.error());
  (*e)->webhook = w;
  return w;
}

Result<Webhook> Webhooks::rotate_secret(std::string_view id) {
  return change(id, [](Webhook& w) -> Result<void> {
    std::string secret = new_webhook_secret();
    if (secret.empty()) return fail(Fault::io, "the system gave no random bytes for a secret");
    w.secrets.insert(w.secrets.begin(), std::move(secret));
    if (w.secrets.size() > Webhook::kSecrets) w.secrets.resize(Webhook::kSecrets);
    return {};
  });
}

Result<Webhook> Webhooks::drop_old_secret(std::string_view id) {
  return change(id, [](Webhook& w) -> Result<void> {
    w.secrets.resize(1);
    return {};
  });
}

Result<Webhook> Webhooks::enable(std::string_view id) {
  auto changed = change(id, [](Webhook& w) -> Result<void> {
    w.enabled = true;
    w.disabled_because.clear();
    w.failing_since.reset();
    return {};
  });
  if (changed) {
    if (auto ok = shared_->dispatcher.retry(webhook_consumer(id)); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  return changed;
}

Result<Webhook> Webhooks::disable(std::string_view id) {
  return change(id, [](Webhook& w) -> Result<void> {
    if (!w.enabled) return {};
    w.enabled = false;
    w.disabled_because = "by request";
    return {};
  });
}

Result<void> Webhooks::redeliver(std::string_view id, std::string_view sku, Seq from) {
  const auto e = endpoint(id);
  if (!e) return tl::unexpected(e.error());
  if (from.value == 0) return fail(Fault::invalid, "positions begin at 1");
  return shared_->dispatcher.rewind(webhook_consumer(id), sku_id(sku),
                                    Cursor::past(Seq{from.value - 1}));
}

Result<WebhookAttempt> Webhooks::redeliver(std::string_view id, std::string_view sku, Seq position,
                                           std::uint32_t number) {
  const auto e = endpoint(id);
  if (!e) return tl::unexpected(e.error());
  const auto store = shared_->source();
  if (!store) return fail(Fault::busy, "the outbox cannot be read just now");
  const Cursor before =
      number > 0 ? Cursor{position, number - 1} : Cursor::past(Seq{position.value - 1});
  const auto page = store->messages(sku_id(sku), before.position, before.number, 1);
  if (!page) return tl::unexpected(page.error());
  if (page->messages.empty() || page->messages[0].position != position ||
      page->messages[0].number != number) {
    return fail(Fault::invalid,
                fmt::format("there is no message {}:{}:{}", sku, position.value, number));
  }
  const std::array one{outgoing(sku, page->messages[0])};
  const Webhook w = (*e)->copy();
  std::optional<WebhookAttempt> attempt;
  {
    const std::scoped_lock lock(shared_->resending);
    shared_->resender.send(w.url, w.secrets, one, [&](const WebhookAttempt& a) { attempt = a; });
  }
  if (!attempt) return fail(Fault::busy, "the server is going down");
  (*e)->note(*attempt);
  return *attempt;
}

void Webhooks::interrupt() { shared_->resender.interrupt(); }

}  // namespace fairsale
