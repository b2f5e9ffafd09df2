/*
 * The floors of our client of Linux's VFIO: volatile loads and stores of plain memory in a loop,
 * and two system calls that do nothing. Prints the least of several rounds, in nanoseconds, as
 * JSON.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { BYTES = 65536, REGISTERS = 1024, ACCESSES = 4000000, CALLS = 20000, ROUNDS = 9 };

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * 1e9 + time.tv_nsec;
}

static char separator = '{';

#define MEASURE(name, count, access)                                   \
  do {                                                          \
    double least = 1e9;                                         \
    for (int round = 0; round < ROUNDS; round++) {              \
      const double before = now();                              \
      for (unsigned i = 0; i < (count); i++) access;            \
      const double each = (now() - before) / (count);           \
      if (each < least) least = each;                           \
    }                                                           \
    printf("%c\"%s\":%.3f", separator, name, least);            \
    separator = ',';                                            \
  } while (0)

int main(void) {
  const int fd = memfd_create("registers", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, BYTES) != 0) return 1;
  char *mapped = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) return 1;
  volatile uint32_t *words = (volatile uint32_t *)mapped;
  volatile uint64_t *longs = (volatile uint64_t *)mapped;
  uint64_t sum = 0;
  MEASURE("load32", ACCESSES, sum += words[i % REGISTERS]);
  MEASURE("store32", ACCESSES, words[i % REGISTERS] = i);
  MEASURE("load64", ACCESSES, sum += longs[i % REGISTERS]);
  MEASURE("store64", ACCESSES, longs[i % REGISTERS] = i);
  MEASURE("calls", CALLS, (ioctl(fd, 0x3b71, NULL), ioctl(fd, 0x3b72, NULL)));
  puts("}");
  return sum == 1;
}
