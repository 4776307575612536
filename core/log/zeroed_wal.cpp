#include "core/log/zeroed_wal.hpp"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

namespace fairsale {

namespace {

constexpr std::uint64_t kStep = std::uint64_t{1} << 20;

const std::string& zeros() {
  static const std::string all(kStep, '\0');
  return all;
}

class ZeroedFile final : public rocksdb::FSWritableFileOwnerWrapper {
 public:
  using FSWritableFileOwnerWrapper::FSWritableFileOwnerWrapper;

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* context) override {
    make_room(data.size(), options, context);
    return count(FSWritableFileOwnerWrapper::Append(data, options, context), data.size());
  }

  rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                           const rocksdb::DataVerificationInfo& check,
                           rocksdb::IODebugContext* context) override {
    make_room(data.size(), options, context);
    return count(FSWritableFileOwnerWrapper::Append(data, options, check, context), data.size());
  }

  rocksdb::IOStatus Truncate(std::uint64_t size, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* context) override {
    size_ = size;
    zeroed_ = std::min(zeroed_, size);
    return FSWritableFileOwnerWrapper::Truncate(size, options, context);
  }

  rocksdb::IOStatus Close(const rocksdb::IOOptions& options,
                          rocksdb::IODebugContext* context) override {
    // The base file counts the zeros as its own.
    if (auto s = Truncate(size_, options, context); !s.ok()) return s;
    return FSWritableFileOwnerWrapper::Close(options, context);
  }

  std::uint64_t GetFileSize(const rocksdb::IOOptions&, rocksdb::IODebugContext*) override {
    return size_;
  }

 private:
  // Appending moves the file's own offset, which writing at a position leaves alone.
  void make_room(std::size_t bytes, const rocksdb::IOOptions& options,
                 rocksdb::IODebugContext* context) {
    while (!full_ && size_ + bytes > zeroed_) {
      const std::uint64_t from = std::max(zeroed_, size_);
      // Room ahead is a convenience: without it (a full disk, say) the append decides.
      full_ = !target()->PositionedAppend(zeros(), from, options, context).ok();
      if (!full_) zeroed_ = from + kStep;
    }
  }

  rocksdb::IOStatus count(rocksdb::IOStatus s, std::size_t bytes) {
    if (s.ok()) size_ += bytes;
    return s;
  }

  std::uint64_t size_ = 0;    // appended
  std::uint64_t zeroed_ = 0;  // where the zeros end, when that is further
  bool full_ = false;
};

class ZeroedWal final : public rocksdb::FileSystemWrapper {
 public:
  using FileSystemWrapper::FileSystemWrapper;

  const char* Name() const override { return "fairsale.ZeroedWal"; }

  rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                    std::unique_ptr<rocksdb::FSWritableFile>* out,
                                    rocksdb::IODebugContext* context) override {
    auto s = FileSystemWrapper::NewWritableFile(name, options, out, context);
    if (s.ok() && std::string_view(name).ends_with(".log")) {
      *out = std::make_unique<ZeroedFile>(std::move(*out));
    }
    return s;
  }
};

}  // namespace

std::shared_ptr<rocksdb::FileSystem> with_zeroed_wal(std::shared_ptr<rocksdb::FileSystem> base) {
  return std::make_shared<ZeroedWal>(std::move(base));
}

}  // namespace fairsale
