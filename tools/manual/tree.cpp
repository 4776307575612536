#include "tools/manual/tree.hpp"

#include <algorithm>

namespace fairsale::cli {

namespace {

std::string one_line(std::string s) {
  std::replace(s.begin(), s.end(), '\n', ' ');
  return s;
}

// "{bash,zsh,fish}" within a type's description.
std::vector<std::string> choices_in(const std::string& type) {
  std::vector<std::string> choices;
  const std::size_t open = type.find('{');
  const std::size_t close = type.find('}', open == std::string::npos ? 0 : open);
  if (open == std::string::npos || close == std::string::npos) return choices;
  std::string choice;
  for (std::size_t i = open + 1; i <= close; ++i) {
    if (type[i] == ',' || i == close) {
      choices.push_back(choice);
      choice.clear();
    } else {
      choice += type[i];
    }
  }
  return choices;
}

OptionEntry entry_of(const CLI::Option& o) {
  OptionEntry e;
  for (const std::string& n : o.get_snames()) e.names.push_back("-" + n);
  for (const std::string& n : o.get_lnames()) e.names.push_back("--" + n);
  if (!o.nonpositional()) e.positional = o.get_name(true);
  e.description = one_line(o.get_description());
  e.takes_value = o.get_items_expected_max() > 0;
  if (e.takes_value) {
    e.type = o.get_type_name();
    e.default_value = o.get_default_str();
    e.choices = choices_in(e.type);
    // "UINT:INT in [1 - 9]": what is checked says more than the type before it.
    if (const std::size_t colon = e.type.find(':'); colon != std::string::npos) {
      e.type.erase(0, colon + 1);
    }
  }
  e.required = o.get_required();
  return e;
}

void add(const CLI::App& app, const std::string& above, std::vector<CommandEntry>& all) {
  CommandEntry c;
  c.name = app.get_name();
  c.path = above.empty() ? c.name : above + " " + c.name;
  c.description = one_line(app.get_description());
  c.footer = app.get_footer();
  for (const CLI::Option* o : app.get_options()) {
    if (!o->get_group().empty()) c.options.push_back(entry_of(*o));
  }
  const auto named = app.get_subcommands(
      [](const CLI::App* s) { return !s->get_name().empty() && !s->get_group().empty(); });
  for (const CLI::App* s : named) c.commands.push_back(s->get_name());
  const std::string path = c.path;
  all.push_back(std::move(c));
  for (const CLI::App* s : named) add(*s, path, all);
}

}  // namespace

std::vector<CommandEntry> command_tree(const CLI::App& app) {
  std::vector<CommandEntry> all;
  add(app, "", all);
  return all;
}

}  // namespace fairsale::cli
