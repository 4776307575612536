// Sends messages to one webhook over HTTP: signed, several at a time, and only where it may.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "core/domain/types.hpp"

namespace fairsale {

struct WebhookSenderOptions {
  bool private_addresses = false;  // else only what is_public() is connected to
  std::string ca_file;  // of the authorities that https is checked by; empty: the system's
  std::chrono::milliseconds connect_timeout{5'000};
  std::chrono::milliseconds timeout{10'000};  // of a whole request
  std::chrono::milliseconds patience{5'000};  // after that send() begins no further request
};

// A request and what came of it.
struct WebhookAttempt {
  std::string message;  // its id
  Timestamp at;
  std::uint32_t duration_ms = 0;
  int status = 0;     // of HTTP; 0: there was no answer
  std::string error;  // why it was not taken; empty when it was

  bool taken() const { return error.empty(); }
};

struct OutgoingMessage {
  std::string id;
  std::string body;
  std::string traceparent;
  Seq purchase;  // 0: of the sale as a whole
};

// Keeps connections open between calls. One thread calls send(); interrupt() is for any.
class WebhookSender {
 public:
  // As many requests are under way at once: never two of one purchase, and none beside one that is
  // about the sale as a whole.
  static constexpr std::size_t kWindow = 8;
  static constexpr std::size_t kMaxAnswer = 16'384;  // bytes of an answer's body that are read

  explicit WebhookSender(WebhookSenderOptions);
  ~WebhookSender();
  WebhookSender(const WebhookSender&) = delete;
  WebhookSender& operator=(const WebhookSender&) = delete;

  // Sends the messages in their order; begins none after one that failed, after its patience or
  // interrupt(). Tells of each attempt when it has ended. Returns how many were taken, from the
  // first on.
  std::size_t send(const std::string& url, std::span<const std::string> secrets,
                   std::span<const OutgoingMessage> messages,
                   const std::function<void(const WebhookAttempt&)>& told);

  // Breaks off what is under way, and all that would follow, for good.
  void interrupt();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// What is wrong with a URL as the address of a webhook; empty when nothing is.
std::string webhook_url_fault(const std::string& url);

}  // namespace fairsale
