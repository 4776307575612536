#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string_view>

#include "tools/manual/manual.hpp"
#include "tools/manual/tree.hpp"

namespace fairsale::cli {

namespace {

// Within single quotes of a POSIX shell.
std::string in_quotes(std::string_view s) {
  std::string out = "'";
  for (const char c : s) {
    if (c == '\'') {
      out += "'\\''";
    } else {
      out += c;
    }
  }
  return out + "'";
}

std::string in_fish_quotes(std::string_view s) {
  std::string out = "'";
  for (const char c : s) {
    if (c == '\'' || c == '\\') out += '\\';
    out += c;
  }
  return out + "'";
}

// For a list entry of zsh's _describe, "name:description".
std::string described(std::string_view name, std::string_view description) {
  std::string out;
  for (const char c : name) {
    if (c == ':' || c == '\\') out += '\\';
    out += c;
  }
  return in_quotes(out + ":" + std::string(description));
}

const CommandEntry* find(const std::vector<CommandEntry>& all, const std::string& path) {
  for (const CommandEntry& c : all) {
    if (c.path == path) return &c;
  }
  return nullptr;
}

// A case pattern of all that lies below the top: "'fairsale log' | 'fairsale log show'".
std::string below_the_top(const std::vector<CommandEntry>& all, const char* between) {
  std::vector<std::string> paths;
  for (std::size_t i = 1; i < all.size(); ++i) paths.push_back(in_quotes(all[i].path));
  return fmt::format("{}", fmt::join(paths, between));
}

std::string names_of_options(const CommandEntry& c) {
  std::string names;
  for (const OptionEntry& o : c.options) {
    for (const std::string& n : o.names) names += (names.empty() ? "" : " ") + n;
  }
  return names;
}

// What a positional of the command may be, when it is one of a few words.
std::string choices_of_positionals(const CommandEntry& c) {
  std::string words;
  for (const OptionEntry& o : c.options) {
    if (!o.positional.empty()) words = fmt::format("{}", fmt::join(o.choices, " "));
  }
  return words;
}

std::string for_bash(const std::vector<CommandEntry>& all) {
  const std::string& name = all.front().name;
  std::string cases;
  std::string values;
  for (const CommandEntry& c : all) {
    const std::string words = c.commands.empty() ? choices_of_positionals(c)
                                                 : fmt::format("{}", fmt::join(c.commands, " "));
    cases += fmt::format("    {}) options={} words={} ;;\n", in_quotes(c.path),
                         in_quotes(names_of_options(c)), in_quotes(words));
    for (const OptionEntry& o : c.options) {
      if (!o.takes_value) continue;
      for (const std::string& n : o.names) {
        values += fmt::format("    {}) words={}; value=1 ;;\n", in_quotes(c.path + " " + n),
                              in_quotes(fmt::format("{}", fmt::join(o.choices, " "))));
      }
    }
  }
  return fmt::format(
      R"(# bash completion for {0}; made by `{0} completions bash`
_{0}() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD - 1]}}
  local command={0} options= words= value= i
  # bash takes --option=value apart.
  if [[ $current == = ]]; then
    current=
  elif [[ $previous == = && COMP_CWORD -gt 1 ]]; then
    previous=${{COMP_WORDS[COMP_CWORD - 2]}}
  fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$command ${{COMP_WORDS[i]}}" in
      {1}) command+=" ${{COMP_WORDS[i]}}" ;;
    esac
  done
  case $command in
{2}  esac
  case "$command $previous" in
{3}  esac
  if [[ -z $value && $current == -* ]]; then
    words=$options
  fi
  if [[ -n $words ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _{0} {0}
)",
      name, below_the_top(all, " | "), cases, values);
}

std::string for_zsh(const std::vector<CommandEntry>& all) {
  const std::string& name = all.front().name;
  std::string cases;
  std::string values;
  for (const CommandEntry& c : all) {
    std::string options;
    for (const OptionEntry& o : c.options) {
      for (const std::string& n : o.names) options += " " + described(n, o.description);
    }
    std::string words;
    for (const std::string& s : c.commands) {
      words += " " + described(s, find(all, c.path + " " + s)->description);
    }
    cases += fmt::format("    {}) options=({} ) commands=({} ) choices=({}) ;;\n",
                         in_quotes(c.path), options, words, choices_of_positionals(c));
    for (const OptionEntry& o : c.options) {
      if (!o.takes_value) continue;
      for (const std::string& n : o.names) {
        values += fmt::format("    {}) options=() commands=() choices=({}) ;;\n",
                              in_quotes(c.path + " " + n), fmt::join(o.choices, " "));
      }
    }
  }
  return fmt::format(
      R"(#compdef {0}
# zsh completion for {0}; made by `{0} completions zsh`
_{0}() {{
  local command={0} i
  local -a options commands choices
  for ((i = 2; i < CURRENT; i++)); do
    case "$command ${{words[i]}}" in
      {1}) command+=" ${{words[i]}}" ;;
    esac
  done
  case $command in
{2}  esac
  case "$command ${{words[CURRENT - 1]}}" in
{3}  esac
  if [[ ${{words[CURRENT]}} == -* && ${{#options}} -gt 0 ]]; then
    _describe -o option options
  elif (( ${{#commands}} )); then
    _describe command commands
  elif (( ${{#choices}} )); then
    compadd -a choices
  else
    _files
  fi
}}
if [[ ${{funcstack[1]}} == _{0} ]]; then
  _{0} "$@"
else
  compdef _{0} {0}
fi
)",
      name, below_the_top(all, " | "), cases, values);
}

std::string for_fish(const std::vector<CommandEntry>& all) {
  const std::string& name = all.front().name;
  std::string out = fmt::format(
      R"(# fish completion for {0}; made by `{0} completions fish`
function __{0}_at --description 'Whether the command line has come to this command'
    set -l command {0}
    set -l words (commandline -opc)
    for word in $words[2..-1]
        switch "$command $word"
            case {1}
                set command "$command $word"
        end
    end
    test "$command" = "$argv"
end
)",
      name, below_the_top(all, " "));
  for (const CommandEntry& c : all) {
    const std::string at = fmt::format("complete -c {0} -n {1}", name,
                                       in_quotes(fmt::format("__{}_at {}", name, c.path)));
    for (const std::string& s : c.commands) {
      out += fmt::format("{} -f -a {} -d {}\n", at, s,
                         in_fish_quotes(find(all, c.path + " " + s)->description));
    }
    for (const OptionEntry& o : c.options) {
      std::string line = at;
      for (const std::string& n : o.names) {
        line += n.starts_with("--") ? " -l " + n.substr(2) : " -s " + n.substr(1);
      }
      const std::string choices = fmt::format("{}", fmt::join(o.choices, " "));
      if (!o.positional.empty()) {
        if (!o.choices.empty()) out += fmt::format("{} -f -a {}\n", at, in_quotes(choices));
        continue;
      }
      if (o.takes_value) line += o.choices.empty() ? " -r" : " -x -a " + in_quotes(choices);
      out += fmt::format("{} -d {}\n", line, in_fish_quotes(o.description));
    }
  }
  return out;
}

}  // namespace

std::string completions(const CLI::App& app, Shell shell) {
  const auto all = command_tree(app);
  switch (shell) {
    case Shell::bash: return for_bash(all);
    case Shell::zsh: return for_zsh(all);
    case Shell::fish: return for_fish(all);
  }
  return {};
}

}  // namespace fairsale::cli
