// The registered webhooks and what became of the last messages to each: a RocksDB database of its
// own, DATA/webhooks, which only its owner may enter, since it holds the secrets that sign. Changes
// of webhooks are synced; the log of attempts is not.
//
// keys, numbers big-endian
//   V                        "fairsale webhooks 1"
//   E id                     a webhook
//   A id 0x00 number:u64     an attempt; numbers grow
// The values of webhooks and attempts are JSON: see webhook_store.cpp for their members.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/domain/decision.hpp"
#include "core/log/result.hpp"
#include "projections/delivery/webhook_sender.hpp"
#include "projections/stored/rows.hpp"

namespace fairsale {

// A set of kinds of messages, reminders (outbox/reminders.hpp) being one of them.
class KindSet {
 public:
  void add(DecisionKind k) { bits_ |= std::uint32_t{1} << static_cast<unsigned>(k); }
  void remove(DecisionKind k) { bits_ &= ~(std::uint32_t{1} << static_cast<unsigned>(k)); }
  bool has(DecisionKind k) const { return (bits_ >> static_cast<unsigned>(k) & 1) != 0; }
  void add_reminders() { bits_ |= kReminders; }
  bool has_reminders() const { return (bits_ & kReminders) != 0; }
  // By its name; false when there is no such kind of message.
  bool add(std::string_view name);
  bool empty() const { return bits_ == 0; }
  // In the order of their numbers, reminders last.
  std::vector<std::string_view> names() const;

  friend bool operator==(const KindSet&, const KindSet&) = default;

 private:
  static constexpr std::uint32_t kReminders = 1;  // no decision has the number 0

  std::uint32_t bits_ = 0;
};

// All kinds of messages that there are.
KindSet all_message_kinds();

struct Webhook {
  static constexpr std::size_t kSecrets = 2;

  std::string id;
  std::string url;
  KindSet kinds;
  std::optional<SkuName> sku;  // only of this one
  bool past = false;           // begins with what was said before it was registered
  Timestamp created;
  bool enabled = true;
  std::string disabled_because;  // when it is not enabled
  std::optional<Timestamp> failing_since;
  std::vector<std::string> secrets;  // the newest first; all sign

  friend bool operator==(const Webhook&, const Webhook&) = default;
};

struct NumberedAttempt {
  std::uint64_t number = 0;
  WebhookAttempt attempt;
};

// Thread-safe.
class WebhookStore {
 public:
  // Creates it when it is not there. Fails with unsupported, damaged, busy, full or io.
  static Result<std::unique_ptr<WebhookStore>> open(const std::filesystem::path& directory);
  ~WebhookStore();
  WebhookStore(const WebhookStore&) = delete;
  WebhookStore& operator=(const WebhookStore&) = delete;

  // In the order of their ids.
  Result<std::vector<Webhook>> webhooks() const;
  Result<void> put(const Webhook&);
  // And its attempts.
  Result<void> erase(std::string_view id);

  // The oldest first.
  Result<std::vector<NumberedAttempt>> attempts(std::string_view id) const;
  // Adds one and forgets that of number `oldest`, if it is not 0.
  Result<void> add(std::string_view id, const NumberedAttempt&, std::uint64_t oldest);

 private:
  struct Impl;
  explicit WebhookStore(std::unique_ptr<Impl>);

  std::unique_ptr<Impl> impl_;
};

// DATA/webhooks.
std::filesystem::path webhooks_directory(const std::filesystem::path& data);

}  // namespace fairsale
