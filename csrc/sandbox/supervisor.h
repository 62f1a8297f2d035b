// The trusted side: has guests forked, lets them run a program each, decides about the calls that their filter puts to it, and
// keeps of what they print what the limit allows.
//
// One program runs at a time; all other guests wait. Guests share one pipe for their output, one socket for their reports (on
// which the kernel attests who speaks) and one file with the program, which are emptied between two runs.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace rstar {

class Process;

// Of a stream of bytes its beginning and its end, as many bytes together as the limit says. Copies go on by themselves.
class Output {
 public:
  explicit Output(size_t limit) : from_end_(limit / 2), from_begin_(limit - limit / 2) {}
  void add(std::string_view data);
  // As if so many bytes came that nobody will ask for: they lie where the middle is left out.
  void skip(uint64_t bytes) { total_ += bytes; }
  size_t limit() const { return from_begin_ + from_end_; }
  const std::string& head() const { return head_; }
  std::string tail() const { return tail_.size() > from_end_ ? tail_.substr(tail_.size() - from_end_) : tail_; }
  uint64_t left_out() const { return total_ - head_.size() - tail().size(); }

 private:
  size_t from_end_, from_begin_;
  std::string head_, tail_;
  uint64_t total_ = 0;
};

enum class End {
  kReported,  // the child has reported; it waits, or is to be ended
  kDied,      // it ended without a report
  kTimedOut,
  kNoChild,  // the guest that was to be forked is gone, or did not do it
};

struct Outcome {
  End end = End::kNoChild;
  std::string report;
  std::string value;  // what it reported before, as much as the output's limit allows
  pid_t child = -1;         // of an end by kReported: alive, and the caller's to keep or to end
  bool may_be_kept = false;  // what it is can be forked: one thread, no timers, no shared memory, no files of its own
  bool guest_waits = false;  // the guest that was forked waits as before; else it is to be ended
  int status = 0;            // of an end by kDied or kTimedOut, as wait(2) has it
  double processor_s = 0;
  bool used_up = false;  // it timed out as it had used more processor time than it might
  uint64_t private_bytes = 0;  // at most so much memory is the child's alone
};

// What a supervisor and its guests have in common, both ends: a pipe for output, a socket for reports, a file for the program.
struct Channels {
  int output, guest_output, reports, guest_reports, program, guest_program;
};
Channels open_channels();

// The next report of a guest that is not yet forked; empty when it has ended.
std::string hear(int reports);

class Supervisor {
 public:
  // The supervisor's ends of the channels, and of the program the guests' too; the filter's listener, or -1; and a descriptor that
  // hangs up when nobody waits for results any more.
  struct Ends {
    int output, reports, program, guest_program, listener, owner;
    pid_t keeper;  // a child of the supervisor that is no guest, or -1
  };

  explicit Supervisor(const Ends& ends);

  // Makes a guest known that waits to be forked.
  void adopt(pid_t guest);
  // Runs a program in a child of `guest`; what it prints goes on from `output`.
  Outcome run(pid_t guest, std::string_view program, double timeout_s, double processor_s, Output& output);
  // Kills a guest, if it is one still, and waits for its end; of one that is kept, and so does nothing, the end may come later.
  void end(pid_t guest);
  void end_kept(pid_t guest);
  // Kills all guests and waits for their ends; nothing can be run after.
  void end_all();

 private:
  struct Run;

  bool try_to_adopt(pid_t guest);
  void settle();
  void put(std::string_view program);
  bool read_output(Output& output);
  ssize_t hear_next(char* buffer, size_t size, pid_t& speaker) const;
  bool read_report(Run& run, size_t most_value);
  void decide(Run& run);
  void watch(Run& run, int guest_descriptor, size_t most_value);
  void conclude(Run& run);
  bool strike(pid_t guest);
  void reap(pid_t guest, Outcome* outcome);
  std::vector<pid_t> strays() const;
  bool is_stray(pid_t process) const;
  bool ended_early(Run& run);
  void end_strays();
  void bury();
  bool settles(const Process& process) const;
  bool may_be_kept(const Process& process) const;

  Ends ends_;
  pid_t first_ = -1;
  std::unordered_map<pid_t, int> guests_;  // with a descriptor for each
  std::vector<std::string> files_;         // what the descriptors of a guest lead to
  std::vector<pid_t> dying_;  // killed, not yet waited for: a process takes half a millisecond to end
};

}  // namespace rstar
