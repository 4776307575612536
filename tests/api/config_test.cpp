#include "api/config.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <simdjson.h>

namespace fairsale::api {
namespace {

using Strings = std::vector<std::string>;

class Config : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "fairsale-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  // The arguments that name a config file of this text.
  Strings file(const std::string& text, Strings more = {}) {
    const std::string path = (dir_ / "fairsale.toml").string();
    std::ofstream(path) << text;
    more.insert(more.begin(), {"--config", path});
    return more;
  }
  ServerConfig good(const Strings& args, const Strings& environment = {}) {
    auto parsed = parse_config(args, environment, "1.2.3");
    if (const auto* exit = std::get_if<Exit>(&parsed)) {
      ADD_FAILURE() << exit->text;
      return {};
    }
    return std::get<ServerConfig>(parsed);
  }
  std::string bad(const Strings& args, const Strings& environment = {}) {
    auto parsed = parse_config(args, environment, "1.2.3");
    const auto* exit = std::get_if<Exit>(&parsed);
    if (exit == nullptr) return "accepted";
    EXPECT_EQ(exit->code, 2);
    return exit->text;
  }
  static bool has(const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
  }

  std::filesystem::path dir_;
};

TEST_F(Config, HasDefaults) {
  const ServerConfig c = good({});
  EXPECT_EQ(c.address, "127.0.0.1");
  EXPECT_EQ(c.port, 8080);
  EXPECT_EQ(c.customer_rate.per_second, 10);
  EXPECT_EQ(c.address_rate.burst, 400U);
  EXPECT_FALSE(c.public_metrics);
}

TEST_F(Config, FlagsWinOverTheEnvironment) {
  EXPECT_EQ(good({"--workers", "3"}, {"FAIRSALE_WORKERS=2"}).workers, 3U);
}

TEST_F(Config, TheEnvironmentWinsOverTheFile) {
  EXPECT_EQ(good(file("workers = 1\n"), {"FAIRSALE_WORKERS=2"}).workers, 2U);
}

TEST_F(Config, FlagsWinOverTheFile) {
  EXPECT_EQ(good(file("workers = 1\n", {"--workers=3"})).workers, 3U);
}

TEST_F(Config, EachSourceSuppliesWhatTheOthersLeaveOut) {
  const ServerConfig c = good(
      file("workers = 4\ndata = \"/var/lib/fair sale\"\ndemo = true\n", {"--listen", "0.0.0.0:0"}),
      {"FAIRSALE_CUSTOMER_RATE=2.5", "PATH=/bin", "FAIRSALE_DATA="});
  EXPECT_EQ(c.workers, 4U);
  EXPECT_EQ(c.data_dir, "/var/lib/fair sale");
  EXPECT_TRUE(c.demo);
  EXPECT_EQ(c.address, "0.0.0.0");
  EXPECT_EQ(c.port, 0);
  EXPECT_EQ(c.customer_rate.per_second, 2.5);
}

TEST_F(Config, SwitchesTooFollowThePrecedence) {
  EXPECT_TRUE(good({"--public-metrics"}, {"FAIRSALE_PUBLIC_METRICS=false"}).public_metrics);
  EXPECT_FALSE(
      good(file("public-metrics = true\n"), {"FAIRSALE_PUBLIC_METRICS=false"}).public_metrics);
  EXPECT_FALSE(good(file("public-metrics = true\n", {"--public-metrics=false"})).public_metrics);
}

TEST_F(Config, TheFileMayBeNamedInTheEnvironment) {
  const Strings named = file("workers = 5\n");
  EXPECT_EQ(good({}, {"FAIRSALE_CONFIG=" + named[1]}).workers, 5U);
  EXPECT_TRUE(has(bad({}, {"FAIRSALE_CONFIG=/nowhere"}), "cannot read /nowhere"));
}

TEST_F(Config, SecretsFollowThePrecedence) {
  const ServerConfig by_value =
      good(file("shop-token-file = \"/from/file\"\n"), {"FAIRSALE_SHOP_TOKEN=a-shop-token-0123"});
  EXPECT_EQ(by_value.shop_token.file, "");
  EXPECT_EQ(by_value.shop_token.value, "a-shop-token-0123");
  const ServerConfig by_flag =
      good({"--shop-token-file", "/from/flag"}, {"FAIRSALE_SHOP_TOKEN=a-shop-token-0123"});
  EXPECT_EQ(by_flag.shop_token.file, "/from/flag");
  EXPECT_EQ(by_flag.shop_token.value, "");
  EXPECT_EQ(good({}, {"FAIRSALE_SHOP_TOKEN_FILE=/from/env"}).shop_token.file, "/from/env");
  EXPECT_TRUE(has(bad({}, {"FAIRSALE_SHOP_TOKEN_FILE=/a", "FAIRSALE_SHOP_TOKEN=b"}), "not both"));
}

TEST_F(Config, TimesAreSeconds) {
  EXPECT_EQ(good({"--idle-timeout", "0.5"}).limits.idle_timeout, std::chrono::milliseconds(500));
  EXPECT_EQ(good({"--drain-timeout", "30"}).drain_timeout, std::chrono::seconds(30));
}

TEST_F(Config, TakesAddressesOfBothKinds) {
  EXPECT_EQ(good({"--listen", "[::1]:80"}).address, "::1");
  for (const char* wrong :
       {"8080", ":8080", "127.0.0.1", "::1:80", "host:port", "a:70000", "a:-1"}) {
    EXPECT_TRUE(has(bad({"--listen", wrong}), "must be ADDRESS:PORT")) << wrong;
  }
}

TEST_F(Config, PaysOnlyAtAnAddress) {
  for (const char* right :
       {"https://shop.example/pay?purchase={purchase}", "http://[::1]:8443/{purchase}",
        "https://shop.example:443?a=b&p={purchase}#x"}) {
    EXPECT_EQ(good({"--pay-url", right}).pay_url, right);
  }
  for (const char* wrong :
       {"", "javascript:alert(1)//{purchase}", "//shop.example/{purchase}", "/pay/{purchase}",
        "https://shop.example/pay", "https://shop.example/{purchase} x", "https:///{purchase}",
        "https://?p={purchase}", "https://{purchase}.example/",
        "https://u:pw@shop.example/{purchase}", "https://shop.example:port/{purchase}",
        "https://shop.example:0/{purchase}", "https://shop.example/\"{purchase}",
        "https://shop.example/<{purchase}"}) {
    EXPECT_TRUE(has(bad({"--pay-url", wrong}), "must be an address with {purchase} in it"))
        << wrong;
  }
}

TEST_F(Config, TakesAddressesOfNats) {
  for (const char* right : {"nats://127.0.0.1:4222", "tls://nats.example", "nats://[::1]:4222",
                            "nats://a:1,tls://b:65535"}) {
    EXPECT_EQ(good({"--nats", right}).nats, right);
  }
  for (const char* wrong :
       {"", "nats.example:4222", "http://nats.example", "nats://", "nats://:4222", "nats://a:0",
        "nats://a:99999", "nats://a:port", "nats://a:", "nats:// a", "nats://a/b", "nats://[::1",
        "nats://[]:1", "nats://::1:4222", "nats://a,", "nats://a,,nats://b"}) {
    EXPECT_TRUE(has(bad({"--nats", wrong}), "must be nats://HOST:PORT")) << wrong;
  }
}

TEST_F(Config, TellsNobodyTheCredentialsThatItRefuses) {
  const std::string said = bad({}, {"FAIRSALE_NATS=nats://shop:hunter2@nats.example:4222"});
  EXPECT_TRUE(has(said, "FAIRSALE_NATS: what was given must not hold credentials")) << said;
  EXPECT_FALSE(has(said, "hunter2")) << said;
  EXPECT_FALSE(has(bad({"--pay-url", "https://u:hunter2@shop.example/{purchase}"}), "hunter2"));
}

TEST_F(Config, NamesWhatItDoesNotKnow) {
  EXPECT_TRUE(has(bad({"--wrokers", "1"}), "--wrokers"));
  EXPECT_TRUE(has(bad(file("wrokers = 1\n")), "unknown setting 'wrokers'"));
  EXPECT_TRUE(has(bad(file("[http]\nworkers = 1\n")), "unknown setting 'http.workers'"));
  EXPECT_TRUE(has(bad({"stray"}), "stray"));
  // Kubernetes makes such variables for a service called fairsale.
  good({}, {"FAIRSALE_PORT=tcp://10.0.0.1:80", "FAIRSALE_SERVICE_HOST=10.0.0.1"});
}

TEST_F(Config, SaysWhichValueIsWrongAndWhereItStands) {
  EXPECT_TRUE(has(bad({"--workers", "0"}), "--workers: '0' must be a whole number from 1 to 256"));
  EXPECT_TRUE(has(bad({}, {"FAIRSALE_WORKERS=many"}), "FAIRSALE_WORKERS: 'many' must be"));
  EXPECT_TRUE(has(bad(file("workers = 1.5\n")), "workers in "));
  EXPECT_TRUE(has(bad({"--customer-rate", "-1"}), "must be a number"));
  EXPECT_TRUE(has(bad({"--customer-rate", "nan"}), "must be a number"));
  EXPECT_TRUE(has(bad({"--log-level", "loud"}), "must be one of trace, debug"));
  EXPECT_TRUE(has(bad({"--workers", "1", "--workers", "2"}), "workers"));
  EXPECT_TRUE(has(bad({"--workers"}), "workers"));
  EXPECT_TRUE(has(bad(file("workers = 1\nworkers = 2\n")), "given once"));
  EXPECT_TRUE(has(bad({}, {"FAIRSALE_DEMO=maybe"}), "true or false"));
}

TEST_F(Config, HelpsAndTellsItsVersion) {
  auto help = parse_config({"--help"}, {}, "1.2.3");
  ASSERT_TRUE(std::holds_alternative<Exit>(help));
  EXPECT_EQ(std::get<Exit>(help).code, 0);
  for (const char* part : {"--listen", "--config", "FAIRSALE_", "--customer-rate"}) {
    EXPECT_TRUE(has(std::get<Exit>(help).text, part)) << part;
  }
  auto version = parse_config({"--version"}, {}, "1.2.3");
  EXPECT_EQ(std::get<Exit>(version).code, 0);
  EXPECT_EQ(std::get<Exit>(version).text, "fairsaled 1.2.3\n");
}

TEST_F(Config, LogsLinesOfJson) {
  const std::string path = (dir_ / "log").string();
  ASSERT_TRUE(start_logging({"info", "json", path}));
  spdlog::info("a \"quoted\" line\nand {}", 42);
  spdlog::debug("too small to see");
  stop_logging();
  std::ifstream log(path);
  std::string line;
  ASSERT_TRUE(std::getline(log, line));
  simdjson::dom::parser parser;
  simdjson::dom::element json;
  ASSERT_EQ(parser.parse(line).get(json), simdjson::SUCCESS) << line;
  EXPECT_EQ(std::string_view(json["message"]), "a \"quoted\" line\nand 42");
  EXPECT_EQ(std::string_view(json["level"]), "info");
  EXPECT_FALSE(std::getline(log, line));
}

TEST_F(Config, RefusesLogsItCannotWrite) {
  EXPECT_FALSE(start_logging({"info", "text", (dir_ / "log/log/log").string() + "/"}));
  EXPECT_FALSE(start_logging({"loud", "text", ""}));
  EXPECT_FALSE(start_logging({"info", "xml", ""}));
}

}  // namespace
}  // namespace fairsale::api
