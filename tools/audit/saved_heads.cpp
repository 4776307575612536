#include "tools/audit/saved_heads.hpp"

#include <fmt/format.h>
#include <simdjson.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>

namespace fairsale::audit {

namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{64} << 20;

std::optional<Digest> digest_from(std::string_view hex) {
  Digest d;
  if (hex.size() != 2 * d.bytes.size()) return std::nullopt;
  for (std::size_t i = 0; i < d.bytes.size(); ++i) {
    unsigned byte = 0;
    const char* at = hex.data() + 2 * i;
    const auto [end, error] = std::from_chars(at, at + 2, byte, 16);
    if (error != std::errc() || end != at + 2) return std::nullopt;
    d.bytes[i] = static_cast<std::byte>(byte);
  }
  return d;
}

std::optional<SavedHead> parse_line(simdjson::dom::parser& parser, std::string_view line) {
  simdjson::dom::element e;
  std::string_view sku;
  std::uint64_t position = 0;
  std::string_view head;
  std::string_view state;
  if (parser.parse(simdjson::padded_string(line)).get(e) != simdjson::SUCCESS ||
      e["sku"].get(sku) != simdjson::SUCCESS || sku.empty() ||
      e["position"].get(position) != simdjson::SUCCESS || position == 0 ||
      e["head"].get(head) != simdjson::SUCCESS ||
      e["state_digest"].get(state) != simdjson::SUCCESS) {
    return std::nullopt;
  }
  const auto head_digest = digest_from(head);
  const auto state_digest = digest_from(state);
  if (!head_digest || !state_digest) return std::nullopt;
  return SavedHead{std::string(sku), Seq{position}, *head_digest, *state_digest};
}

}  // namespace

Result<std::vector<SavedHead>> parse_saved_heads(std::string_view text) {
  std::vector<SavedHead> heads;
  simdjson::dom::parser parser;
  std::size_t number = 0;
  while (!text.empty()) {
    ++number;
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    auto head = parse_line(parser, line);
    if (!head) {
      return fail(Fault::invalid,
                  fmt::format("line {} is not a saved head: each line must be the JSON of "
                              "GET /v1/sales/{{sku}}/audit-head, with sku, position, head and "
                              "state_digest",
                              number));
    }
    heads.push_back(std::move(*head));
  }
  if (heads.empty()) return fail(Fault::invalid, "there is no saved head in it");
  return heads;
}

Result<std::vector<SavedHead>> read_saved_heads(const std::string& path) {
  std::error_code ec;
  const auto size = std::filesystem::file_size(path, ec);
  if (ec) return fail(Fault::io, fmt::format("cannot read {}: {}", path, ec.message()));
  if (size > kMaxFileBytes) {
    return fail(Fault::invalid, fmt::format("{}: too large for a file of saved heads", path));
  }
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  if (!in || text.size() != size) return fail(Fault::io, fmt::format("cannot read {}", path));
  auto heads = parse_saved_heads(text);
  if (!heads) return fail(heads.error().fault, path + ": " + heads.error().message);
  return heads;
}

}  // namespace fairsale::audit
