// What a webhook's sender does while the name of its host is being looked up.
#include "projections/delivery/webhook_sender.hpp"

#include <dlfcn.h>
#include <gtest/gtest.h>
#include <netdb.h>

#include <condition_variable>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "projections/delivery/signature.hpp"

namespace {

// A name server that says nothing: getaddrinfo() of this name does not return until released.
struct Silence {
  std::mutex mutex;
  std::condition_variable changed;
  bool asked = false;
  bool released = false;
  bool over = false;  // the lookup has ended

  void hold() {
    std::unique_lock lock(mutex);
    asked = true;
    changed.notify_all();
    changed.wait_for(lock, std::chrono::seconds(30), [this] { return released; });
    over = true;
    changed.notify_all();
  }
  template <class Condition>
  bool await(Condition&& condition) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::seconds(60), condition);
  }
};

Silence silence;

}  // namespace

// Instead of the one of the C library, also for libcurl.
extern "C" int getaddrinfo(const char* name, const char* service, const addrinfo* hints,
                           addrinfo** out) {
  if (name != nullptr && std::string_view(name) == "silent.example") {
    silence.hold();
    return EAI_AGAIN;
  }
  using Real = int (*)(const char*, const char*, const addrinfo*, addrinfo**);
  static const auto real = reinterpret_cast<Real>(::dlsym(RTLD_NEXT, "getaddrinfo"));
  return real(name, service, hints, out);
}

namespace fairsale {
namespace {

TEST(WebhookSender, ANameServerThatSaysNothingHoldsUpNoStop) {
  {
    WebhookSender sender(
        {.connect_timeout = std::chrono::minutes(1), .timeout = std::chrono::minutes(1)});
    const std::vector<std::string> secrets{new_webhook_secret()};
    const std::vector<OutgoingMessage> messages{
        {.id = "demo:1:0", .body = "{}", .traceparent = "00", .purchase = Seq{1}}};
    std::thread sending([&] {
      EXPECT_EQ(sender.send("http://silent.example/", secrets, messages, [](const auto&) {}), 0U);
    });
    EXPECT_TRUE(silence.await([] { return silence.asked; }));
    sender.interrupt();
    sending.join();
  }
  const bool over = [] {
    const std::scoped_lock lock(silence.mutex);
    silence.released = true;
    silence.changed.notify_all();
    return silence.over;
  }();
  EXPECT_FALSE(over) << "it waited for the name server";
  EXPECT_TRUE(silence.await([] { return silence.over; }));
}

}  // namespace
}  // namespace fairsale
