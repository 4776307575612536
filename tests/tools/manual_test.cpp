// What the command line tells about itself, from an app with all that can go wrong in a script.
#include "tools/manual/manual.hpp"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <string>

namespace fairsale::cli {
namespace {

class Manual : public ::testing::Test {
 protected:
  Manual() {
    app.name("shop");
    CLI::App* sell = app.add_subcommand("sell", "Sells what's \"there\": `all` of it");
    sell->add_option("-c,--colour", text, ".dots and \\ come first")
        ->check(CLI::IsMember({"red", "blue"}));
    sell->add_option("--file", text, "it's 100 … percent")->required();
    sell->add_flag("--now", flag, "no value");
    sell->add_option("what", text, "");
    sell->footer(".Example: -x");
    CLI::App* store = app.add_subcommand("store", "The store");
    store->add_subcommand("open", "Opens it");
    store->add_subcommand("shut", "Shuts it");
    app.add_subcommand("hidden", "Not for all")->group("");
  }
  CLI::App app{"shop: sells things."};
  std::string text;
  bool flag = false;
};

TEST_F(Manual, every_command_and_option_is_completed) {
  for (const Shell shell : {Shell::bash, Shell::zsh, Shell::fish}) {
    const std::string script = completions(app, shell);
    for (const char* word :
         {"sell", "store", "open", "shut", "colour", "file", "now", "red", "blue", "help"}) {
      EXPECT_NE(script.find(word), std::string::npos) << word;
    }
    EXPECT_EQ(script.find("hidden"), std::string::npos);
  }
  const std::string bash = completions(app, Shell::bash);
  EXPECT_NE(bash.find("'shop sell --colour') words='red blue'; value=1"), std::string::npos);
  EXPECT_NE(bash.find("'shop store') options='-h --help' words='open shut'"), std::string::npos);
  EXPECT_EQ(bash.find("'shop sell --now') words"), std::string::npos);
  EXPECT_NE(completions(app, Shell::zsh).find(R"('--file:it'\''s 100)"), std::string::npos);
  EXPECT_NE(completions(app, Shell::fish).find(R"(-l file -r -d 'it\'s 100)"), std::string::npos);
}

TEST_F(Manual, the_page_has_every_command_and_nothing_that_roff_takes_for_its_own) {
  const std::string page = man_page(app, "1.2.3");
  EXPECT_TRUE(page.starts_with(".TH SHOP 1 \"\" \"shop 1.2.3\" \"User Commands\"\n"));
  for (const char* part :
       {"\n.SH NAME\nshop \\- sells things.\n", "\n.SH SYNOPSIS\n", "\n.SH OPTIONS\n",
        "\n.SH COMMANDS\n", "\n.SH EXIT STATUS\n", "\n.SH FILES\n", "\n.SH EXAMPLES\n",
        "\n.SS shop sell\n", "\n.SS shop store open\n",
        "\\fB\\-\\-colour\\fR \\fI{red,\\:blue}\\fR", "\n\\&.dots and \\e come first.\n",
        "it\\(aqs 100 \\[u2026] percent (required).", "\\&.Example: \\-x"}) {
    EXPECT_NE(page.find(part), std::string::npos) << part << "\n" << page;
  }
  EXPECT_EQ(page.find("hidden"), std::string::npos);
  for (const char c : page) EXPECT_LT(static_cast<unsigned char>(c), 0x80);
}

}  // namespace
}  // namespace fairsale::cli
