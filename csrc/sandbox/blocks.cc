#include "blocks.h"

#include <Python.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <utility>

namespace rstar {
namespace {

constexpr size_t kPage = 4096;        // also the largest block that is taken note of
constexpr size_t kSmallest = 32;      // up to here there are numbers, which come and go: whether a file's owner is 0 or 65534
constexpr size_t kAlign = 16;         // as Python's own
constexpr size_t kHuge = 2u << 20;    // side by side: 4,000 blocks take half of it
constexpr size_t kSpread = size_t{4} << 30;  // address space, not memory
constexpr BlockName kNone = ~BlockName{0};

// The allocators before ours, to which all goes on that is not taken here. What is taken is no address of Python's pools, so that
// Python hands it to the allocator for raw memory when it is freed: ours stays there, the two others are there while things load.
struct Allocators {
  PyMemAllocatorEx raw, memory, objects;
};

// For as long as the interpreter. Changed under its lock only; read without it, but then nothing changes any more.
struct {
  Allocators before;
  uintptr_t begin, next, end;      // where blocks are taken from, one after the other
  BlockName name;                  // of the block that is asked for next
  std::vector<BlockName> placed;   // in rising order, kNone at the end
  const BlockName* wanted;         // the first of them that is not below `name`
  bool spread;
  std::vector<BlockName> owners;   // spread: of each page
  std::vector<uintptr_t> freed;    // spread: pages to be used again
} blocks;

bool is_taken(const void* block) {
  const auto address = reinterpret_cast<uintptr_t>(block);
  return address >= blocks.begin && address < blocks.end;
}

void* take_page(BlockName name) {
  uintptr_t page = 0;
  if (!blocks.freed.empty()) {
    page = blocks.freed.back();
    blocks.freed.pop_back();
  } else if (blocks.end - blocks.next >= kPage) {
    page = blocks.next;
    blocks.next += kPage;
    blocks.owners.push_back(kNone);
  } else {
    return nullptr;
  }
  blocks.owners[(page - blocks.begin) / kPage] = name;
  return reinterpret_cast<void*>(page);
}

// The block that is asked for now, where it is to lie here; else null.
void* take(size_t size) {
  if (size <= kSmallest) return nullptr;
  const BlockName name = blocks.name++;
  if (blocks.spread) return size <= kPage ? take_page(name) : nullptr;
  if (name != *blocks.wanted) return nullptr;
  ++blocks.wanted;
  const size_t rounded = (std::max<size_t>(size, 1) + kAlign - 1) / kAlign * kAlign;
  if (size > kPage || blocks.end - blocks.next < rounded) return nullptr;
  return reinterpret_cast<void*>(std::exchange(blocks.next, blocks.next + rounded));
}

const PyMemAllocatorEx& allocator_of(void* context) { return *static_cast<PyMemAllocatorEx*>(context); }

void* allocate(void* context, size_t size) {
  void* taken = take(size);
  return taken != nullptr ? taken : allocator_of(context).malloc(allocator_of(context).ctx, size);
}

void* allocate_zeroed(void* context, size_t count, size_t size) {
  void* taken = size == 0 || count <= kPage / size ? take(count * size) : nullptr;
  if (taken == nullptr) return allocator_of(context).calloc(allocator_of(context).ctx, count, size);
  return std::memset(taken, 0, count * size);
}

void release(void* context, void* block) { allocator_of(context).free(allocator_of(context).ctx, block); }

void* resize(void* context, void* block, size_t size) {
  if (block == nullptr) return allocate(context, size);
  void* resized = allocator_of(context).realloc(allocator_of(context).ctx, block, size);
  void* taken = resized != nullptr ? take(size) : nullptr;
  if (taken == nullptr) return resized;
  std::memcpy(taken, resized, size);
  release(context, resized);
  return taken;
}

void* raw_allocate(void* context, size_t size) { return allocator_of(context).malloc(allocator_of(context).ctx, size); }

void* raw_allocate_zeroed(void* context, size_t count, size_t size) {
  return allocator_of(context).calloc(allocator_of(context).ctx, count, size);
}

// What lay among others is not used again: there is little of it.
void raw_release(void* context, void* block) {
  if (!is_taken(block)) return release(context, block);
  if (blocks.spread) {
    const auto page = reinterpret_cast<uintptr_t>(block);
    blocks.owners[(page - blocks.begin) / kPage] = kNone;
    blocks.freed.push_back(page);
  }
}

void* raw_resize(void* context, void* block, size_t size) {
  if (!is_taken(block)) return allocator_of(context).realloc(allocator_of(context).ctx, block, size);
  void* moved = raw_allocate(context, size);
  if (moved == nullptr) return nullptr;
  // How large it was is not known: up to a page, and what follows it can be read.
  std::memcpy(moved, block, std::min({size, kPage, blocks.end - reinterpret_cast<uintptr_t>(block)}));
  raw_release(context, block);
  return moved;
}

// Takes address space for blocks, and Python's requests. False where there is none.
bool begin(size_t size) {
  if (!can_place_blocks() || blocks.begin != 0) return false;
  void* memory = mmap(nullptr, size + kHuge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return false;
  const auto mapped = reinterpret_cast<uintptr_t>(memory);
  blocks.begin = blocks.next = (mapped + kHuge - 1) / kHuge * kHuge;
  blocks.end = blocks.begin + size;
  munmap(memory, blocks.begin - mapped);
  munmap(reinterpret_cast<void*>(blocks.end), mapped + kHuge - blocks.begin);
  Allocators& before = blocks.before;
  PyMem_GetAllocator(PYMEM_DOMAIN_RAW, &before.raw);
  PyMem_GetAllocator(PYMEM_DOMAIN_MEM, &before.memory);
  PyMem_GetAllocator(PYMEM_DOMAIN_OBJ, &before.objects);
  PyMemAllocatorEx raw{&before.raw, raw_allocate, raw_allocate_zeroed, raw_resize, raw_release};
  PyMemAllocatorEx memory_now{&before.memory, allocate, allocate_zeroed, resize, release};
  PyMemAllocatorEx objects_now{&before.objects, allocate, allocate_zeroed, resize, release};
  PyMem_SetAllocator(PYMEM_DOMAIN_RAW, &raw);
  PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &memory_now);
  PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &objects_now);
  return true;
}

}  // namespace

bool can_place_blocks() {
#if defined(WITH_PYMALLOC) && !defined(Py_DEBUG) && !defined(Py_GIL_DISABLED)
  const char* chosen = Py_GETENV("PYTHONMALLOC");
  return (chosen == nullptr || *chosen == '\0') && sysconf(_SC_PAGESIZE) == static_cast<long>(kPage);
#else
  return false;
#endif
}

void name_blocks(uint32_t loaded) {
  blocks.name = BlockName{loaded} << 32;
  if (!blocks.placed.empty()) blocks.wanted = &*std::lower_bound(blocks.placed.begin(), blocks.placed.end() - 1, blocks.name);
}

void spread_blocks() {
  blocks.spread = true;
  if (begin(kSpread)) madvise(reinterpret_cast<void*>(blocks.begin), kSpread, MADV_NOHUGEPAGE);
}

std::vector<BlockName> written_blocks() {
  std::vector<BlockName> written;
  std::vector<uint64_t> entries((blocks.next - blocks.begin) / kPage);
  const auto wanted = static_cast<ssize_t>(entries.size() * sizeof(uint64_t));
  const int file = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (file < 0) return written;
  const auto at = static_cast<off_t>(blocks.begin / kPage * sizeof(uint64_t));
  const bool told = pread(file, entries.data(), static_cast<size_t>(wanted), at) == wanted;
  close(file);
  for (size_t page = 0; told && page < entries.size(); ++page) {
    const bool own = (entries[page] >> 63) != 0 && (entries[page] >> 56 & 1) != 0;  // present, and mapped by nobody else
    if (own && blocks.owners[page] != kNone) written.push_back(blocks.owners[page]);
  }
  return written;
}

void place_blocks(std::vector<BlockName> names) {
  blocks.placed = std::move(names);
  blocks.placed.push_back(kNone);
  name_blocks(0);
  begin(kHuge);
}

void leave_blocks() {
  if (blocks.begin == 0) return;
  PyMem_SetAllocator(PYMEM_DOMAIN_MEM, &blocks.before.memory);
  PyMem_SetAllocator(PYMEM_DOMAIN_OBJ, &blocks.before.objects);
}

}  // namespace rstar
