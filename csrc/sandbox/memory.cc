#include "memory.h"

#include <Python.h>
#include <fcntl.h>
#include <malloc.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

namespace rstar {
namespace {

constexpr uintptr_t kHuge = 2u << 20;
constexpr int kCollapse = 25;  // MADV_COLLAPSE, since Linux 6.1
// Larger ones are a library's tables, which steps write all over: Python's own types.
constexpr size_t kMostMoved = 256 << 10;

// Whether a mapping of a file has pages that are no longer the file's.
bool has_own_pages(uintptr_t begin, size_t size) {
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  std::vector<uint64_t> entries(size / page);
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return false;
  const auto wanted = static_cast<ssize_t>(entries.size() * sizeof(uint64_t));
  const bool told = pread(file, entries.data(), static_cast<size_t>(wanted), static_cast<off_t>(begin / page * sizeof(uint64_t))) == wanted;
  close(file);
  const auto is_own = [](uint64_t entry) { return (entry >> 63) != 0 && (entry >> 61 & 1) == 0; };  // present, and no file's
  return told && std::any_of(entries.begin(), entries.end(), is_own);
}

// Nothing may write the mapping meanwhile: no other thread runs, and between the copy and the new mapping there are system calls only.
void move_to_file(uintptr_t begin, size_t size, int protection) {
  if (size > kMostMoved || !has_own_pages(begin, size)) return;
  const int file = static_cast<int>(syscall(__NR_memfd_create, "data", MFD_CLOEXEC));
  if (file < 0) return;
  auto* place = reinterpret_cast<char*>(begin);
  if (syscall(__NR_pwrite64, file, place, size, 0) == static_cast<long>(size)) {
    syscall(__NR_mmap, place, size, protection, MAP_PRIVATE | MAP_FIXED, file, 0);
  }
  syscall(__NR_close, file);
}

struct Mapping {
  uintptr_t begin, end;
  int protection;
  bool of_file;
};

// This process's own: what can be read and is no code.
std::vector<Mapping> private_mappings() {
  std::vector<Mapping> mappings;
  std::ifstream file("/proc/self/maps");
  for (std::string line; std::getline(file, line);) {
    unsigned long long begin = 0, end = 0, inode = 0;
    char rights[5] = {};
    if (std::sscanf(line.c_str(), "%llx-%llx %4s %*s %*s %llu", &begin, &end, rights, &inode) != 4) continue;
    if (rights[0] != 'r' || rights[2] == 'x' || rights[3] != 'p') continue;
    mappings.push_back({begin, end, PROT_READ | (rights[1] == 'w' ? PROT_WRITE : 0), inode != 0});
  }
  return mappings;
}

// A piece of address space that is handed out from its beginning on.
struct Piece {
  PyObjectArenaAllocator before;  // serves what is left when the piece is full
  uintptr_t begin, next, end;
};

Piece piece;  // for as long as the interpreter

void* take(void*, size_t size) {
  if (piece.end - piece.next < size) return piece.before.alloc(piece.before.ctx, size);
  auto* taken = reinterpret_cast<void*>(piece.next);
  piece.next += size;
  return taken;
}

// What lies in the piece is given back to the system, but its addresses are not used again: few arenas ever become empty.
void give_back(void*, void* memory, size_t size) {
  const auto address = reinterpret_cast<uintptr_t>(memory);
  if (address >= piece.begin && address < piece.end) {
    madvise(memory, size, MADV_DONTNEED);
  } else {
    piece.before.free(piece.before.ctx, memory, size);
  }
}

// Takes, and keeps for ever, what is free between things in use, in Python's pools and in the C library's heap: what a program
// makes then lies side by side in fresh pages, and not on pages all over, each of which it would have to copy first.
void fill_holes() {
  constexpr size_t kSmallest = 16, kSmall = 512, kLargest = 1 << 20;
  const uintptr_t fresh = piece.next;
  for (size_t size = kSmall; size >= kSmallest; size -= kSmallest) {
    while (piece.end - piece.next > kLargest) {
      const auto taken = reinterpret_cast<uintptr_t>(PyObject_Malloc(size));
      if (taken == 0 || (taken >= fresh && taken < piece.end)) break;
    }
  }
  const auto top = reinterpret_cast<uintptr_t>(std::malloc(kLargest));
  std::free(reinterpret_cast<void*>(top));
  for (size_t size = kLargest / 2; size > kSmallest; size = size > 4096 ? size / 2 : size - kSmallest) {
    while (true) {
      const auto taken = reinterpret_cast<uintptr_t>(std::malloc(size));
      if (taken == 0 || taken >= top) break;
    }
  }
}

}  // namespace

void gather_memory() {
  constexpr size_t kPieceBytes = 128u << 20;  // address space, not memory
  void* memory = mmap(nullptr, kPieceBytes + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return;
  piece.begin = piece.next = (reinterpret_cast<uintptr_t>(memory) + kHuge - 1) / kHuge * kHuge;
  piece.end = piece.begin + kPieceBytes;
  PyObject_GetArenaAllocator(&piece.before);
  PyObjectArenaAllocator allocator{nullptr, take, give_back};
  PyObject_SetArenaAllocator(&allocator);
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);  // larger tables lie in the heap with the others, not in mappings of their own
  mallopt(M_TRIM_THRESHOLD, 64 << 20);
#endif
}

void prepare_forks() {
  fill_holes();
  constexpr size_t kLeft = 16u << 20;  // for what programs add; more would be beyond the limit that they are given
  if (piece.end - piece.next > kLeft) {
    const uintptr_t end = (piece.next + kLeft) / kHuge * kHuge;
    munmap(reinterpret_cast<void*>(end), piece.end - end);
    piece.end = end;
  }
  for (const Mapping& mapping : private_mappings()) {
    if (mapping.of_file) {
      move_to_file(mapping.begin, mapping.end - mapping.begin, mapping.protection);
    } else if ((mapping.protection & PROT_WRITE) != 0) {
      for (uintptr_t at = (mapping.begin + kHuge - 1) / kHuge * kHuge; at + kHuge <= mapping.end; at += kHuge) {
        madvise(reinterpret_cast<void*>(at), kHuge, kCollapse);  // one by one: an empty one fails, and the rest goes on
      }
    }
  }
}

bool fix_addresses() {
  constexpr unsigned long kAsk = 0xffffffff;
  const int now = personality(kAsk);
  if (now < 0 || (now & ADDR_NO_RANDOMIZE) != 0) return false;
  return personality(static_cast<unsigned long>(now) | ADDR_NO_RANDOMIZE) >= 0 && (personality(kAsk) & ADDR_NO_RANDOMIZE) != 0;
}

}  // namespace rstar
