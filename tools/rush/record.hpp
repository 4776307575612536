// The record of a run as JSON Lines, so that another process (after a restart of the server, say)
// can check the same claims. One object a line:
//   {"record":1,"url":…,"sku":…,"seed":…,"key_prefix":…,"customer_prefix":…,"alone":true}
//   {"attempt":7,"key":…,"customer":…,"quantity":1,"status":201,"answer":"reserved",
//    "purchase":"demo:17","position":17,"digest":"…","sent_ms":…,"answered_ms":…}
//       (and "place" when waiting, "reason" when refused)
//   {"payment":7,"answer":"ordered"|"refund_due"|"refused"}
//   {"cancel":7,"answer":"cancelled"|"declined"|"refused"}
//   {"seen":7,"waiting_at":N,"offered_at":N}
// Numbers after attempt, payment, cancel and seen are the attempt's index in the run.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/log/result.hpp"
#include "tools/rush/claim.hpp"

namespace fairsale::rush {

struct RunInfo {
  std::string url;
  std::string sku;
  std::uint64_t seed = 0;
  std::string key_prefix;       // a key is this and the attempt's index
  std::string customer_prefix;  // a customer's name is this and a number
  bool alone = false;           // the run created the sale, so nobody else bought before it
};

// The Idempotency-Key of an attempt, and the name of a customer.
void append_key(const RunInfo&, std::uint32_t attempt, std::string& out);
void append_customer(const RunInfo&, std::uint32_t customer, std::string& out);

// Writes as answers come. A line that has been written survives the death of the tool once flush()
// has run (called every tick); nothing is synced.
class RecordWriter {
 public:
  static Result<RecordWriter> create(const std::filesystem::path&, const RunInfo&);

  void answer(std::uint32_t attempt, const Claim&);
  void payment(std::uint32_t attempt, const Claim&);
  void cancel(std::uint32_t attempt, const Claim&);
  void seen(std::uint32_t attempt, const Claim&);
  void flush();

  // Fails when any write did.
  Result<void> close();

 private:
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };

  RecordWriter(std::FILE* f, RunInfo info) : file_(f), info_(std::move(info)) {}
  void line();

  std::unique_ptr<std::FILE, Close> file_;
  RunInfo info_;
  std::string buffer_;
  bool failed_ = false;
};

struct Record {
  RunInfo info;
  std::vector<Claim> claims;  // by attempt; those without an answer are First::none
};

// Fails, naming the line, when it is not a record. A last line that is cut off is left out.
Result<Record> read_record(const std::filesystem::path&);

std::string_view name_of(First);
std::string_view name_of(PaymentAnswer);
std::string_view name_of(CancelAnswer);

}  // namespace fairsale::rush
