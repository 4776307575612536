#include "api/logging.hpp"

#include <memory>
#include <string>
#include <string_view>

#include <spdlog/async.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include "api/http/problem.hpp"

namespace fairsale::api {

namespace {

constexpr std::size_t kQueueLines = 8192;

// The message as a JSON string: the only part of a line that may hold quotes and control
// characters.
class JsonMessage final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&,
              spdlog::memory_buf_t& out) override {
    text_.clear();
    append_json_string(text_, {message.payload.data(), message.payload.size()});
    out.append(text_.data(), text_.data() + text_.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }

 private:
  std::string text_;
};

std::unique_ptr<spdlog::formatter> formatter(bool json) {
  auto out = std::make_unique<spdlog::pattern_formatter>(spdlog::pattern_time_type::utc);
  if (json) {
    out->add_flag<JsonMessage>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%eZ","level":"%l","thread":%t,"message":%*})");
  } else {
    out->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %^%-7l%$ %v");
  }
  return out;
}

}  // namespace

Result<void> start_logging(const LogConfig& config) {
  const auto level = spdlog::level::from_str(config.level == "error" ? "err" : config.level);
  if (level == spdlog::level::off && config.level != "off") {
    return fail(Fault::invalid, "log-level: '" + config.level +
                                    "' is none of trace, debug, info, warn, error, off");
  }
  if (config.format != "text" && config.format != "json") {
    return fail(Fault::invalid, "log-format: '" + config.format + "' is neither text nor json");
  }
  try {
    spdlog::sink_ptr sink;
    if (config.file.empty()) {
      sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
    } else {
      sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(config.file);
    }
    spdlog::init_thread_pool(kQueueLines, 1);
    auto logger =
        std::make_shared<spdlog::async_logger>("fairsale", std::move(sink), spdlog::thread_pool(),
                                               spdlog::async_overflow_policy::overrun_oldest);
    logger->set_formatter(formatter(config.format == "json"));
    logger->set_level(level);
    logger->flush_on(spdlog::level::warn);
    spdlog::set_default_logger(std::move(logger));
    spdlog::flush_every(std::chrono::seconds(1));
  } catch (const spdlog::spdlog_ex& e) {
    return fail(Fault::io, std::string("log-file: ") + e.what() +
                               "; its directory must exist and be writable");
  }
  return {};
}

void stop_logging() { spdlog::shutdown(); }

}  // namespace fairsale::api
