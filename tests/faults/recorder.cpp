#include "tests/faults/recorder.hpp"

#include <dlfcn.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <utility>

namespace fairsale::faults {

namespace fs = std::filesystem;

using Kind = Operation::Kind;

std::string_view name_of(Call c) {
  switch (c) {
    case Call::open: return "open";
    case Call::read: return "read";
    case Call::write: return "write";
    case Call::resize: return "resize";
    case Call::rename: return "rename";
    case Call::sync: return "sync";
  }
  return "?";
}

struct Recorder::Impl {
  Impl(fs::path r, Disk& d) : root(r.string()), disk(d) {
    // Where every name is by now.
    for (const auto& [id, node] : d.start.nodes) {
      if (node.directory) names[id] = node.names;
      next = std::max(next, id + 1);
    }
    for (const Operation& o : d.operations) {
      note_names(o);
      next = std::max(next, o.node + 1);
    }
  }

  struct Place {
    NodeId directory = kRoot;
    std::string name;            // empty: the root itself
    std::string path;            // relative to the root
    std::optional<NodeId> node;  // what lies there
  };

  struct OpenFile {
    NodeId node;
    std::string path;
  };

  // Nothing for what does not lie under the root.
  std::optional<Place> place(const char* path) const {
    std::string_view p(path);
    if (!p.starts_with(root)) return std::nullopt;
    p.remove_prefix(root.size());
    if (!p.empty() && p[0] != '/') return std::nullopt;
    Place at;
    at.node = kRoot;
    while (!p.empty()) {
      const std::size_t slash = p.find('/');
      const std::string name(p.substr(0, slash));
      p = slash == std::string_view::npos ? std::string_view() : p.substr(slash + 1);
      if (name.empty() || name == ".") continue;
      if (!at.node || names.count(*at.node) == 0) return std::nullopt;  // the call will fail
      at.directory = *at.node;
      at.name = name;
      at.path += at.path.empty() ? name : "/" + name;
      const auto& here = names.at(at.directory);
      const auto found = here.find(name);
      at.node = found == here.end() ? std::nullopt : std::optional(found->second);
    }
    return at;
  }

  void note_names(const Operation& o) {
    switch (o.kind) {
      case Kind::create_directory: names[o.node]; [[fallthrough]];
      case Kind::create_file: names[o.directory][o.name] = o.node; break;
      case Kind::rename:
        names[o.directory].erase(o.name);
        names[o.directory][o.new_name] = o.node;
        break;
      case Kind::remove: names[o.directory].erase(o.name); break;
      default: break;
    }
  }

  void record(Operation o) {
    note_names(o);
    disk.operations.push_back(std::move(o));
  }

  bool fails(Call call, const std::string& path, bool room_ahead = false) {
    ++counts[static_cast<std::size_t>(call)];
    if (!failure || failure->call != call || (failure->of && !failure->of(path))) return false;
    if (failure->after > 0) {
      --failure->after;
      return false;
    }
    errno = failure->error;
    failed.push_back({disk.operations.size(), call, path, room_ahead, std::this_thread::get_id()});
    if (!failure->lasting) failure.reset();
    return true;
  }

  void write(const OpenFile& file, std::uint64_t offset, const void* bytes, std::size_t size) {
    record({.kind = Kind::write,
            .node = file.node,
            .name = {},
            .new_name = {},
            .offset = offset,
            .bytes = std::make_shared<const std::string>(static_cast<const char*>(bytes), size)});
  }

  void resize(NodeId node, std::uint64_t size) {
    record({.kind = Kind::resize,
            .node = node,
            .name = {},
            .new_name = {},
            .offset = size,
            .bytes = {}});
  }

  const OpenFile* file(int fd) const {
    const auto found = open_files.find(fd);
    return found == open_files.end() ? nullptr : &found->second;
  }

  mutable std::mutex mutex;
  const std::string root;
  Disk& disk;
  NodeId next = 1;
  std::map<NodeId, std::map<std::string, NodeId>> names;  // in each directory
  std::unordered_map<int, OpenFile> open_files;
  std::optional<Failure> failure;
  bool filled = false;  // a full disk has taken its last part
  std::vector<Failed> failed;
  std::array<std::uint64_t, std::size(kCalls)> counts{};
};

namespace {

std::mutex active_mutex;
std::atomic<Recorder::Impl*> active{nullptr};

// The recorder, locked, if there is one.
class Active {
 public:
  Active() {
    if (active.load() == nullptr) return;
    lock_ = std::unique_lock(active_mutex);
    impl_ = active.load();
  }
  explicit operator bool() const { return impl_ != nullptr; }
  Recorder::Impl* operator->() const { return impl_; }

 private:
  std::unique_lock<std::mutex> lock_;
  Recorder::Impl* impl_ = nullptr;
};

[[noreturn]] void not_modelled(const char* what, const char* path) {
  fprintf(stderr, "the recorder does not know what to do about %s of %s\n", what, path);
  std::abort();
}

bool only_zeros(const void* bytes, std::size_t size) {
  const char* p = static_cast<const char*>(bytes);
  return size > 0 && p[0] == 0 && std::memcmp(p, p + 1, size - 1) == 0;
}

int open_at(int directory, const char* path, int flags, mode_t mode) {
  const auto system = [&] {
    return static_cast<int>(::syscall(SYS_openat, directory, path, flags, mode));
  };
  const Active recorder;
  const auto place = recorder ? recorder->place(path) : std::nullopt;
  if (place && recorder->fails(Call::open, place->path)) return -1;
  const int fd = system();
  if (!recorder || fd < 0) return fd;
  recorder->open_files.erase(fd);
  if (!place) return fd;
  NodeId node = 0;
  if (place->node) {
    node = *place->node;
    if ((flags & O_TRUNC) != 0) recorder->resize(node, 0);
  } else {
    node = recorder->next++;
    recorder->record({.kind = Kind::create_file,
                      .node = node,
                      .directory = place->directory,
                      .name = place->name,
                      .new_name = {},
                      .bytes = {}});
  }
  recorder->open_files[fd] = {node, place->path};
  return fd;
}

// As much of a write as is to be made. A full disk takes a part before it takes no more.
std::optional<std::size_t> allowed(const Active& recorder, const Recorder::Impl::OpenFile& file,
                                   const void* bytes, std::size_t size) {
  auto& failure = recorder->failure;
  const bool full = failure && failure->call == Call::write && failure->error == ENOSPC &&
                    failure->after == 0 && (!failure->of || failure->of(file.path));
  if (full && size > 1 && !std::exchange(recorder->filled, true)) return size / 2;
  if (recorder->fails(Call::write, file.path, only_zeros(bytes, size))) return std::nullopt;
  return size;
}

int sync(int fd, long number) {
  const Active recorder;
  const auto* file = recorder ? recorder->file(fd) : nullptr;
  if (file == nullptr) return static_cast<int>(::syscall(number, fd));
  const bool fails = recorder->fails(Call::sync, file->path);
  recorder->record({.kind = fails ? Kind::failed_sync : Kind::sync,
                    .node = file->node,
                    .name = {},
                    .new_name = {},
                    .bytes = {}});
  return fails ? -1 : 0;
}

int remove_name(const char* path, int flags) {
  const Active recorder;
  const auto place = recorder ? recorder->place(path) : std::nullopt;
  const int result = static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, flags));
  if (result == 0 && place && place->node) {
    recorder->record({.kind = Kind::remove,
                      .node = *place->node,
                      .directory = place->directory,
                      .name = place->name,
                      .new_name = {},
                      .bytes = {}});
  }
  return result;
}

int grow(int fd, std::uint64_t to, const std::function<int()>& system) {
  const Active recorder;
  const auto* file = recorder ? recorder->file(fd) : nullptr;
  struct stat before {};
  if (file != nullptr && ::fstat(fd, &before) != 0) return -1;
  const int result = system();
  if (file != nullptr && result == 0 && static_cast<std::uint64_t>(before.st_size) < to) {
    recorder->resize(file->node, to);
  }
  return result;
}

}  // namespace

Recorder::Recorder(fs::path root, Disk& disk)
    : impl_(std::make_unique<Impl>(std::move(root), disk)) {
  const std::lock_guard lock(active_mutex);
  if (active.exchange(impl_.get()) != nullptr) std::abort();
}

Recorder::~Recorder() {
  const std::lock_guard lock(active_mutex);
  active.store(nullptr);
}

std::size_t Recorder::now() const {
  const std::lock_guard lock(active_mutex);
  return impl_->disk.operations.size();
}

void Recorder::fail(std::optional<Failure> failure) {
  const std::lock_guard lock(active_mutex);
  impl_->failure = std::move(failure);
}

std::vector<Failed> Recorder::failed() const {
  const std::lock_guard lock(active_mutex);
  return impl_->failed;
}

std::uint64_t Recorder::calls(Call c) const {
  const std::lock_guard lock(active_mutex);
  return impl_->counts[static_cast<std::size_t>(c)];
}

}  // namespace fairsale::faults

// ---- The C library's functions ----

using fairsale::faults::Active;
using fairsale::faults::Call;
using fairsale::faults::Kind;

extern "C" {

int open(const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fairsale::faults::open_at(AT_FDCWD, path, flags, mode);
}

int openat(int directory, const char* path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fairsale::faults::open_at(directory, path, flags, mode);
}

int close(int fd) {
  const Active recorder;
  if (recorder) recorder->open_files.erase(fd);
  return static_cast<int>(::syscall(SYS_close, fd));
}

int fclose(FILE* stream) {
  static const auto real = reinterpret_cast<int (*)(FILE*)>(::dlsym(RTLD_NEXT, "fclose"));
  {
    const Active recorder;
    if (recorder) recorder->open_files.erase(::fileno(stream));
  }
  return real(stream);
}

ssize_t write(int fd, const void* bytes, size_t size) {
  const Active recorder;
  const auto* file = recorder ? recorder->file(fd) : nullptr;
  if (file == nullptr) return ::syscall(SYS_write, fd, bytes, size);
  const auto allowed = fairsale::faults::allowed(recorder, *file, bytes, size);
  if (!allowed) return -1;
  const ssize_t n = ::syscall(SYS_write, fd, bytes, *allowed);
  if (n > 0) {
    const off_t end = ::lseek(fd, 0, SEEK_CUR);
    recorder->write(*file, static_cast<std::uint64_t>(end - n), bytes, static_cast<size_t>(n));
  }
  return n;
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  const Active recorder;
  const auto* file = recorder ? recorder->file(fd) : nullptr;
  if (file == nullptr) return ::syscall(SYS_pwrite64, fd, bytes, size, offset);
  const auto allowed = fairsale::faults::allowed(recorder, *file, bytes, size);
  if (!allowed) return -1;
  const ssize_t n = ::syscall(SYS_pwrite64, fd, bytes, *allowed, offset);
  if (n > 0) {
    recorder->write(*file, static_cast<std::uint64_t>(offset), bytes, static_cast<size_t>(n));
  }
  return n;
}

ssize_t pread(int fd, void* bytes, size_t size, off_t offset) {
  {
    const Active recorder;
    const auto* file = recorder ? recorder->file(fd) : nullptr;
    if (file != nullptr && recorder->fails(Call::read, file->path)) return -1;
  }
  return ::syscall(SYS_pread64, fd, bytes, size, offset);
}

size_t fread_unlocked(void* bytes, size_t size, size_t n, FILE* stream) {
  static const auto real = reinterpret_cast<size_t (*)(void*, size_t, size_t, FILE*)>(
      ::dlsym(RTLD_NEXT, "fread_unlocked"));
  {
    const Active recorder;
    const auto* file = recorder ? recorder->file(::fileno(stream)) : nullptr;
    if (file != nullptr && recorder->fails(Call::read, file->path)) return 0;
  }
  return real(bytes, size, n, stream);
}

int fsync(int fd) { return fairsale::faults::sync(fd, SYS_fsync); }
int fdatasync(int fd) { return fairsale::faults::sync(fd, SYS_fdatasync); }

int ftruncate(int fd, off_t size) noexcept {
  const Active recorder;
  const auto* file = recorder ? recorder->file(fd) : nullptr;
  if (file != nullptr && recorder->fails(Call::resize, file->path)) return -1;
  const int result = static_cast<int>(::syscall(SYS_ftruncate, fd, size));
  if (file != nullptr && result == 0) recorder->resize(file->node, static_cast<uint64_t>(size));
  return result;
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  const auto system = [&] {
    return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, size));
  };
  if ((mode & FALLOC_FL_KEEP_SIZE) == 0) {
    return fairsale::faults::grow(fd, static_cast<std::uint64_t>(offset + size), system);
  }
  // Content and size stay, and the space is not needed.
  const Active recorder;
  return recorder && recorder->file(fd) != nullptr ? 0 : system();
}

int posix_fallocate(int fd, off_t offset, off_t size) {
  return fairsale::faults::grow(fd, static_cast<std::uint64_t>(offset + size), [&] {
    return ::syscall(SYS_fallocate, fd, 0, offset, size) == 0 ? 0 : errno;
  });
}

int rename(const char* from, const char* to) noexcept {
  const Active recorder;
  const auto old_place = recorder ? recorder->place(from) : std::nullopt;
  const auto new_place = recorder ? recorder->place(to) : std::nullopt;
  if (old_place && recorder->fails(Call::rename, old_place->path)) return -1;
  const int result = static_cast<int>(::syscall(SYS_rename, from, to));
  if (result != 0 || (!old_place && !new_place)) return result;
  if (!old_place || !new_place || !old_place->node ||
      old_place->directory != new_place->directory) {
    fairsale::faults::not_modelled("a move between directories", from);
  }
  recorder->record({.kind = Kind::rename,
                    .node = *old_place->node,
                    .directory = old_place->directory,
                    .name = old_place->name,
                    .new_name = new_place->name,
                    .bytes = {}});
  return result;
}

int link(const char* from, const char* to) noexcept {
  const Active recorder;
  if (recorder && recorder->place(to)) fairsale::faults::not_modelled("a link", to);
  return static_cast<int>(::syscall(SYS_link, from, to));
}

int unlink(const char* path) noexcept { return fairsale::faults::remove_name(path, 0); }
int rmdir(const char* path) noexcept { return fairsale::faults::remove_name(path, AT_REMOVEDIR); }

int remove(const char* path) noexcept {
  const int result = ::unlink(path);
  return result != 0 && (errno == EISDIR || errno == EPERM) ? ::rmdir(path) : result;
}

int mkdir(const char* path, mode_t mode) noexcept {
  const Active recorder;
  const auto place = recorder ? recorder->place(path) : std::nullopt;
  if (place && recorder->fails(Call::open, place->path)) return -1;
  const int result = static_cast<int>(::syscall(SYS_mkdir, path, mode));
  if (result == 0 && place && !place->name.empty()) {
    recorder->record({.kind = Kind::create_directory,
                      .node = recorder->next++,
                      .directory = place->directory,
                      .name = place->name,
                      .new_name = {},
                      .bytes = {}});
  }
  return result;
}

// RocksDB waits a second after a failure in the background, which tests have no time for.
int usleep(useconds_t) { return ::sched_yield(); }

}  // extern "C"
