// What can be proven from the outside, with nothing but the answers that a crowd was given. The
// checks, by name:
//
//   counters      available + held + sold == stock, no term is negative, held + sold <= stock.
//   ids           No two attempts have the same purchase id, and the position of a first answer
//                 is the number in its id: the order of ids is the order of the log.
//   statuses      Each refusal came with the HTTP status that the contract gives its reason.
//   kept          Every acknowledged purchase is still there, in a state that can follow from its
//                 first answer and from what was acknowledged since: a paid one is ordered, a
//                 cancelled one cancelled, a refused one refused for the same reason; nothing is
//                 ordered that was not paid for.
//   limits        No customer has more units reserved, offered, ordered and waited for than the
//                 sale allows.
//   tally         The units of all purchases that were read do not exceed what the sale says is
//                 held and sold; when nobody else bought (and nothing moved meanwhile), they are
//                 equal.
//   first_come    While nobody waits and units are free, nobody is put to wait or told that they
//                 are gone: before the first who was, more than stock minus what he asked for had
//                 been reserved. Nobody is told line_full before line_limit purchases were put to
//                 wait. Nobody is reserved after another was told sold_out.
//   no_passing    No direct reservation falls, in the order of the log, into a time in which
//                 somebody else is known to have waited who could have had the units.
//   line_order    Offers are made in the order of the line: nobody was offered units while
//                 somebody who had joined before him is known to have waited still, or was left
//                 waiting to the end.
//   places        The place that a waiting customer was told is at least 1 and at most the number
//                 of those put to wait up to then, and at most line_limit.
//   repeats       The same attempt with the same key gets the same status and the same bytes, and
//                 all but one of its answers say Idempotent-Replayed.  (Seen by the crowd and by
//                 the audit, not by check_evidence.)
//   listing       A customer's listing holds every purchase that was acknowledged to him.  (Audit.)
//
// "Known to have waited": it joined at the position of its attempt and was seen to wait at a later
// position, or it never left the line before the sale was over for it. "Could have had the units":
// under strict order anyone; else who asked for no more. first_come and places, and what depends
// on nobody else having bought, are checked only when the run was alone with the sale and every
// attempt got its answer: otherwise they cannot be proven from outside.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tools/rush/claim.hpp"

namespace fairsale::rush {

// A purchase as it was read back.
struct Observed {
  enum class Read : std::uint8_t { no, found, missing, wrong };  // wrong: neither 200 nor 404

  Read read = Read::no;
  PurchaseStatus status = PurchaseStatus::refused;
  Reason reason = Reason::none;
  std::uint32_t quantity = 0;
};

struct Evidence {
  std::span<const Claim> claims;
  std::span<const Observed> observed;  // of each claim
  SaleFacts sale;                      // as read after them
  bool at_rest = false;  // the sale's position was the same before and after they were read
  bool alone = false;    // nobody else bought in this sale, or changed it
};

// What was found, by check; keeps the first few of each and counts all.
class Violations {
 public:
  struct Found {
    std::uint64_t count = 0;
    std::vector<std::string> first;
  };

  void add(std::string_view check, std::string what);
  // The same check never counts as passed when it was not run.
  void ran(std::string_view check);

  bool none() const { return total_ == 0; }
  std::uint64_t total() const { return total_; }
  const std::map<std::string, Found, std::less<>>& by_check() const { return by_check_; }

 private:
  std::map<std::string, Found, std::less<>> by_check_;
  std::uint64_t total_ = 0;
};

void check_evidence(const Evidence&, Violations&);

}  // namespace fairsale::rush
