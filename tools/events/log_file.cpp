#include "tools/events/log_file.hpp"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <unordered_set>
#include <utility>

#include "core/engine/recovery.hpp"
#include "core/log/data_directory.hpp"
#include "core/log/files.hpp"
#include "core/log/rocks_log.hpp"
#include "tools/cli.hpp"
#include "tools/events/event_json.hpp"
#include "tools/store/fresh_directory.hpp"
#include "tools/store/progress.hpp"
#include "tools/store/store.hpp"

namespace fairsale::cli {

namespace fs = std::filesystem;

namespace {

// What is committed together: few syncs, little memory.
constexpr std::size_t kBatchBytes = std::size_t{8} << 20;
constexpr std::size_t kBatchBlocks = 1000;

Result<FileEnd> export_log(const EventLog& log, const SkuHead& sku, Output& out) {
  auto name = sale_name(log, sku.sku);
  if (!name) return tl::unexpected(name.error());
  append_line(
      out.text(),
      SaleStart{
          .id = sku.sku, .name = std::move(*name), .seq = sku.head.seq, .head = sku.head.digest});
  FileEnd counts{.sales = 1};
  Digest last;
  std::optional<Error> error;
  const auto read = log.read(sku.sku, Seq{1}, [&](const BlockView& block) {
    const BlockHeader& h = block.header();
    append_line(out.text(), BlockStart{.first = h.first,
                                       .events = h.count,
                                       .time = h.time,
                                       .epoch = h.epoch,
                                       .head = block.digest()});
    const auto decoded =
        block.for_each([&](Seq seq, const Event& event) { append_line(out.text(), seq, event); });
    const auto written = decoded ? out.pass() : decoded;
    if (!written) {
      error = written.error();
      return false;
    }
    ++counts.blocks;
    counts.events += h.count;
    last = block.digest();
    return block.last() < sku.head.seq;
  });
  if (!read) return tl::unexpected(read.error());
  if (error) return tl::unexpected(*error);
  if (counts.events != sku.head.seq.value || last != sku.head.digest) {
    return fail(Fault::damaged, fmt::format("SKU {:016x}: its log does not lead to its head, at {}",
                                            sku.sku.value, sku.head.seq.value));
  }
  return counts;
}

// The lines of a file, one by one.
class Lines {
 public:
  explicit Lines(std::FILE* file) : file_(file) {}

  // The next line without its end, nothing at the end of the file. One that is too long is cut
  // behind the bound, so that the reader of lines refuses it. Valid until the next call.
  Result<std::optional<std::string_view>> next() {
    line_.clear();
    int c = EOF;
    while ((c = ::getc_unlocked(file_)) != EOF && c != '\n') {
      line_ += static_cast<char>(c);
      if (line_.size() > kMaxLineBytes) break;
    }
    if (std::ferror(file_) != 0) {
      return fail(Fault::io, fmt::format("cannot be read: {}", std::strerror(errno)));
    }
    if (c == EOF && line_.empty()) return std::nullopt;
    ++number_;
    bytes_ += line_.size() + 1;
    return std::string_view(line_);
  }

  std::uint64_t number() const { return number_; }
  std::uint64_t bytes() const { return bytes_; }

 private:
  std::FILE* file_;
  std::string line_;
  std::uint64_t number_ = 0;
  std::uint64_t bytes_ = 0;
};

tl::unexpected<Error> refuse(std::string what) { return fail(Fault::damaged, std::move(what)); }

// Puts lines together into blocks and commits them.
class Importer {
 public:
  explicit Importer(EventLog& log) : log_(log) {}

  Result<void> take(const Line& line) {
    if (ended_) return refuse("nothing may follow the last line");
    if (!started_ && !std::holds_alternative<FileStart>(line)) {
      return refuse(R"(the file must begin with its "format" line)");
    }
    return std::visit([this](const auto& l) { return take(l); }, line);
  }

  // The file has come to its end.
  Result<void> finish() {
    if (!ended_) return refuse(R"(the file is cut off: its "end" line is missing)");
    return commit();
  }

 private:
  Result<void> take(const FileStart&) {
    if (started_) return refuse("a second \"format\" line; give one file at a time");
    started_ = true;
    return {};
  }

  Result<void> take(const SaleStart& s) {
    if (auto ok = between_sales(); !ok) return ok;
    if (!sales_.insert(s.id.value).second) {
      return refuse(fmt::format("the sale {} is given twice; keep one", id_text(s.id)));
    }
    sale_ = s;
    head_ = {};
    ++counts_.sales;
    return {};
  }

  Result<void> take(const BlockStart& b) {
    if (block_) {
      return refuse(fmt::format("the event at {} should come here", next_event()));
    }
    if (!sale_ || head_.seq == sale_->seq) {
      return refuse("a \"sale\" or the \"end\" line should come here");
    }
    if (b.first.value != head_.seq.value + 1) {
      return refuse(fmt::format("the block at {} should come here", head_.seq.value + 1));
    }
    if (b.events > sale_->seq.value - head_.seq.value) {
      return refuse(fmt::format("the block goes beyond the sale's end, which is stated as {}",
                                sale_->seq.value));
    }
    if (b.time < head_.time) return refuse("\"time\" is before that of the block before");
    block_ = b;
    builder_.begin(sale_->id, head_, b.time, b.epoch);
    return {};
  }

  Result<void> take(const EventLine& e) {
    if (!block_) return refuse("a \"block\" line should come here");
    if (e.seq.value != next_event()) {
      return refuse(fmt::format("the event at {} should come here", next_event()));
    }
    if (!builder_.add(e.event)) {
      return refuse(
          fmt::format("the block at {} holds more than a block may have", block_->first.value));
    }
    if (builder_.count() < block_->events) return {};

    Head after;
    const auto bytes = builder_.finish(after);
    if (after.digest != block_->head) {
      return refuse(fmt::format(
          "the block at {} ends here with the head {}, not with {} as stated: something in it was "
          "changed; export it again",
          block_->first.value, to_hex(after.digest), to_hex(block_->head)));
    }
    if (after.seq == sale_->seq && after.digest != sale_->head) {
      return refuse(fmt::format("the sale ends here with the head {}, not with {} as stated",
                                to_hex(after.digest), to_hex(sale_->head)));
    }
    pending_.emplace_back(bytes.begin(), bytes.end());
    pending_bytes_ += bytes.size();
    writes_.push_back({sale_->id, block_->first, after, pending_.back()});
    ++counts_.blocks;
    counts_.events += block_->events;
    head_ = after;
    block_.reset();
    if (pending_bytes_ < kBatchBytes && pending_.size() < kBatchBlocks) return {};
    return commit();
  }

  Result<void> take(const FileEnd& e) {
    if (auto ok = between_sales(); !ok) return ok;
    if (e.sales != counts_.sales || e.blocks != counts_.blocks || e.events != counts_.events) {
      return refuse(
          fmt::format("the file has {} sales, {} blocks and {} events, not as many as "
                      "its last line states: lines are missing or were added",
                      counts_.sales, counts_.blocks, counts_.events));
    }
    ended_ = true;
    return {};
  }

  Result<void> between_sales() const {
    if (block_) return refuse(fmt::format("the event at {} should come here", next_event()));
    if (sale_ && head_.seq != sale_->seq) {
      return refuse(
          fmt::format("the block at {} should come here: the sale is stated to go on to "
                      "{}",
                      head_.seq.value + 1, sale_->seq.value));
    }
    return {};
  }

  std::uint64_t next_event() const { return block_->first.value + builder_.count(); }

  Result<void> commit() {
    if (writes_.empty()) return {};
    auto ok = log_.append(writes_);
    writes_.clear();
    pending_.clear();
    pending_bytes_ = 0;
    return ok;
  }

  EventLog& log_;
  BlockBuilder builder_;
  bool started_ = false;
  bool ended_ = false;
  std::optional<SaleStart> sale_;
  Head head_;  // of the sale's last whole block
  std::optional<BlockStart> block_;
  FileEnd counts_;
  std::unordered_set<std::uint64_t> sales_;
  std::vector<std::vector<std::byte>> pending_;
  std::vector<BlockWrite> writes_;
  std::size_t pending_bytes_ = 0;
};

// Folds what was imported: a log that is whole can still be of another SKU than it says.
Result<std::vector<ImportedSale>> fold_all(const EventLog& log) {
  const auto heads = log.heads();
  if (!heads) return tl::unexpected(heads.error());
  std::vector<ImportedSale> sales;
  for (const SkuHead& h : *heads) {
    const auto folded = fold(log, h, FoldFrom::start, nullptr);
    if (!folded) return tl::unexpected(folded.error());
    sales.push_back(
        {.sku = folded->sale.exists() ? std::string(folded->sale.sku()) : id_text(h.sku),
         .head = folded->head,
         .state = state_digest(folded->sale)});
  }
  return sales;
}

Result<std::vector<ImportedSale>> import_into(const fs::path& directory, std::FILE* in,
                                              const std::string& name) {
  RecoveryReport report;
  auto log = open_rocks_log({.directory = directory}, report);
  if (!log) return tl::unexpected(log.error());
  struct stat st {};
  const bool sized = ::fstat(::fileno(in), &st) == 0 && S_ISREG(st.st_mode);
  Progress progress("bytes", sized ? static_cast<std::uint64_t>(st.st_size) : 0);
  Importer importer(**log);
  Lines lines(in);
  LineReader reader;
  std::uint64_t reported = 0;
  for (;;) {
    if (interrupted != 0) return fail(Fault::io, "interrupted; nothing was imported");
    const auto text = lines.next();
    if (!text) {
      return fail(text.error().fault, fmt::format("{} {}", name, text.error().message));
    }
    if (!*text) break;
    const auto line = reader.read(**text);
    const auto taken = line ? importer.take(*line) : tl::unexpected(line.error());
    if (!taken) {
      return fail(taken.error().fault,
                  fmt::format("{}, line {}: {}", name, lines.number(), taken.error().message));
    }
    if (lines.number() % 1024 == 0) {
      progress.add(lines.bytes() - reported);
      reported = lines.bytes();
    }
  }
  if (auto ok = importer.finish(); !ok) {
    return fail(ok.error().fault,
                fmt::format("{}, line {}: {}", name, lines.number() + 1, ok.error().message));
  }
  auto sales = fold_all(**log);
  if (!sales) return fail(sales.error().fault, fmt::format("{}: {}", name, sales.error().message));
  (*log)->settle();
  return sales;
}

}  // namespace

Result<void> export_logs(const EventLog& log, std::span<const SkuHead> heads, Output& out) {
  std::uint64_t total = 0;
  for (const SkuHead& h : heads) total += h.head.seq.value;
  Progress progress("events", total);
  append_line(out.text(), FileStart{});
  FileEnd counts;
  for (const SkuHead& h : heads) {
    const auto one = export_log(log, h, out);
    if (!one) return tl::unexpected(one.error());
    counts.sales += one->sales;
    counts.blocks += one->blocks;
    counts.events += one->events;
    progress.add(one->events);
  }
  append_line(out.text(), counts);
  return out.flush();
}

Result<std::vector<ImportedSale>> import_logs(std::FILE* in, const std::string& name,
                                              const fs::path& directory) {
  std::error_code ec;
  const fs::path target = directory_path(directory.string());
  if (fs::exists(target, ec) && (!fs::is_directory(target, ec) || !fs::is_empty(target, ec))) {
    return fail(Fault::invalid,
                fmt::format("{} is not empty; a log is imported into an empty or a new directory",
                            directory.string()));
  }
  auto beside = FreshDirectory::beside(target, "importing");
  if (!beside) return tl::unexpected(beside.error());
  if (auto ok = ensure_directory(beside->path()); !ok) return tl::unexpected(ok.error());
  auto sales = import_into(beside->path(), in, name);
  if (!sales) return sales;
  if (auto ok = beside->move_to(target); !ok) return tl::unexpected(ok.error());
  return sales;
}

}  // namespace fairsale::cli
