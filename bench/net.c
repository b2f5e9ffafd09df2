/*
 * The floor of a network card in one process: a loop that moves the bytes and descriptors that a
 * driver, a card, a wire and a card and driver at its other end move for each frame, without
 * anything that decides. Two ports, whose frames go from the first to the second:
 *
 *   driver A  writes a transmit descriptor (16 bytes), and for each batch the tail
 *   card A    reads the descriptor, copies the frame to the wire, writes the descriptor back
 *   card B    reads a receive descriptor, copies the frame to its buffer, writes it back
 *   driver B  reads the descriptor, writes a new one, and for each batch the tail
 *
 *   net frames SIZE MILLISECONDS   prints nanoseconds for each frame
 *   net copy SIZE MILLISECONDS     the same for one copy of the frame between those buffers
 *   net store MILLISECONDS         nanoseconds of a store to memory, for a doorbell
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ENTRIES = 512, BATCH = 32, BUFFER = 2048, DONE = 1, ROUND = 4096 };

struct descriptor {
  uint64_t address;
  uint32_t length, status;
};

struct port {
  struct descriptor ring[ENTRIES];
  uint8_t *buffers;
  volatile uint32_t tail;
};

static struct port sender, receiver;
static uint8_t wire[16384];
static uint64_t received;

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Kept out of line, as a call to another room is: the compiler cannot join the four. */
__attribute__((noinline)) static void submit(unsigned first, unsigned size) {
  for (unsigned i = 0; i < BATCH; i++) {
    struct descriptor *tx = &sender.ring[(first + i) % ENTRIES];
    tx->address = (uint64_t)(uintptr_t)(sender.buffers + (first + i) % ENTRIES * BUFFER);
    tx->length = size;
    tx->status = 0;
  }
  sender.tail = (first + BATCH) % ENTRIES;
}

__attribute__((noinline)) static void deliver(unsigned at, unsigned size) {
  struct descriptor *rx = &receiver.ring[at];
  memcpy((void *)(uintptr_t)rx->address, wire, size);
  rx->length = size;
  rx->status = DONE;
}

__attribute__((noinline)) static void carry(unsigned first) {
  for (unsigned i = 0; i < BATCH; i++) {
    unsigned at = (first + i) % ENTRIES;
    struct descriptor tx = sender.ring[at];
    memcpy(wire, (void *)(uintptr_t)tx.address, tx.length);
    deliver(at, tx.length);
    sender.ring[at].status = DONE;
  }
}

__attribute__((noinline)) static void take(unsigned first) {
  for (unsigned i = 0; i < BATCH; i++) {
    unsigned at = (first + i) % ENTRIES;
    struct descriptor *rx = &receiver.ring[at];
    if (!(rx->status & DONE)) abort();
    received += rx->length;
    rx->address = (uint64_t)(uintptr_t)(receiver.buffers + at * BUFFER);
    rx->status = 0;
  }
  receiver.tail = (first + BATCH) % ENTRIES;
}

static void frames(unsigned size) {
  for (unsigned first = 0; first < ROUND; first += BATCH) {
    submit(first % ENTRIES, size);
    carry(first % ENTRIES);
    take(first % ENTRIES);
  }
}

static void copies(unsigned size) {
  for (unsigned i = 0; i < ROUND; i++) {
    unsigned at = i % ENTRIES;
    memcpy(receiver.buffers + at * BUFFER, sender.buffers + at * BUFFER, size);
    __asm__ volatile("" ::: "memory");
  }
}

static void stores(unsigned size) {
  for (unsigned i = 0; i < ROUND; i++) sender.tail = i + size;
}

int main(int argc, char **argv) {
  const char *mode = argc > 1 ? argv[1] : "";
  int store = strcmp(mode, "store") == 0;
  void (*work)(unsigned) = store ? stores : strcmp(mode, "copy") == 0 ? copies : frames;
  if (argc != (store ? 3 : 4)) return 2;
  unsigned size = store ? 0 : (unsigned)atoi(argv[2]);
  uint64_t limit = (uint64_t)atoi(argv[argc - 1]) * 1000000u;
  if (size > BUFFER) return 2;
  sender.buffers = aligned_alloc(4096, ENTRIES * BUFFER);
  receiver.buffers = aligned_alloc(4096, ENTRIES * BUFFER);
  if (sender.buffers == NULL || receiver.buffers == NULL) return 1;
  memset(sender.buffers, 0x5a, ENTRIES * BUFFER);
  memset(receiver.buffers, 0, ENTRIES * BUFFER);
  for (unsigned i = 0; i < ENTRIES; i++) {
    receiver.ring[i].address = (uint64_t)(uintptr_t)(receiver.buffers + i * BUFFER);
    receiver.ring[i].status = 0;
  }
  work(size);
  uint64_t begun = now(), took = 0, done = 0;
  for (; took < limit; took = now() - begun) {
    work(size);
    done += ROUND;
  }
  printf("%.3f\n", (double)took / (double)done);
  return 0;
}
