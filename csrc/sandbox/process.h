// What the kernel tells of another process, through an open folder of /proc, so that it is found once.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace rstar {

class Process {
 public:
  explicit Process(pid_t process);
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  // Whether it sleeps in the call in which guests wait, without an end of its own: else it runs code now or later, and is no state.
  bool waits() const;
  uint32_t threads() const;
  int descriptors() const;
  // What a descriptor leads to.
  std::string link(int descriptor) const;
  // Bytes of memory that are no file's.
  uint64_t anonymous_bytes() const;
  // Bytes that it copied, or touched first, since its fork, if each fault was for one page.
  uint64_t faulted_bytes() const;
  // The last of the numbers in a line of its `status`, -1 where there is none.
  long status(std::string_view field) const;

 private:
  std::string read(const char* name) const;

  int folder_;
};

}  // namespace rstar
