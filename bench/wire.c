/*
 * The other end of the wire, in C, for bench/vfio-user.ts: a client that measures a vfio-user
 * server, and a server that does for each message the least that any server must (receive, reply;
 * mmap and munmap; write the eventfd), with nothing behind it. The client measures both alike.
 *
 *   wire server PATH
 *   wire client PATH   prints one JSON object
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { VERSION = 1, DMA_MAP = 2, DMA_UNMAP = 3, SET_IRQS = 8, REGION_READ = 9, REGION_WRITE = 10 };
enum { REPLY = 1, NO_REPLY = 0x10, ERROR = 0x20 };

struct header {
  uint16_t id, command;
  uint32_t size, flags, error;
};
struct region_access {
  uint64_t offset;
  uint32_t region, count;
};
struct control {
  uint32_t op, len;
  uint64_t iova, count, arg;
};
struct result {
  uint64_t t0, t1, ok, sum;
};
struct dma_map {
  uint32_t argsz, flags;
  uint64_t offset, address, size;
};
struct dma_unmap {
  uint32_t argsz, flags;
  uint64_t address, size;
};
struct irq_set {
  uint32_t argsz, flags, index, start, count;
};

#define BUFFER (1 << 21)
static uint8_t buffer[BUFFER] __attribute__((aligned(64)));

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
  fprintf(stderr, "wire: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void send_all(int s, const void *bytes, size_t size, int fd) {
  struct iovec io = {(void *)bytes, size};
  union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = control.bytes;
    message.msg_controllen = sizeof control.bytes;
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    *c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
  }
  while (io.iov_len > 0) {
    ssize_t sent = sendmsg(s, &message, MSG_NOSIGNAL);
    if (sent <= 0) die("send");
    io.iov_base = (uint8_t *)io.iov_base + sent;
    io.iov_len -= (size_t)sent;
    message.msg_controllen = 0;
  }
}

/*
 * One message, in one call when it arrives whole: a raw server may receive as much as there is. 0 =
 * the end. *fd is its descriptor, or -1.
 */
static size_t receive(int s, uint8_t *into, size_t room, int *fd) {
  size_t have = 0, size = sizeof(struct header);
  *fd = -1;
  while (have < size) {
    struct iovec io = {into + have, have == 0 ? room : size - have};
    union {
      char bytes[CMSG_SPACE(sizeof(int))];
      struct cmsghdr align;
    } control;
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    ssize_t got = recvmsg(s, &message, MSG_CMSG_CLOEXEC);
    if (got == 0) return 0;
    if (got < 0) die("receive");
    struct cmsghdr *c = CMSG_FIRSTHDR(&message);
    if (c != NULL && c->cmsg_type == SCM_RIGHTS) memcpy(fd, CMSG_DATA(c), sizeof *fd);
    have += (size_t)got;
    if (have >= sizeof(struct header)) memcpy(&size, into + 4, 4), size &= 0xffffffffu;
  }
  return have;
}

static int socket_at(const char *path, int listening) {
  struct sockaddr_un at = {.sun_family = AF_UNIX};
  int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  strncpy(at.sun_path, path, sizeof at.sun_path - 1);
  if ((listening ? bind : connect)(s, (struct sockaddr *)&at, sizeof at) != 0) die(path);
  if (listening && listen(s, 1) != 0) die("listen");
  return s;
}

/* ---- the server */

static int serve(const char *path) {
  int listener = socket_at(path, 1);
  int s = accept(listener, NULL, NULL);
  if (s < 0) die("accept");
  int event = -1, fd;
  void *mapped = NULL;
  struct result result = {0};
  size_t have;
  while ((have = receive(s, buffer, BUFFER, &fd)) > 0) {
    /* Posted writes come several at a time. */
    for (size_t at = 0; at < have;) {
      struct header *h = (struct header *)(buffer + at);
      struct region_access *access = (struct region_access *)(h + 1);
      if (have - at < sizeof *h || have - at < h->size) {
        size_t rest = have - at;
        memmove(buffer, buffer + at, rest);
        at = 0;
        have = rest;
        while (have < sizeof *h || have < ((struct header *)buffer)->size) {
          ssize_t got = recv(s, buffer + have, BUFFER - have, 0);
          if (got <= 0) return 0;
          have += (size_t)got;
        }
        continue;
      }
      size_t size = h->size, reply = sizeof *h;
      int command = h->command, posted = (h->flags & NO_REPLY) != 0;
      if (command == REGION_READ) {
        reply = sizeof *h + sizeof *access + access->count;
        if (access->region == 2) memcpy(access + 1, &result, sizeof result);
      } else if (command == REGION_WRITE) {
        reply = sizeof *h + sizeof *access;
        struct control *c = (struct control *)(access + 1);
        if (access->region == 2 && c->op == 4) {
          uint64_t one = 1, end = now() + c->arg * 1000;
          while ((result.t0 = now()) < end);
          if (write(event, &one, 8) != 8) die("eventfd");
        }
      } else if (command == DMA_MAP) {
        struct dma_map *map = (struct dma_map *)(h + 1);
        mapped = mmap(NULL, map->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)map->offset);
        if (mapped == MAP_FAILED) die("mmap");
        close(fd);
      } else if (command == DMA_UNMAP) {
        munmap(mapped, ((struct dma_unmap *)(h + 1))->size);
        reply = sizeof *h + sizeof(struct dma_unmap);
      } else if (command == SET_IRQS && fd >= 0)
        event = fd;
      if (!posted) {
        h->size = (uint32_t)reply;
        h->flags = REPLY;
        send_all(s, h, reply, -1);
        at = have;
      } else
        at += size;
    }
  }
  return 0;
}

/* ---- the client */

static uint8_t out[1 << 17], in[1 << 18];
static int wire;

static struct header *message(int command, uint32_t flags, const void *payload, size_t size) {
  struct header *h = (struct header *)out;
  *h = (struct header){.id = 1, .command = (uint16_t)command, .size = (uint32_t)(sizeof *h + size), .flags = flags};
  memcpy(h + 1, payload, size);
  return h;
}

/* Send what `message` made, and receive the reply. */
static void ask(int fd) {
  struct header *h = (struct header *)out, *reply = (struct header *)in;
  int none;
  send_all(wire, h, h->size, fd);
  if (receive(wire, in, sizeof in, &none) == 0) die("the server left");
  if ((reply->flags & ERROR) != 0) {
    errno = (int)reply->error;
    die("the server refused");
  }
}

static int ascending(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return x < y ? -1 : x > y;
}

static double median(uint64_t *samples, int n) {
  qsort(samples, (size_t)n, sizeof *samples, ascending);
  return (double)samples[n / 2];
}

static void write_control(struct control c) {
  struct {
    struct region_access access;
    struct control control;
  } body = {{0, 2, sizeof c}, c};
  message(REGION_WRITE, 0, &body, sizeof body);
}

static struct result read_result(void) {
  struct region_access access = {0x40, 2, sizeof(struct result)};
  struct result result;
  message(REGION_READ, 0, &access, sizeof access);
  ask(-1);
  memcpy(&result, in + 32, sizeof result);
  return result;
}

#define READS 20000
#define WARM 4000
#define WRITES 200000
#define BULK 4000
#define MAPS 4000
#define IRQS 2000
#define COPY_LEN 65536u
#define COPIES 20000u
#define ROUNDS 5

static int measure(const char *path, int with_dma) {
  static uint64_t samples[READS];
  wire = socket_at(path, 0);
  static const char hello[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8}}";
  message(VERSION, 0, hello, sizeof hello);
  ask(-1);

  struct region_access four = {0, 0, 4};
  message(REGION_READ, 0, &four, sizeof four);
  for (int i = -WARM; i < READS; i++) {
    uint64_t begun = now();
    ask(-1);
    if (i >= 0) samples[i] = now() - begun;
  }
  printf("{\"read\":%.0f", median(samples, READS));

  struct {
    struct region_access access;
    uint32_t value;
  } body = {four, 7};
  for (int round = 0; round < 2; round++) {
    uint64_t begun = now();
    struct header *h = message(REGION_WRITE, NO_REPLY, &body, sizeof body.access + 4);
    for (int i = 0; i < WRITES; i++) send_all(wire, h, h->size, -1);
    message(REGION_READ, 0, &four, sizeof four);
    ask(-1);
    if (round == 1) printf(",\"posted\":%.1f", (double)(now() - begun) / WRITES);
  }

  struct region_access bulk = {0, 1, 65536};
  message(REGION_READ, 0, &bulk, sizeof bulk);
  for (int i = -BULK / 4; i < BULK; i++) {
    uint64_t begun = now();
    ask(-1);
    if (i >= 0) samples[i] = now() - begun;
  }
  printf(",\"bulk\":%.0f", median(samples, BULK));

  int memory = memfd_create("bench", MFD_CLOEXEC);
  size_t size = 64u * COPY_LEN;
  if (ftruncate(memory, (off_t)size) != 0) die("ftruncate");
  for (int i = -MAPS / 4; i < MAPS; i++) {
    struct dma_map map = {sizeof map, 3, 0, 0x10000000, 1 << 21};
    struct dma_unmap unmap = {sizeof unmap, 0, 0x10000000, 1 << 21};
    uint64_t begun = now();
    message(DMA_MAP, 0, &map, sizeof map);
    ask(memory);
    message(DMA_UNMAP, 0, &unmap, sizeof unmap);
    ask(-1);
    if (i >= 0) samples[i] = now() - begun;
  }
  printf(",\"map\":%.0f", median(samples, MAPS));

  int event = eventfd(0, EFD_CLOEXEC);
  struct irq_set enable = {sizeof enable, 0x24, 0, 0, 1}, unmask = {sizeof unmask, 0x11, 0, 0, 1};
  message(SET_IRQS, 0, &enable, sizeof enable);
  ask(event);
  for (int i = -IRQS / 4; i < IRQS; i++) {
    uint64_t count;
    write_control((struct control){.op = 4, .arg = 5});
    send_all(wire, out, ((struct header *)out)->size, -1);
    if (read(event, &count, 8) != 8) die("eventfd");
    uint64_t arrived = now();
    int none;
    receive(wire, in, sizeof in, &none);
    uint64_t latency = arrived - read_result().t0;
    if (i >= 0) samples[i] = latency;
    message(SET_IRQS, 0, &unmask, sizeof unmask);
    ask(-1);
  }
  printf(",\"interrupt\":%.0f", median(samples, IRQS));

  uint8_t *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (bytes == MAP_FAILED) die("mmap");
  memset(bytes, 1, size);
  if (with_dma) {
    struct dma_map map = {sizeof map, 3, 0, 0x10000000, size};
    message(DMA_MAP, 0, &map, sizeof map);
    ask(memory);
    static const struct {
      const char *name;
      uint32_t op;
    } kinds[] = {{"copy", 2}, {"mapped", 6}};
    for (int k = 0; k < 2; k++) {
      /*
       * The best of a few: on one core, the compiler of JavaScript runs beside the first of them.
       */
      uint64_t best = UINT64_MAX;
      for (int round = 0; round < ROUNDS; round++) {
        write_control((struct control){kinds[k].op, COPY_LEN, 0x10000000, COPIES, 0});
        ask(-1);
        struct result result = read_result();
        if (result.ok != COPIES || result.sum != COPIES) die("the copies went wrong");
        if (result.t1 - result.t0 < best) best = result.t1 - result.t0;
      }
      printf(",\"%s\":%.0f", kinds[k].name, (double)best / COPIES);
    }
  } else {
    uint8_t *to = malloc(COPY_LEN);
    uint64_t best = UINT64_MAX;
    if (to == NULL) die("malloc");
    for (int round = 0; round < ROUNDS; round++) {
      uint64_t begun = now();
      for (unsigned i = 0; i < COPIES; i++) {
        memcpy(to, bytes + (size_t)(i % 64) * COPY_LEN, COPY_LEN);
        __asm__ volatile("" : : "r"(to) : "memory");
      }
      if (now() - begun < best) best = now() - begun;
    }
    printf(",\"copy\":%.0f", (double)best / COPIES);
  }
  printf("}\n");
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "server") == 0) return serve(argv[2]);
  if (argc == 3 && strcmp(argv[1], "client") == 0) return measure(argv[2], 1);
  if (argc == 3 && strcmp(argv[1], "floor") == 0) return measure(argv[2], 0);
  fprintf(stderr, "usage: wire server|client|floor PATH\n");
  return 2;
}
