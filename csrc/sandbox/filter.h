// The system-call filter: an allow-list. What it does not name is refused.
//
// Three kinds of calls are more than harmless and still of use to a program: such as make a process or a thread, such as signal,
// and such as leave something behind that a fork does not copy (timers, shared memory, files in the scratch folder). With a
// supervisor they are put to it; without one, forks are refused, signals go to oneself, and the rest is allowed.
#pragma once

namespace rstar {

struct FilterRules {
  bool supervised;  // a supervisor answers; the filter then goes for all processes that are forked from this one
  bool may_write;   // files can be opened for writing: where they may lie is for the file system's layers to say
};

// Installs the filter for this process and all threads and processes to come; returns the listener, at which a supervisor is
// asked, and -1 without a supervisor. Throws std::system_error: the kernel has no such filters, or no listener.
int install_filter(const FilterRules& rules);

}  // namespace rstar
