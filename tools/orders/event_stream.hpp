// Reads text/event-stream as the HTML standard has it.
#pragma once

#include <string>
#include <string_view>

namespace fairsale::orders {

class EventStreamReader {
 public:
  static constexpr std::size_t kMaxEventBytes = 131'072;

  // Calls on_event(id, type, data) for each whole event, with the last id that was seen. An id
  // counts once its block ends, data or not. Returns false when an event is too long.
  template <class OnEvent>
  bool read(std::string_view bytes, OnEvent&& on_event) {
    for (const char c : bytes) {
      if (c == '\n' && after_cr_) {
        after_cr_ = false;
        continue;
      }
      after_cr_ = c == '\r';
      if (c != '\n' && c != '\r') {
        line_ += c;
        if (line_.size() + data_.size() > kMaxEventBytes) return false;
        continue;
      }
      if (line_.empty()) {
        last_id_ = id_;
        if (!data_.empty()) on_event(last_id_, std::string_view(type_), std::string_view(data_));
        data_.clear();
        type_.clear();
      } else {
        take_line();
        line_.clear();
      }
    }
    return true;
  }

  // To be resumed after.
  const std::string& last_id() const { return last_id_; }
  void start(std::string last_id) {
    *this = {};
    id_ = last_id_ = std::move(last_id);
  }

 private:
  void take_line() {
    const std::size_t colon = line_.find(':');
    const std::string_view name = std::string_view(line_).substr(0, colon);
    std::string_view value;
    if (colon != std::string::npos) value = std::string_view(line_).substr(colon + 1);
    if (value.starts_with(' ')) value.remove_prefix(1);
    if (name == "data") {
      if (!data_.empty()) data_ += '\n';
      data_ += value;
    } else if (name == "event") {
      type_ = value;
    } else if (name == "id" && value.find('\0') == std::string_view::npos) {
      id_ = value;
    }
  }

  std::string line_, data_, type_, id_, last_id_;
  bool after_cr_ = false;
};

}  // namespace fairsale::orders
