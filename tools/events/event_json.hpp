// Events as JSON, and the lines of an exported log. docs/log-format.md, "JSON Lines", is the
// grammar. Lossless: what is written reads back as the same event, byte for byte in the log.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "core/domain/event.hpp"
#include "core/json/json.hpp"
#include "core/log/block.hpp"
#include "core/log/result.hpp"

namespace fairsale::cli {

// Into an open object: "event":"PurchaseAttempted" and the event's fields.
void append_event(JsonWriter&, const Event&);

// "PurchaseAttempted customer=anna quantity=1 key=…": the same fields in the same words, for
// people. Texts with a space, a quote or anything that is not plain ASCII stand in quotes, as in
// JSON.
void append_event_text(std::string& out, const Event&);

// 16 hexadecimal digits.
std::string id_text(SkuId);

// The version of the lines, and the only one that is read.
inline constexpr std::uint64_t kLinesVersion = 1;

// The most bytes that a line has, its end aside. A reader refuses more.
inline constexpr std::size_t kMaxLineBytes = 8192;

// The first line: what this is.
struct FileStart {};

// A sale's log begins: its blocks follow.
struct SaleStart {
  SkuId id;
  std::string name;  // empty when the log does not tell it
  Seq seq;           // where it ends, as exported
  Digest head;
};

// A block begins: its events follow.
struct BlockStart {
  Seq first;
  std::uint32_t events = 0;
  Timestamp time;
  Epoch epoch;
  Digest head;  // the digest of this block
};

struct EventLine {
  Seq seq;
  Event event;
};

// The last line. Without it the file was cut off.
struct FileEnd {
  std::uint64_t sales = 0;
  std::uint64_t blocks = 0;
  std::uint64_t events = 0;
};

using Line = std::variant<FileStart, SaleStart, BlockStart, EventLine, FileEnd>;

// Each appends one line with its end.
void append_line(std::string& out, const FileStart&);
void append_line(std::string& out, const SaleStart&);
void append_line(std::string& out, const BlockStart&);
void append_line(std::string& out, Seq, const Event&);
void append_line(std::string& out, const FileEnd&);

// Not thread-safe; reuses its memory.
class LineReader {
 public:
  LineReader();
  ~LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;

  // Reads one line (without its end), which must be complete: no member missing, unknown or given
  // twice, every value one that a log can hold. Fails with damaged, or with unsupported when a
  // newer version wrote it; the message says what would be right.
  Result<Line> read(std::string_view line);

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace fairsale::cli
