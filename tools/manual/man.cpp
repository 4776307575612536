#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <string_view>
#include <utility>

#include "tools/manual/manual.hpp"
#include "tools/manual/tree.hpp"

namespace fairsale::cli {

namespace {

// What the app does not tell by itself.
constexpr std::string_view kRest = R"(.SH EXIT STATUS
.TP
.B 0
All is well.
.TP
.B 1
A check failed, or stored bytes are damaged; standard error names where.
.TP
.B 2
Wrong usage.
.TP
.B 3
A file, the network or the server failed, or there is no such sale.
.SH FILES
A data directory, as
.B fairsaled \-\-data
names it, or a copy of one:
.TP
.I DIR/log/
The log: a RocksDB database.
.TP
.I DIR/ACKED
What was acknowledged last.
.TP
.I DIR/snapshots/
States, so that a start is quick; may always be deleted.
.TP
.I DIR/torn\-*.bin
What was cut off the end of the log after a crash; may be deleted.
.SH EXAMPLES
What became of a purchase, and why:
.PP
.EX
fairsale log show data \-\-purchase tour\-2027:2 \-\-decisions
.EE
.PP
A log out of one store and into another, and whether they are the same:
.PP
.EX
fairsale log export data > log.jsonl
fairsale log import log.jsonl copy
fairsale diff data copy
.EE
.PP
Completion in bash:
.PP
.EX
source <(fairsale completions bash)
.EE
)";

// The code point at the start of UTF-8 text, and how many bytes it takes.
std::pair<std::uint32_t, std::size_t> code_point(std::string_view s) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  const std::size_t length = byte(0) < 0xe0 ? 2 : byte(0) < 0xf0 ? 3 : 4;
  if (s.size() < length) return {'?', s.size()};
  std::uint32_t code = byte(0) & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) code = code << 6 | (byte(i) & 0x3fU);
  return {code, length};
}

// Text as roff shows it, whatever the locale. A line must not begin with a control character.
std::string text(std::string_view s, bool at_line_start = true) {
  std::string out;
  bool start = at_line_start;
  for (std::size_t i = 0; i < s.size(); ++i) {
    const char c = s[i];
    if (start && (c == '.' || c == '\'')) out += "\\&";
    start = c == '\n';
    switch (c) {
      case '\\': out += "\\e"; break;
      case '-': out += "\\-"; break;
      case '\'': out += "\\(aq"; break;
      case '`': out += "\\(ga"; break;
      case '^': out += "\\(ha"; break;
      case '~': out += "\\(ti"; break;
      case ',': out += ",\\:"; break;  // a long list may be broken here
      default:
        if (static_cast<unsigned char>(c) < 0x80) {
          out += c;
        } else {
          const auto [code, length] = code_point(s.substr(i));
          out += fmt::format("\\[u{:04X}]", code);
          i += length - 1;
        }
    }
  }
  return out;
}

std::string upper(std::string_view s) {
  std::string out(s);
  for (char& c : out) {
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
  }
  return out;
}

std::string usage(const CommandEntry& c) {
  std::string out = fmt::format(".B {}\n", text(c.path));
  bool options = false;
  for (const OptionEntry& o : c.options) options |= o.positional.empty();
  if (options) out += "[\\fIOPTION\\fR]...\n";
  for (const OptionEntry& o : c.options) {
    if (!o.positional.empty()) out += fmt::format("\\fI{}\\fR\n", text(upper(o.positional)));
  }
  if (!c.commands.empty()) out += "\\fICOMMAND\\fR ...\n";
  return out;
}

std::string option(const OptionEntry& o) {
  std::string out = ".TP\n";
  if (!o.positional.empty()) {
    out += fmt::format("\\fI{}\\fR", text(upper(o.positional)));
  } else {
    std::string names;
    for (const std::string& n : o.names) {
      names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ", text(n, false));
    }
    out += names;
    if (!o.type.empty()) out += fmt::format(" \\fI{}\\fR", text(o.type, false));
  }
  out += '\n';
  out += text(o.description);
  if (!o.default_value.empty()) out += fmt::format(" [{}]", text(o.default_value, false));
  if (o.required && o.positional.empty()) out += " (required)";
  return out + ".\n";
}

}  // namespace

std::string man_page(const CLI::App& app, const std::string& version) {
  const auto all = command_tree(app);
  const CommandEntry& top = all.front();
  const std::size_t colon = top.description.find(": ");
  const std::string summary =
      colon == std::string::npos ? top.description : top.description.substr(colon + 2);

  std::string out = fmt::format(".TH {} 1 \"\" \"{} {}\" \"User Commands\"\n.nh\n.ad l\n",
                                upper(top.name), text(top.name), text(version, false));
  out += fmt::format(".SH NAME\n{} \\- {}\n.SH SYNOPSIS\n", text(top.name), text(summary, false));
  bool first = true;
  for (const CommandEntry& c : all) {
    if (!c.commands.empty()) continue;
    if (!first) out += ".br\n";
    first = false;
    out += usage(c);
  }
  out += fmt::format(
      ".SH DESCRIPTION\n{}\n.PP\nData goes to standard output, messages to standard error.\n"
      ".SH OPTIONS\n",
      text(summary));
  for (const OptionEntry& o : top.options) out += option(o);
  out += ".SH COMMANDS\n";
  for (std::size_t i = 1; i < all.size(); ++i) {
    const CommandEntry& c = all[i];
    out += fmt::format(".SS {}\n{}.\n.PP\n{}", text(c.path), text(c.description), usage(c));
    for (const OptionEntry& o : c.options) out += option(o);
    if (!c.footer.empty()) out += fmt::format(".PP\n.EX\n{}\n.EE\n", text(c.footer));
  }
  out += kRest;
  return out;
}

}  // namespace fairsale::cli
