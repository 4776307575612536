// Reads one HTTP/1.x request out of a buffer: Beast's parser with the edge's strictness on top.
// Part of the edge's inside; a header of its own so that tests and fuzzers can feed it bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include <boost/beast/http/basic_parser.hpp>

#include "api/http/worker.hpp"

namespace fairsale::http {

// Why a request is refused, in the words of the problem that answers it.
struct Refusal {
  int status = 0;  // 0: not refused
  std::string_view name;
  std::string_view detail;
};

// What is ambiguous is refused, since a proxy in front may have read it the other way: a header
// that matters sent twice, Content-Length beside Transfer-Encoding, any coding but chunked, folded
// lines, bare line feeds.
class RequestReader final : private boost::beast::http::basic_parser<true> {
 public:
  enum class Progress { more, complete, refused };

  explicit RequestReader(const Limits& limits);

  // `data` holds all bytes from the request's first on, at most header_bytes + body_bytes +
  // kChunkSlack of them unread ones; it may have moved between calls. Bytes of chunk framing are
  // taken out in place, so `size` may shrink.
  Progress read(char* data, std::size_t& size);

  // Makes ready for the next request.
  void reset();

  bool started() const { return started_; }
  bool header_done() const { return header_done_; }
  bool wants_continue() const { return expects_continue_ && http11_; }
  bool keeps_alive() const { return keep_alive(); }  // once the header is done
  bool http11() const { return http11_; }
  bool is_head() const { return method_ == Method::head; }
  const Refusal& refusal() const { return refusal_; }

  // When complete: the request's bytes, of which `length()` may then be dropped.
  std::size_t length() const { return body_end_; }
  Request request(const char* data) const;

  // A line of chunk framing, or the trailers, may be as long as this; so may all framing together,
  // with some more for each byte of the body.
  static constexpr std::size_t kChunkSlack = 4096;

 private:
  using Base = boost::beast::http::basic_parser<true>;
  using StringView = boost::beast::string_view;
  using ErrorCode = boost::beast::error_code;

  struct Span {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;
    bool present = false;
  };

  Span span(StringView s) const;
  static std::string_view view(const char* data, Span s);
  void refuse(int status, std::string_view name, std::string_view detail, ErrorCode& ec);
  void refuse_bad(std::string_view detail, ErrorCode& ec) {
    refuse(400, "bad_request", detail, ec);
  }
  void explain(const ErrorCode& ec);
  void once(Span& field, StringView value, std::string_view detail, ErrorCode& ec);
  bool header_ends(std::string_view data);
  bool framing_too_long(std::size_t line) const;
  void squeeze(char* data, std::size_t& size);

  void on_request_impl(boost::beast::http::verb, StringView method, StringView target, int version,
                       ErrorCode&) override;
  void on_response_impl(int, StringView, int, ErrorCode&) override {}
  void on_field_impl(boost::beast::http::field, StringView name, StringView value,
                     ErrorCode&) override;
  void on_header_impl(ErrorCode&) override;
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
  std::size_t on_body_impl(StringView body, ErrorCode&) override;
  void on_chunk_header_impl(std::uint64_t, StringView, ErrorCode&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, StringView body, ErrorCode&) override;
  void on_finish_impl(ErrorCode&) override {}

  const Limits* limits_;
  char* data_ = nullptr;  // during read()
  std::size_t size_ = 0;
  std::size_t parsed_ = 0;    // bytes the parser has consumed
  std::size_t looked_ = 0;    // bytes that have been searched for the end of the header
  std::size_t body_at_ = 0;   // where the body begins
  std::size_t body_end_ = 0;  // where it ends so far
  std::size_t framing_ = 0;   // bytes of chunk framing taken out
  Refusal refusal_;
  Method method_ = Method::other;
  bool started_ = false;
  bool line_done_ = false;
  bool header_done_ = false;
  bool http11_ = false;
  bool expects_continue_ = false;
  bool repeats_match_ = false;
  Span method_name_, target_, host_, authorization_, idempotency_key_, content_type_, accept_,
      if_none_match_, last_event_id_, content_length_, transfer_encoding_, webhook_id_,
      webhook_timestamp_, webhook_signature_;
};

}  // namespace fairsale::http
