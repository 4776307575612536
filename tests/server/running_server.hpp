// A whole server in this process, on a free port and a data directory of its own, and a client that
// speaks to it over a real socket.
#pragma once

#include <utility>  // Boost 1.74 forgets that Asio needs it

#include <gtest/gtest.h>
#include <simdjson.h>
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include <filesystem>
#include <future>
#include <string>
#include <thread>

#include "api/server.hpp"

namespace fairsale::test {

namespace bhttp = boost::beast::http;
namespace net = boost::asio;

struct Got {
  unsigned status = 0;
  std::string body;
  bhttp::fields fields;

  std::string header(std::string_view name) const {
    const auto it = fields.find(boost::beast::string_view(name.data(), name.size()));
    return it == fields.end() ? std::string() : std::string(it->value());
  }
  // The member's JSON text without quotes; empty when there is none.
  std::string member(std::string_view name) const {
    simdjson::dom::parser parser;
    simdjson::dom::element document;
    if (parser.parse(body).get(document) != simdjson::SUCCESS) return {};
    simdjson::dom::element e;
    if (document[name].get(e) != simdjson::SUCCESS) return {};
    std::string_view s;
    if (e.get(s) == simdjson::SUCCESS) return std::string(s);
    return simdjson::minify(e);
  }
};

// One keep-alive connection.
class Client {
 public:
  explicit Client(std::uint16_t port) : stream_(io_) {
    stream_.expires_after(std::chrono::seconds(20));
    stream_.connect(net::ip::tcp::endpoint(net::ip::make_address("127.0.0.1"), port));
  }

  Got send(bhttp::verb verb, std::string_view target, std::string_view token = {},
           std::string_view body = {}, std::string_view key = {},
           std::string_view if_none_match = {}) {
    bhttp::request<bhttp::string_body> request(
        verb, boost::beast::string_view(target.data(), target.size()), 11);
    request.set(bhttp::field::host, "127.0.0.1");
    if (!token.empty()) request.set(bhttp::field::authorization, "Bearer " + std::string(token));
    if (!key.empty()) request.set("Idempotency-Key", std::string(key));
    if (!if_none_match.empty()) {
      request.set(bhttp::field::if_none_match, std::string(if_none_match));
    }
    if (!body.empty()) {
      request.set(bhttp::field::content_type, "application/json");
      request.body() = std::string(body);
    }
    request.prepare_payload();
    stream_.expires_after(std::chrono::seconds(20));
    bhttp::write(stream_, request);
    bhttp::response_parser<bhttp::string_body> parser;
    parser.skip(verb == bhttp::verb::head);
    bhttp::read(stream_, buffer_, parser);
    auto response = parser.release();
    Got got{response.result_int(), response.body(), {}};
    got.fields = response.base();
    return got;
  }

 private:
  net::io_context io_;
  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;
};

inline constexpr std::string_view kOperator = "operator-secret-0123456789";
inline constexpr std::string_view kShop = "shop-secret-0123456789abcd";

class RunningServer {
 public:
  explicit RunningServer(std::size_t workers = 1, api::Rate customer_rate = {0, 1},
                         std::string directory = {}) {
    if (directory.empty()) {
      std::string pattern =
          (std::filesystem::temp_directory_path() / "fairsale-server-XXXXXX").string();
      directory_ = mkdtemp(pattern.data());
      owned_ = true;
    } else {
      directory_ = directory;
    }
    api::ServerConfig config;
    config.data_dir = directory_ + "/data";
    config.port = 0;
    config.workers = workers;
    config.operator_token.value = kOperator;
    config.shop_token.value = kShop;
    config.customer_key.value = "customer-key-0123456789abc";
    config.customer_rate = customer_rate;
    config.address_rate = {0, 1};
    spdlog::set_level(spdlog::level::off);
    thread_ = std::thread([this, config] {
      const auto served = api::serve(
          config, [this](std::uint16_t p, const api::Secrets&) { ready_.set_value(p); },
          [this] { stop_.get_future().wait(); });
      if (!served) ready_.set_value(0), error_ = served.error().message;
    });
    port_ = ready_.get_future().get();
    EXPECT_NE(port_, 0) << error_;
  }

  ~RunningServer() {
    stop();
    if (owned_) std::filesystem::remove_all(directory_);
  }

  void stop() {
    if (!thread_.joinable()) return;
    stop_.set_value();
    thread_.join();
  }

  std::uint16_t port() const { return port_; }
  const std::string& directory() const { return directory_; }

 private:
  std::string directory_;
  bool owned_ = false;
  std::promise<std::uint16_t> ready_;
  std::promise<void> stop_;
  std::string error_;
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace fairsale::test
