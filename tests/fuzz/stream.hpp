// The requests in a stream of bytes, as a worker's loop would take them from a connection.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "api/http/request_reader.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

struct ReadRequest {
  std::string raw;     // the bytes that it took, leading empty lines aside
  std::string fields;  // all that the reader made of it
  std::string path;
  std::string query;
  std::string body;
  bool has_body = false;
  bool head = false;
};

struct ReadStream {
  std::vector<ReadRequest> requests;
  int refused = 0;  // the status of the refusal that ended it
  bool refused_head = false;
  // What is wrong in a header or in a chunk's line may be refused before all of it is there, or not
  // before: Beast (1.74) looks for the end of a quoted extension beyond the line's.
  bool refused_early = false;
  bool unfinished = false;  // something of one more request was there
};

// Small, so that inputs of some hundred bytes reach every one of them.
inline http::Limits small_limits() {
  http::Limits l;
  l.header_bytes = 1024;
  l.target_bytes = 256;
  l.body_bytes = 512;
  l.pipeline = 4;
  l.output_bytes = 4096;
  return l;
}

// Reads `piece` bytes at a time.
inline ReadStream read_stream(std::string_view bytes, const http::Limits& limits,
                              std::size_t piece) {
  using Progress = http::RequestReader::Progress;
  const std::size_t most =
      limits.header_bytes + limits.body_bytes + http::RequestReader::kChunkSlack;
  ReadStream out;
  http::RequestReader reader(limits);
  std::string buffer;
  std::size_t fed = 0;
  std::size_t begin = 0;  // of the request under way, in `bytes`
  while (fed < bytes.size()) {
    expect(buffer.size() < most, "a request that may still come is within its bounds");
    const std::size_t n = std::min({piece, bytes.size() - fed, most - buffer.size()});
    buffer += bytes.substr(fed, n);
    fed += n;
    while (!buffer.empty()) {
      if (!reader.started() && buffer.starts_with("\r\n")) {
        buffer.erase(0, 2);
        begin += 2;
        continue;
      }
      if (!reader.started() && buffer == "\r") break;
      std::size_t size = buffer.size();
      const Progress progress = reader.read(buffer.data(), size);
      expect(size <= buffer.size(), "a buffer does not grow by being read");
      buffer.resize(size);
      if (progress == Progress::more) break;
      if (progress == Progress::refused) {
        out.refused = reader.refusal().status;
        out.refused_head = reader.is_head();
        out.refused_early =
            reader.header_done() || bytes.substr(begin).find("\r\n\r\n") == std::string_view::npos;
        expect(out.refused >= 400 && !reader.refusal().detail.empty(), "a refusal says why");
        return out;
      }
      const http::Request r = reader.request(buffer.data());
      ReadRequest& q = out.requests.emplace_back();
      for (const std::string_view part :
           {r.method_name, r.target, r.path, r.query, r.host, r.authorization, r.idempotency_key,
            r.content_type, r.if_none_match, r.body}) {
        q.fields += std::to_string(part.size()) + (part.data() == nullptr ? "-" : ":");
        q.fields += part;
      }
      q.fields += r.has_body ? 'b' : ' ';
      q.fields += reader.keeps_alive() ? 'k' : ' ';
      q.fields += reader.http11() ? '1' : '0';
      q.path = r.path;
      q.query = r.query;
      q.body = r.body;
      q.has_body = r.has_body;
      q.head = reader.is_head();
      expect(reader.length() <= buffer.size(), "a request ends within what was read");
      const bool keep = reader.keeps_alive();
      buffer.erase(0, reader.length());
      reader.reset();
      const std::size_t end = fed - buffer.size();
      q.raw = bytes.substr(begin, end - begin);
      begin = end;
      if (!keep) return out;
    }
  }
  out.unfinished = !buffer.empty();
  return out;
}

}  // namespace fairsale::fuzz
