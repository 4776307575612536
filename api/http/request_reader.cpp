#include "api/http/request_reader.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string_view>

#include <boost/asio/buffer.hpp>

namespace fairsale::http {

namespace beast_http = boost::beast::http;

namespace {

constexpr auto chars_in(std::string_view set) {
  std::array<bool, 256> table{};
  for (char c = 'a'; c <= 'z'; ++c) table[static_cast<unsigned char>(c)] = true;
  for (char c = 'A'; c <= 'Z'; ++c) table[static_cast<unsigned char>(c)] = true;
  for (char c = '0'; c <= '9'; ++c) table[static_cast<unsigned char>(c)] = true;
  for (const char c : set) table[static_cast<unsigned char>(c)] = true;
  return table;
}

constexpr auto kTargetChars = chars_in("-._~:/?@!$&'()*+,;=%[]");
constexpr auto kHostChars = chars_in("-._~:!$&'()*+,;=%[]");

bool all_of(const std::array<bool, 256>& table, std::string_view s) {
  return std::all_of(s.begin(), s.end(),
                     [&](char c) { return table[static_cast<unsigned char>(c)]; });
}

constexpr bool is_hex(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

bool escapes_are_whole(std::string_view s) {
  for (std::size_t i = s.find('%'); i != std::string_view::npos; i = s.find('%', i + 1)) {
    if (i + 2 >= s.size() || !is_hex(s[i + 1]) || !is_hex(s[i + 2])) return false;
  }
  return true;
}

constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// `word` is in lower case.
bool is_word(std::string_view s, std::string_view word) {
  return s.size() == word.size() &&
         std::equal(s.begin(), s.end(), word.begin(), [](char a, char b) { return lower(a) == b; });
}

Method method_of(beast_http::verb verb) {
  switch (verb) {
    case beast_http::verb::get: return Method::get;
    case beast_http::verb::head: return Method::head;
    case beast_http::verb::post: return Method::post;
    case beast_http::verb::put: return Method::put;
    case beast_http::verb::patch: return Method::patch;
    case beast_http::verb::delete_: return Method::del;
    case beast_http::verb::options: return Method::options;
    default: return Method::other;
  }
}

// Cuts scheme and authority off an absolute-form target; gives the authority, if any.
std::string_view cut_authority(std::string_view& target) {
  std::size_t at = 0;
  if (target.size() >= 7 && is_word(target.substr(0, 7), "http://")) at = 7;
  if (target.size() >= 8 && is_word(target.substr(0, 8), "https://")) at = 8;
  if (at == 0) return {};
  const std::string_view rest = target.substr(at);
  const std::size_t end = std::min(rest.find_first_of("/?"), rest.size());
  target = rest.substr(end);
  return rest.substr(0, end);
}

}  // namespace

RequestReader::RequestReader(const Limits& limits) : limits_(&limits) {
  header_limit(static_cast<std::uint32_t>(limits.header_bytes));
  body_limit(limits.body_bytes);
}

void RequestReader::reset() { *this = RequestReader(*limits_); }

RequestReader::Span RequestReader::span(StringView s) const {
  return {static_cast<std::uint32_t>(s.data() - data_), static_cast<std::uint32_t>(s.size()), true};
}

std::string_view RequestReader::view(const char* data, Span s) {
  return s.present ? std::string_view(data + s.offset, s.size) : std::string_view{};
}

void RequestReader::refuse(int status, std::string_view name, std::string_view detail,
                           ErrorCode& ec) {
  refusal_ = {status, name, detail};
  ec = beast_http::error::bad_value;
}

// Puts the parser's own errors into words, unless one of the checks here has spoken already.
void RequestReader::explain(const ErrorCode& ec) {
  if (refusal_.status != 0) return;
  using beast_http::error;
  const auto bad = [&](std::string_view detail) { refusal_ = {400, "bad_request", detail}; };
  if (ec == error::header_limit) {
    if (line_done_) {
      refusal_ = {431, "headers_too_large",
                  "The header is too large; send fewer or shorter fields."};
    } else {
      refusal_ = {414, "uri_too_long", "The request target is too long."};
    }
  } else if (ec == error::body_limit) {
    refusal_ = {413, "body_too_large", "The body is too large."};
  } else if (ec == error::bad_method) {
    bad("The method is not a token followed by one space.");
  } else if (ec == error::bad_target) {
    bad("The request target holds a character that must be percent-encoded.");
  } else if (ec == error::bad_version) {
    bad("The request line must end with HTTP/1.1 or HTTP/1.0 and CRLF.");
  } else if (ec == error::bad_field) {
    bad("A field name must be a token followed directly by a colon.");
  } else if (ec == error::bad_value) {
    bad("A field value holds a control character or is malformed.");
  } else if (ec == error::bad_content_length) {
    bad("Content-Length must be one decimal number, without Transfer-Encoding.");
  } else if (ec == error::bad_transfer_encoding) {
    bad("Transfer-Encoding must be sent once and without Content-Length.");
  } else if (ec == error::bad_chunk || ec == error::bad_chunk_extension) {
    bad("The chunked body is malformed.");
  } else {
    bad("The request is malformed; lines must end with CRLF.");
  }
}

RequestReader::Progress RequestReader::read(char* data, std::size_t& size) {
  data_ = data;
  started_ = true;
  ErrorCode ec;
  for (;;) {
    const std::size_t unread = size - parsed_;
    if (unread == 0) break;
    // Beast (1.74) asserts that at least five bytes are there when it looks again for the end of a
    // chunked body. Fewer can never complete one, so waiting for them costs nothing.
    if (header_done_ && chunked() && unread < 5) break;
    size_ = size;
    const std::size_t body_before = body_end_;
    const std::size_t used = put(boost::asio::const_buffer(data + parsed_, unread), ec);
    parsed_ += used;
    if (ec && ec != beast_http::error::need_more) {
      explain(ec);
      return Progress::refused;
    }
    std::size_t line = 0;  // of chunk framing, whole or not yet
    if (header_done_) {
      line = used - (body_end_ - body_before);
      framing_ += line;
    } else {
      // The parser bounds each of its steps; the sum is bounded here.
      const bool done = !ec && is_header_done();
      if ((done ? parsed_ : size) > limits_->header_bytes) {
        explain(beast_http::error::header_limit);
        return Progress::refused;
      }
      if (done) {
        header_done_ = true;
        body_at_ = body_end_ = parsed_;
      }
    }
    if (ec == beast_http::error::need_more && !header_done_ && header_ends({data, size})) {
      explain(beast_http::error::bad_version);
      return Progress::refused;
    }
    if (ec == beast_http::error::need_more) line = size - parsed_;
    if (header_done_ && chunked() && framing_too_long(line)) {
      refuse(413, "body_too_large",
             "The chunks are too small, or their extensions or the trailers too long.", ec);
      return Progress::refused;
    }
    if (ec == beast_http::error::need_more) break;
    if (is_done()) {
      if (chunked()) squeeze(data, size);
      return Progress::complete;
    }
  }
  if (header_done_ && chunked()) squeeze(data, size);
  return Progress::more;
}

// Whether the header is all there. Beast (1.74) waits for more all the same when fewer bytes follow
// the request target than a version has.
bool RequestReader::header_ends(std::string_view data) {
  const std::size_t from = std::max(looked_, parsed_ + 3) - 3;
  looked_ = data.size();
  return data.find("\r\n\r\n", from) != std::string_view::npos;
}

// The framing of a chunk of one byte takes five.
bool RequestReader::framing_too_long(std::size_t line) const {
  return line > kChunkSlack || framing_ > kChunkSlack + 8 * (body_end_ - body_at_);
}

// Drops consumed chunk framing, so that the body is contiguous and the buffer stays bounded.
void RequestReader::squeeze(char* data, std::size_t& size) {
  const std::size_t gap = parsed_ - body_end_;
  if (gap == 0) return;
  std::memmove(data + body_end_, data + parsed_, size - parsed_);
  size -= gap;
  parsed_ = body_end_;
}

Request RequestReader::request(const char* data) const {
  Request r;
  r.method = method_;
  r.method_name = view(data, method_name_);
  r.host = view(data, host_);
  r.target = view(data, target_);
  if (const std::string_view authority = cut_authority(r.target); !authority.empty()) {
    r.host = authority;
  }
  const std::size_t question = r.target.find('?');
  r.path = r.target.substr(0, question);
  if (r.path.empty()) r.path = "/";
  if (question != std::string_view::npos) r.query = r.target.substr(question + 1);
  r.authorization = view(data, authorization_);
  r.idempotency_key = view(data, idempotency_key_);
  r.content_type = view(data, content_type_);
  r.accept = view(data, accept_);
  r.if_none_match = view(data, if_none_match_);
  r.webhook_id = view(data, webhook_id_);
  r.webhook_timestamp = view(data, webhook_timestamp_);
  r.webhook_signature = view(data, webhook_signature_);
  r.last_event_id = view(data, last_event_id_);
  r.body = {data + body_at_, body_end_ - body_at_};
  r.has_body = content_length_.present || transfer_encoding_.present;
  return r;
}

void RequestReader::on_request_impl(beast_http::verb verb, StringView method, StringView target,
                                    int version, ErrorCode& ec) {
  line_done_ = true;
  http11_ = version >= 11;
  method_ = method_of(verb);
  method_name_ = span(method);
  target_ = span(target);
  if (target.size() > limits_->target_bytes) {
    return refuse(414, "uri_too_long", "The request target is too long.", ec);
  }
  std::string_view path(target.data(), target.size());
  if (!all_of(kTargetChars, path) || !escapes_are_whole(path)) {
    return refuse_bad("The request target holds a character that must be percent-encoded.", ec);
  }
  const std::string_view authority = cut_authority(path);
  const bool absolute = path.size() != target.size();
  if (absolute && authority.empty()) return refuse_bad("The request target names no host.", ec);
  const bool whole_server = path == "*" && method_ == Method::options;
  const bool rooted = absolute ? path.empty() || path[0] == '/' || path[0] == '?' : path[0] == '/';
  if (!rooted && !whole_server) {
    return refuse_bad("The request target must be a path that begins with '/'.", ec);
  }
}

void RequestReader::once(Span& field, StringView value, std::string_view detail, ErrorCode& ec) {
  if (field.present) return refuse_bad(detail, ec);
  field = span(value);
}

void RequestReader::on_field_impl(beast_http::field known, StringView name, StringView value,
                                  ErrorCode& ec) {
  if (header_done_) return;  // a trailer: never a substitute for a field of the header
  // Beast unfolds folded lines, some into a buffer of its own: either the value is then outside of
  // ours, or something else than blanks stands between colon and value.
  const char* const begin = data_;
  const char* const end = data_ + size_;
  const char* at = name.data() + name.size() + 1;
  const std::less<const char*> before;
  const bool inside = !before(value.data(), begin) && !before(end, value.data());
  if (inside) {
    while (at < value.data() && (*at == ' ' || *at == '\t')) ++at;
  }
  if (!inside || at != value.data()) {
    return refuse_bad("A field is folded over several lines; send it on one.", ec);
  }

  const std::string_view text(value.data(), value.size());
  using beast_http::field;
  switch (known) {
    case field::host:
      if (!all_of(kHostChars, text)) return refuse_bad("The Host field is malformed.", ec);
      return once(host_, value, "The Host field was sent twice.", ec);
    case field::content_length:
      if (text.empty() ||
          !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
        return refuse_bad("Content-Length must be one decimal number.", ec);
      }
      return once(content_length_, value, "Content-Length was sent twice.", ec);
    case field::transfer_encoding:
      if (!is_word(text, "chunked") || !http11_) {
        return refuse_bad("The only Transfer-Encoding supported is chunked, in HTTP/1.1.", ec);
      }
      return once(transfer_encoding_, value, "Transfer-Encoding was sent twice.", ec);
    case field::authorization:
      return once(authorization_, value, "The Authorization field was sent twice.", ec);
    case field::content_type:
      return once(content_type_, value, "The Content-Type field was sent twice.", ec);
    case field::accept:
      // A list that may be sent in parts. The first is what browsers send, and nobody else's
      // matters.
      if (!accept_.present) accept_ = span(value);
      return;
    case field::if_none_match:
      // A list that may be sent in parts. Answering in full is always right, so parts are ignored.
      repeats_match_ = if_none_match_.present || repeats_match_;
      if_none_match_ = repeats_match_ ? Span{} : span(value);
      return;
    case field::expect:
      if (!is_word(text, "100-continue")) {
        return refuse(417, "expectation_failed", "The only Expect supported is 100-continue.", ec);
      }
      expects_continue_ = true;
      return;
    case field::unknown:
      if (is_word({name.data(), name.size()}, "idempotency-key")) {
        return once(idempotency_key_, value, "The Idempotency-Key field was sent twice.", ec);
      }
      if (is_word({name.data(), name.size()}, "webhook-id")) {
        return once(webhook_id_, value, "The webhook-id field was sent twice.", ec);
      }
      if (is_word({name.data(), name.size()}, "webhook-timestamp")) {
        return once(webhook_timestamp_, value, "The webhook-timestamp field was sent twice.", ec);
      }
      if (is_word({name.data(), name.size()}, "webhook-signature")) {
        return once(webhook_signature_, value, "The webhook-signature field was sent twice.", ec);
      }
      if (is_word({name.data(), name.size()}, "last-event-id")) {
        return once(last_event_id_, value, "The Last-Event-ID field was sent twice.", ec);
      }
      return;
    default: return;
  }
}

void RequestReader::on_header_impl(ErrorCode& ec) {
  if (http11_ && !host_.present) refuse_bad("An HTTP/1.1 request needs a Host field.", ec);
}

std::size_t RequestReader::on_body_impl(StringView body, ErrorCode&) {
  body_end_ += body.size();
  return body.size();
}

std::size_t RequestReader::on_chunk_body_impl(std::uint64_t, StringView body, ErrorCode&) {
  std::memmove(data_ + body_end_, body.data(), body.size());
  body_end_ += body.size();
  return body.size();
}

}  // namespace fairsale::http
