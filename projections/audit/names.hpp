// Numbers names in the order in which they appear. Open addressing over an arena of bytes: about
// 20 bytes a name and its text.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace fairsale::audit {

class Names {
 public:
  std::uint32_t size() const { return static_cast<std::uint32_t>(entries_.size()); }

  static std::uint64_t hash_of(std::string_view name) {
    return std::hash<std::string_view>{}(name);
  }
  std::uint64_t hash_of(std::uint32_t number) const { return entries_[number].hash; }

  // Starts to bring what number() will need into the processor's cache.
  void prefetch(std::uint64_t hash) const {
    if (!slots_.empty()) __builtin_prefetch(&slots_[hash & (slots_.size() - 1)]);
  }

  // The number of the name, whose hash this is; a new one gets the next.
  std::uint32_t number(std::string_view name, std::uint64_t hash) {
    if (2 * (entries_.size() + 1) > slots_.size()) grow();
    std::size_t i = hash & (slots_.size() - 1);
    for (; slots_[i] != 0; i = (i + 1) & (slots_.size() - 1)) {
      const Entry& e = entries_[slots_[i] - 1];
      if (e.hash == hash && text(e) == name) return slots_[i] - 1;
    }
    entries_.push_back({hash, bytes_.size()});
    bytes_ += static_cast<char>(name.size());
    bytes_ += name;
    slots_[i] = size();
    return size() - 1;
  }

 private:
  struct Entry {
    std::uint64_t hash;
    std::size_t offset;  // of a byte of size, then the text
  };

  std::string_view text(const Entry& e) const {
    return std::string_view(bytes_).substr(e.offset + 1,
                                           static_cast<unsigned char>(bytes_[e.offset]));
  }

  void grow() {
    const std::size_t size = slots_.empty() ? 1024 : 2 * slots_.size();
    slots_.assign(size, 0);
    for (std::uint32_t n = 0; n < entries_.size(); ++n) {
      std::size_t i = entries_[n].hash & (size - 1);
      while (slots_[i] != 0) i = (i + 1) & (size - 1);
      slots_[i] = n + 1;
    }
  }

  std::vector<Entry> entries_;
  std::vector<std::uint32_t> slots_;
  std::string bytes_;
};

}  // namespace fairsale::audit
