/*
 * Instructions on trapped memory beside the same instructions on plain memory: random registers,
 * flags, vectors and bytes, one run on each memory, and all that came out must be equal. The forms
 * are in an assembler file that trap-forms.ts writes.
 *
 * Prints "PID INODE", waits for a line, then prints a line for each form that differs, and "done".
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { AREA = 1024, ROUNDS = 4, VECTORS = 5 };

/* The assembler file knows the places. */
struct state {
  uint64_t rax, rcx, rdx, rdi, flags, rsi;
  uint8_t unused[16];
  uint8_t vectors[VECTORS][64];
} __attribute__((aligned(64)));

extern const struct {
  void (*run)(struct state *state);
  const char *name;
} forms[];
extern const uint64_t form_count;

static void fill(void *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) ((uint8_t *)bytes)[i] = (uint8_t)(rand() >> 7);
}

/* In one instruction, which is one trap. */
static void copy_words(void *to, const void *from) {
  uint64_t count = AREA / 8;
  __asm__ volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
}

int main(void) {
  const int fd = memfd_create("trapped", MFD_CLOEXEC);
  uint8_t *trapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint8_t *plain = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  struct stat file;
  if (fd < 0 || trapped == MAP_FAILED || plain == MAP_FAILED || fstat(fd, &file) != 0) return 1;
  printf("%d %lu\n", getpid(), (unsigned long)file.st_ino);
  fflush(stdout);
  if (getchar() < 0) return 1;
  static struct state start, on_trapped, on_plain;
  static uint8_t bytes[AREA], seen[AREA];
  for (uint64_t i = 0; i < form_count; i++) {
    for (int round = 0; round < ROUNDS; round++) {
      fill(&start, sizeof start);
      fill(bytes, sizeof bytes);
      start.flags = (start.flags & 0x8d5) | 2; /* the status flags */
      if (round % 2 == 0) start.rax &= 7;      /* also an index */
      else start.rax = (uint64_t)-(int64_t)(start.rax & 7);
      start.rcx = round == 0 ? 0 : start.rcx;
      /* Half-way up: forms reach below, too. */
      start.rsi = (uint64_t)plain + 512;
      memcpy(plain, bytes, AREA);
      on_plain = start;
      forms[i].run(&on_plain);
      start.rsi = (uint64_t)trapped + 512;
      copy_words(trapped, bytes);
      on_trapped = start;
      forms[i].run(&on_trapped);
      copy_words(seen, trapped);
      /* Addresses differ by where the memory is. */
      if (on_trapped.rsi - (uint64_t)trapped < 4096) on_trapped.rsi += (uint64_t)plain - (uint64_t)trapped;
      if (on_trapped.rdi - (uint64_t)trapped < 4096) on_trapped.rdi += (uint64_t)plain - (uint64_t)trapped;
      const int registers = memcmp(&on_plain, &on_trapped, sizeof on_plain) != 0;
      const int memory = memcmp(seen, plain, AREA) != 0;
      if (!registers && !memory) continue;
      printf("%s: %s differ; flags %lx and %lx, rdx %lx and %lx, rax %lx and %lx\n", forms[i].name, registers ? "registers" : "bytes", on_plain.flags,
             on_trapped.flags, on_plain.rdx, on_trapped.rdx, on_plain.rax, on_trapped.rax);
      break;
    }
  }
  printf("done %lu\n", form_count);
  return 0;
}
