// Files of heads that were saved elsewhere: what is accepted reads back the same from its own
// canonical lines, and every line is accounted for.
#include "projections/audit/saved_heads.hpp"
#include "core/json/json.hpp"
#include "tests/fuzz/target.hpp"

namespace fairsale::fuzz {

void judge(std::string_view input) {
  const auto read = audit::parse_saved_heads(input);
  if (!read) {
    expect(!read.error().message.empty(), "a refusal says why");
    return;
  }
  const auto lines = static_cast<std::size_t>(std::count(input.begin(), input.end(), '\n')) + 1;
  expect(!read->heads.empty(), "without a head there is nothing to compare");
  expect(read->heads.size() + read->passed_over.size() <= lines, "a line holds one head");
  std::string again;
  for (const auto& head : read->heads) {
    expect(!head.sku.empty() && head.position.value > 0, "a head can be compared");
    JsonWriter json(again);
    json.begin_object().member("sku", std::string_view(head.sku));
    json.member("position", head.position.value)
        .member("head", std::string_view(to_hex(head.head)));
    if (head.state) json.member("state_digest", std::string_view(to_hex(*head.state)));
    json.end_object();
    again += '\n';
  }
  const auto back = audit::parse_saved_heads(again);
  expect(back && back->heads.size() == read->heads.size(), "what was read can be written", again);
  for (std::size_t i = 0; i < read->heads.size(); ++i) {
    const auto& a = read->heads[i];
    const auto& b = back->heads[i];
    expect(a.sku == b.sku && a.position == b.position && a.head == b.head && a.state == b.state,
           "and reads back the same", again);
  }
}

std::vector<std::string> seeds() { return {}; }

}  // namespace fairsale::fuzz
