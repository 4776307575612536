// Exported logs: JSON Lines as `fairsale log import` reads them. A line that is accepted has one
// canonical form that reads back as the same; a file that is imported is exported again as its
// canonical lines.
#include <array>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>

#include "core/domain/sale.hpp"
#include "core/log/memory_log.hpp"
#include "core/log/rocks_log.hpp"
#include "tests/fuzz/target.hpp"
#include "tools/events/event_json.hpp"
#include "tools/events/log_file.hpp"

namespace fairsale::fuzz {

namespace fs = std::filesystem;
using namespace cli;

namespace {

std::string encoded(const Event& e) {
  std::array<std::byte, kLargestEventBytes> bytes;
  EventEncoder encoder;
  return std::string(text_of(bytes).substr(0, encoder.encode(e, bytes.data())));
}

std::string line_of(const Line& line) {
  std::string out;
  std::visit(
      [&](const auto& l) {
        if constexpr (requires { l.event; }) {
          append_line(out, l.seq, l.event);
        } else {
          append_line(out, l);
        }
      },
      line);
  return out;
}

void judge_event(const EventLine& line, LineReader& reader) {
  expect(well_formed(line.event), "an accepted event can be in a log");
  const auto again = reader.read(line_of(line));
  expect(again.has_value(), "what was read can be written", line_of(line));
  const auto* e = std::get_if<EventLine>(&*again);
  expect(e != nullptr && e->seq == line.seq && encoded(e->event) == encoded(line.event),
         "and reads back as the same event", line_of(line));
  std::string words;
  append_event_text(words, line.event);
  expect(words.find('\n') == std::string::npos, "nobody's text begins a line", words);
}

// The events of a file, folded as an import does at its end.
class Folder final : public DecisionSink {
 public:
  void apply(const Event& e) {
    sale_.apply(Seq{sale_.seq().value + 1}, Timestamp{1'700'000'000'000}, e, *this);
  }
  void on(const Decision&) override {
    const Counters& c = sale_.counters();
    expect(std::uint64_t{c.available.value} + c.held.value + c.sold.value == c.stocked.value,
           "available + held + sold is the stock");
  }
  void finish() const {
    const auto wrong = sale_.check();
    expect(!wrong, "any events leave a sound sale", wrong.value_or(""));
  }

 private:
  Sale sale_;
};

// The canonical form of the lines, or nothing when one is refused.
std::optional<std::string> judge_lines(std::string_view text) {
  LineReader reader;
  Folder folder;
  std::string canonical;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const auto line = reader.read(text.substr(0, end));
    if (!line) {
      expect(!line.error().message.empty(), "a refusal says why");
      return std::nullopt;
    }
    text.remove_prefix(std::min(end + 1, text.size()));
    const std::string once = line_of(*line);
    expect(once.size() <= kMaxLineBytes + 1, "no line is longer than a reader allows");
    if (const auto* e = std::get_if<EventLine>(&*line)) {
      judge_event(*e, reader);
      folder.apply(e->event);
    }
    const auto again = reader.read(std::string_view(once).substr(0, once.size() - 1));
    expect(again && line_of(*again) == once, "a line has one canonical form", once);
    canonical += once;
  }
  folder.finish();
  return canonical;
}

std::string exported(const EventLog& log) {
  const auto heads = log.heads();
  expect(heads.has_value(), "a log tells its heads");
  char* text = nullptr;
  std::size_t size = 0;
  std::FILE* const out = ::open_memstream(&text, &size);
  Output output(out);
  expect(export_logs(log, *heads, output).has_value(), "a sound log can be exported");
  std::fclose(out);
  const std::unique_ptr<char, void (*)(void*)> owner(text, std::free);
  return {text, size};
}

void judge_file(std::string canonical) {
  static const Directory directory;
  const std::string target = directory.path() + "/log";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> in(
      ::fmemopen(canonical.data(), canonical.size(), "r"), &std::fclose);
  const auto imported = import_logs(in.get(), "input", target);
  if (!imported) return expect(!fs::exists(target), "what is refused leaves nothing");
  {
    RecoveryReport report;
    const auto log = open_rocks_log({.directory = target}, report);
    expect(log.has_value(), "what was imported opens");
    // Sales are exported by their ids, so only a file of one is sure to be in that order.
    const std::string back = exported(**log);
    if (imported->size() == 1) expect(back == canonical, "what was imported is what it was", back);
  }
  fs::remove_all(target);
}

}  // namespace

void judge(std::string_view input) {
  const auto canonical = judge_lines(input);
  if (canonical && canonical->starts_with(R"({"format")")) judge_file(*canonical);
}

std::vector<std::string> seeds() {
  std::vector<std::string> out;
  std::string events;
  for (const std::string& line : golden_lines("tests/tools/golden/log_v1.jsonl")) {
    out.push_back(line);
    if (line.starts_with(R"({"seq")")) events += line + '\n';
  }
  out.push_back(events);

  std::unique_ptr<MemoryLog> log;
  const auto finish = [&] {
    if (log) out.push_back(exported(*log));
    log = std::make_unique<MemoryLog>();
  };
  for (const std::string& line : golden_lines("tests/log/golden/sales_v1.txt")) {
    if (line.starts_with("sale ")) finish();
    if (!line.starts_with("block ")) continue;
    const std::string bytes = from_hex(line.substr(6));
    const auto block = BlockView::parse(bytes_of(bytes));
    expect(block.has_value(), "the golden blocks are sound");
    const BlockHeader& h = block->header();
    const BlockWrite write{
        h.sku, h.first, {block->last(), h.time, block->digest()}, block->bytes()};
    expect(log->append({&write, 1}).has_value(), "and make a log");
  }
  finish();
  return out;
}

}  // namespace fairsale::fuzz
