/*
 * Costs of a program's system calls: exec [GROUP BDF]. With a group, the program runs under
 * `vfio exec` with edu, and asks it as well. Prints the median of each, in nanoseconds, as JSON.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MEMORY = 1 << 16, SAMPLES_MAX = 20000 };

static int64_t samples[SAMPLES_MAX];

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static int ascending(const void *a, const void *b) {
  const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

/* The median of `count` times of one call, after a tenth as many that are not counted. */
#define MEASURE(name, count, call)                                          \
  do {                                                                      \
    for (int i = 0; i < (count) / 10; i++) call;                            \
    for (int i = 0; i < (count); i++) {                                     \
      const int64_t before = now();                                         \
      call;                                                                 \
      samples[i] = now() - before;                                          \
    }                                                                       \
    qsort(samples, (count), sizeof *samples, ascending);                    \
    printf("%c\"%s\":%lld", separator, name, (long long)samples[(count) / 2]); \
    separator = ',';                                                        \
  } while (0)

static char separator = '{';

/* Two processes that wake each other up: the least that an answered call can cost. */
static void round_trips(void) {
  const int there = eventfd(0, EFD_CLOEXEC), back = eventfd(0, EFD_CLOEXEC);
  uint64_t one = 1, got;
  const pid_t child = fork();
  if (child == 0) {
    while (read(there, &got, 8) == 8 && got == 1 && write(back, &one, 8) == 8) {
    }
    _exit(0);
  }
  MEASURE("roundTrip", 10000, ({
            if (write(there, &one, 8) != 8 || read(back, &got, 8) != 8) exit(1);
          }));
  one = 2;
  if (write(there, &one, 8) != 8) exit(1);
  waitpid(child, NULL, 0);
}

#ifdef __x86_64__
static uint32_t load(const volatile uint32_t *from) {
  uint32_t value;
  __asm__ volatile("movl 4(%%rsi), %0" : "=r"(value) : "S"(from) : "memory");
  return value;
}
enum { LOAD_BYTES = 3 };

/* Makes the requests that an emulation needs, and skips the instruction. */
static void skip_load(pid_t thread) {
  siginfo_t signal;
  struct user_regs_struct registers;
  struct iovec all = {&registers, sizeof registers};
  char code[15];
  ptrace(PTRACE_GETSIGINFO, thread, NULL, &signal);
  ptrace(PTRACE_GETREGSET, thread, NT_PRSTATUS, &all);
  struct iovec ours = {code, sizeof code}, theirs = {(void *)registers.rip, sizeof code};
  if (process_vm_readv(thread, &ours, 1, &theirs, 1, 0) != sizeof code) exit(1);
  registers.rip += LOAD_BYTES;
  ptrace(PTRACE_SETREGSET, thread, NT_PRSTATUS, &all);
  ptrace(PTRACE_CONT, thread, NULL, NULL);
}

/* A load that faults, and a tracer in C that skips it: the least that a trapped access can cost. */
static void traced_loads(void) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const volatile uint32_t *registers = mmap(NULL, 4096, PROT_READ, MAP_SHARED, memfd_create("registers", MFD_CLOEXEC), 0);
    raise(SIGSTOP);
    MEASURE("mapped", 10000, load(registers));
    fflush(stdout);
    _exit(0);
  }
  int status;
  waitpid(child, &status, WUNTRACED);
  if (ptrace(PTRACE_SEIZE, child, NULL, NULL) != 0) exit(1);
  kill(child, SIGCONT);
  while (waitpid(child, &status, __WALL) == child && WIFSTOPPED(status)) {
    if (WSTOPSIG(status) == SIGBUS && status >> 16 == 0) skip_load(child);
    else ptrace(PTRACE_CONT, child, NULL, status >> 16 == 0 ? WSTOPSIG(status) : 0);
  }
  separator = ',';
}
#endif

static int must(int result, const char *what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
  return result;
}

static void device_calls(const char *path, const char *bdf) {
  const int container = must(open("/dev/vfio/vfio", O_RDWR), "container"), group = must(open(path, O_RDWR), path);
  must(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container), "SET_CONTAINER");
  must(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "SET_IOMMU");
  const int device = must(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, bdf), "GET_DEVICE_FD");
  const off_t config = (off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40;
  uint32_t word = 6;
  must((int)pwrite(device, &word, 2, config + 4), "COMMAND");
  struct vfio_device_info info = {.argsz = sizeof info};
  MEASURE("version", 10000, must(ioctl(container, VFIO_GET_API_VERSION), "GET_API_VERSION"));
  MEASURE("info", 10000, must(ioctl(device, VFIO_DEVICE_GET_INFO, &info), "GET_INFO"));
  MEASURE("config", 10000, must((int)pread(device, &word, 4, config), "config"));
  MEASURE("bar", 10000, must((int)pread(device, &word, 4, 0), "BAR 0"));
#ifdef __x86_64__
  const volatile uint32_t *registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
  if (registers == MAP_FAILED) must(-1, "mmap");
  MEASURE("mapped", 10000, load(registers));
#endif
  void *memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct vfio_iommu_type1_dma_map map = {.argsz = sizeof map, .flags = 3, .vaddr = (uintptr_t)memory, .iova = 0x10000, .size = MEMORY};
  struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = 0x10000, .size = MEMORY};
  MEASURE("map", 3000, ({
            must(ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "MAP_DMA");
            must(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap), "UNMAP_DMA");
          }));
  const int memfd = must(memfd_create("memory", MFD_CLOEXEC), "memfd_create");
  must(ftruncate(memfd, MEMORY), "ftruncate");
  map.vaddr = (uintptr_t)mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
  MEASURE("shared", 3000, ({
            must(ioctl(container, VFIO_IOMMU_MAP_DMA, &map), "MAP_DMA");
            must(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap), "UNMAP_DMA");
          }));
}

int main(int argc, char **argv) {
  const int file = must(open(argv[0], O_RDONLY), argv[0]);
  char byte;
  MEASURE("untrapped", 20000, getppid());
  MEASURE("pread", 20000, must((int)pread(file, &byte, 1, 1 << 30), "pread"));
  MEASURE("open", 3000, close(open(argv[0], O_RDONLY)));
  round_trips();
  if (argc > 2) device_calls(argv[1], argv[2]);
#ifdef __x86_64__
  else traced_loads();
#endif
  puts("}");
  return 0;
}
