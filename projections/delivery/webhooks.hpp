// The webhooks of a server: registered, changed and ended at run time, each a Consumer of the
// outbox. Messages leave as CloudEvents, signed by Standard Webhooks 1.0.0; one is taken when it is
// answered with 2xx. Those of one purchase leave in their order, each after the one before it was
// taken; those of different purchases may overtake each other within a few, but none overtakes, or
// is overtaken by, one that is about the sale as a whole. Reminders may overtake any.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "projections/delivery/webhook_store.hpp"
#include "projections/outbox/dispatcher.hpp"

namespace fairsale {

struct WebhookOptions {
  WebhookSenderOptions sender;
  // A webhook that has taken nothing for so long, though there was something, is disabled.
  std::chrono::milliseconds give_up_after = std::chrono::days(5);
  // What went wrong and what was done about it, from any thread.
  std::function<void(std::string_view consumer, const Error&)> report;
};

struct NewWebhook {
  std::string url;
  std::optional<KindSet> kinds;  // none: default_webhook_kinds()
  std::optional<SkuName> sku;
  bool past = false;
};

// All but reserved and waiting: whoever buys was told these in the answer, and in a rush there are
// many of them. Reminders are among them: what nobody has paid for is what its customer may forget.
KindSet default_webhook_kinds();

// "webhook/ID": the name of its consumer.
std::string webhook_consumer(std::string_view id);

// Thread-safe. Calls write to disk and may wait for a request that is under way.
class Webhooks {
 public:
  static constexpr std::size_t kMax = 16;        // webhooks
  static constexpr std::size_t kAttempts = 200;  // that are kept of each, the last ones

  // Adds a consumer for each webhook that is registered. The dispatcher, and what the source gives,
  // must outlive it; the dispatcher is stopped before it is destroyed.
  static Result<std::unique_ptr<Webhooks>> open(const std::filesystem::path& directory,
                                                Dispatcher& dispatcher,
                                                Dispatcher::StoreSource source,
                                                WebhookOptions options);
  ~Webhooks();
  Webhooks(const Webhooks&) = delete;
  Webhooks& operator=(const Webhooks&) = delete;

  std::vector<Webhook> list() const;
  std::optional<Webhook> find(std::string_view id) const;
  // The newest first; nothing when there is no such webhook.
  std::optional<std::vector<WebhookAttempt>> attempts(std::string_view id) const;

  // All of these fail with not_found when there is no such webhook, invalid when it cannot be, and
  // as the store does. Full: there are kMax webhooks.

  Result<Webhook> add(NewWebhook);
  Result<void> remove(std::string_view id);
  // A new secret; the one before signs as well until it is dropped.
  Result<Webhook> rotate_secret(std::string_view id);
  Result<Webhook> drop_old_secret(std::string_view id);
  // Goes on where it stopped.
  Result<Webhook> enable(std::string_view id);
  Result<Webhook> disable(std::string_view id);
  // All messages of a SKU from this position on are sent again, in order; reminders are not.
  Result<void> redeliver(std::string_view id, std::string_view sku, Seq from);
  // One message is sent again, now. Filters do not matter.
  Result<WebhookAttempt> redeliver(std::string_view id, std::string_view sku, Seq position,
                                   std::uint32_t number);

  // Breaks off a redelivery that is under way. From any thread; for good.
  void interrupt();

 private:
  struct Endpoint;
  class Courier;
  struct Shared;

  explicit Webhooks(std::shared_ptr<Shared>);
  Result<std::shared_ptr<Endpoint>> endpoint(std::string_view id) const;
  template <class Change>
  Result<Webhook> change(std::string_view id, Change&&);

  const std::shared_ptr<Shared> shared_;
  mutable std::mutex mutex_;  // guards the next
  std::mutex changing_;       // one change at a time; taken before the other
  std::vector<std::shared_ptr<Endpoint>> endpoints_;
};

}  // namespace fairsale
