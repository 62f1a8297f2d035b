#include "process.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

namespace rstar {

Process::Process(pid_t process) : folder_(open(("/proc/" + std::to_string(process)).c_str(), O_PATH | O_CLOEXEC)) {}

Process::~Process() {
  if (folder_ >= 0) close(folder_);
}

// As much of a file as fits; empty where it cannot be read.
std::string Process::read(const char* name) const {
  const int file = openat(folder_, name, O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  char text[4096];
  const ssize_t size = ::read(file, text, sizeof text);
  close(file);
  return std::string(text, size < 0 ? 0 : static_cast<size_t>(size));
}

long Process::status(std::string_view field) const {
  std::istringstream lines(read("status"));
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with(field)) continue;
    std::istringstream numbers(line.substr(field.size()));
    long last = -1;
    for (long number; numbers >> number;) last = number;
    return last;
  }
  return -1;
}

bool Process::waits() const {
  // When it last ran, before and after: in between it did not, so that what is read then belongs together.
  const std::string before = read("schedstat");
  std::istringstream fields(read("syscall"));  // "running", or the call's number and its arguments
  long call = -1;
  std::string set, information, timeout;
  if (!(fields >> call >> set >> information >> timeout) || call != __NR_rt_sigtimedwait || timeout != "0x0") return false;
  const std::string text = read("stat");
  const size_t name_end = text.rfind(')');
  // Not D: it may be on its way into the call, and sleep in a page fault.
  if (name_end == std::string::npos || name_end + 2 >= text.size() || text[name_end + 2] != 'S') return false;
  return !before.empty() && read("schedstat") == before;
}

uint32_t Process::threads() const {
  struct stat found;
  return fstatat(folder_, "task", &found, 0) == 0 ? static_cast<uint32_t>(found.st_nlink) - 2 : 0;
}

int Process::descriptors() const {
  struct stat found;
  if (fstatat(folder_, "fd", &found, 0) != 0) return -1;
  if (found.st_size > 0) return static_cast<int>(found.st_size);  // since Linux 6.2
  const int file = openat(folder_, "fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* folder = file < 0 ? nullptr : fdopendir(file);
  if (folder == nullptr) return -1;
  int count = -2;  // . and ..
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

std::string Process::link(int descriptor) const {
  char target[256];
  const ssize_t size = readlinkat(folder_, ("fd/" + std::to_string(descriptor)).c_str(), target, sizeof target);
  return size < 0 ? std::string() : std::string(target, static_cast<size_t>(size));
}

uint64_t Process::anonymous_bytes() const {
  std::istringstream fields(read("statm"));
  uint64_t size = 0, resident = 0, shared = 0;
  fields >> size >> resident >> shared;
  return (resident - std::min(resident, shared)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

uint64_t Process::faulted_bytes() const {
  constexpr int kAfterName = 3, kMinorFaults = 10;  // fields of proc(5), stat
  const std::string text = read("stat");
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 2)));
  std::string skipped;
  for (int at = kAfterName; at < kMinorFaults; ++at) fields >> skipped;
  uint64_t faults = 0;
  fields >> faults;
  return faults * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace rstar
