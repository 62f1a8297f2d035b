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
  std::istringstream fields(read("syscall"));  // "running", or the call's number and its arguments
  long call = -1;
  std::string set, information, timeout;
  return fields >> call >> set >> information >> timeout && call == __NR_rt_sigtimedwait && timeout == "0x0";
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

uint64_t Process::private_bytes() const {
  constexpr int kAfterName = 3, kMinorFaults = 10, kResident = 24;  // fields of proc(5), stat
  const std::string text = read("stat");
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 2)));
  uint64_t faults = 0, resident = 0;
  std::string skipped;
  for (int at = kAfterName; at <= kResident && fields; ++at) {
    if (at == kMinorFaults) {
      fields >> faults;
    } else if (at == kResident) {
      fields >> resident;
    } else {
      fields >> skipped;
    }
  }
  return std::min(faults, resident) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace rstar
