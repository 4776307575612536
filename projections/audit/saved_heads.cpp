#include "projections/audit/saved_heads.hpp"

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

// A head that cannot be compared has no name or is of position 0.
std::optional<SavedHead> parse_line(simdjson::dom::parser& parser, std::string_view line) {
  simdjson::dom::element e;
  std::string_view sku;
  std::uint64_t position = 0;
  std::string_view head;
  if (parser.parse(simdjson::padded_string(line)).get(e) != simdjson::SUCCESS ||
      e["sku"].get(sku) != simdjson::SUCCESS || e["position"].get(position) != simdjson::SUCCESS ||
      e["head"].get(head) != simdjson::SUCCESS) {
    return std::nullopt;
  }
  const auto head_digest = digest_from(head);
  if (!head_digest) return std::nullopt;
  SavedHead saved{std::string(sku), Seq{position}, *head_digest, std::nullopt};
  std::string_view state;
  switch (e["state_digest"].get(state)) {
    case simdjson::SUCCESS:
      saved.state = digest_from(state);
      if (!saved.state) return std::nullopt;
      return saved;
    case simdjson::NO_SUCH_FIELD: return saved;
    default: return std::nullopt;
  }
}

}  // namespace

Result<SavedHeads> parse_saved_heads(std::string_view text) {
  SavedHeads found;
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
                              "perhaps state_digest",
                              number));
    }
    if (head->sku.empty()) {
      found.passed_over.push_back(fmt::format("line {} names no sale: passed over", number));
    } else if (head->position == Seq{0}) {
      found.passed_over.push_back(
          fmt::format("line {} is of position 0, before the first event: passed over", number));
    } else {
      found.heads.push_back(std::move(*head));
    }
  }
  if (found.heads.empty()) {
    return fail(Fault::invalid,
                fmt::format("there is no saved head in it that can be compared ({} lines passed "
                            "over)",
                            found.passed_over.size()));
  }
  return found;
}

Result<SavedHeads> read_saved_heads(const std::string& path) {
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
