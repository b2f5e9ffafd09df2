/*
 * Programs that make it hard for their kernel: strains KIND GROUP COUNT.
 *
 *   kills   children that use the device, killed at any moment
 *   forks   a thread uses the device while others fork
 *   passes  the device's descriptor goes to a child that did not open it
 *   fuzz    requests, arguments and pointers at random
 *
 * Prints "done" when the device can be used once more at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMORY = 1 << 14, FUZZ_BYTES = 4096 };

struct opened {
  int container, group, device;
};

static const char *group_path;
static uint64_t state = 88172645463325252ULL;

static uint64_t chance(void) {
  state ^= state << 13;
  state ^= state >> 7;
  return state ^= state << 17;
}

static int opened(struct opened *it) {
  it->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
  it->group = open(group_path, O_RDWR | O_CLOEXEC);
  if (it->group < 0 || ioctl(it->group, VFIO_GROUP_SET_CONTAINER, &it->container) != 0) return -1;
  if (ioctl(it->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) return -1;
  return it->device = ioctl(it->group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:04.0");
}

static void closed(struct opened *it) {
  close(it->device);
  close(it->group);
  close(it->container);
}

static int use(struct opened *it) {
  static char memory[MEMORY] __attribute__((aligned(4096)));
  struct vfio_iommu_type1_dma_map map = {.argsz = sizeof map, .flags = 3, .vaddr = (uintptr_t)memory, .iova = 0x10000, .size = MEMORY};
  struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = 0x10000, .size = MEMORY};
  struct vfio_device_info info = {.argsz = sizeof info};
  const int event = eventfd(0, EFD_CLOEXEC);
  struct {
    struct vfio_irq_set set;
    int fd;
  } irq = {{.argsz = sizeof irq, .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, .index = 0, .count = 1}, event};
  uint32_t id = 0, raise = 1;
  int right = ioctl(it->device, VFIO_DEVICE_GET_INFO, &info) == 0;
  right &= ioctl(it->container, VFIO_IOMMU_MAP_DMA, &map) == 0;
  right &= ioctl(it->device, VFIO_DEVICE_SET_IRQS, &irq) == 0;
  right &= pread(it->device, &id, 4, 0) == 4 && id == 0x010000ed;
  right &= pwrite(it->device, &raise, 4, 0x60) == 4;
  right &= ioctl(it->container, VFIO_IOMMU_UNMAP_DMA, &unmap) == 0;
  close(event);
  return right;
}

/* The whole way once, from open to close. */
static int once(void) {
  struct opened it;
  if (opened(&it) < 0) return 0;
  uint16_t command = 7;
  int right = pwrite(it.device, &command, 2, (off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40 | 4) == 2;
  right &= use(&it);
  closed(&it);
  return right;
}

static void kills(int count) {
  for (int i = 0; i < count; i++) {
    const pid_t child = fork();
    if (child == 0) {
      for (;;) once();
    }
    usleep(chance() % 3000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
  }
}

static atomic_int stop;
static struct opened shared;

static void *user(void *unused) {
  (void)unused;
  while (!atomic_load(&stop)) {
    if (!use(&shared)) puts("a use beside a fork failed");
  }
  return NULL;
}

static void forks(int count) {
  pthread_t thread;
  if (opened(&shared) < 0) return;
  uint16_t command = 7;
  if (pwrite(shared.device, &command, 2, (off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40 | 4) != 2) return;
  pthread_create(&thread, NULL, user, NULL);
  for (int i = 0; i < count; i++) {
    const pid_t child = fork();
    if (child == 0) {
      uint32_t id = 0;
      _exit(pread(shared.device, &id, 4, 0) == 4 && id == 0x010000ed ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) printf("a child got status %x\n", status);
  }
  atomic_store(&stop, 1);
  pthread_join(thread, NULL);
  closed(&shared);
}

static void sent(int socket, int fd) {
  char byte = 0, room[CMSG_SPACE(sizeof fd)];
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
  *rights = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
  memcpy(CMSG_DATA(rights), &fd, sizeof fd);
  if (sendmsg(socket, &message, 0) != 1) perror("sendmsg");
}

static int received(int socket) {
  char byte, room[CMSG_SPACE(sizeof(int))];
  struct iovec part = {&byte, 1};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  int fd = -1;
  if (recvmsg(socket, &message, 0) == 1) memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  return fd;
}

/* The child was forked before; the parent closes all of its own descriptors. */
static void passes(int count) {
  for (int i = 0; i < count; i++) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0) return;
    const pid_t child = fork();
    if (child == 0) {
      close(pair[0]);
      const int device = received(pair[1]);
      uint32_t id = 0;
      char gone;
      if (read(pair[1], &gone, 1) != 0) _exit(2);
      _exit(pread(device, &id, 4, 0) == 4 && id == 0x010000ed ? 0 : 1);
    }
    close(pair[1]);
    struct opened it;
    uint16_t command = 7;
    if (opened(&it) < 0 || pwrite(it.device, &command, 2, (off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40 | 4) != 2) printf("open %d: %s\n", i, strerror(errno));
    sent(pair[0], it.device);
    closed(&it);
    close(pair[0]);
    int status = 0;
    waitpid(child, &status, 0);
    if (status != 0) printf("a child got status %x\n", status);
  }
}

static void fuzz(int count) {
  struct opened it;
  if (opened(&it) < 0) return;
  const int fds[] = {it.container, it.group, it.device, open("/dev/iommu", O_RDWR), open("/dev/null", O_RDWR), 9999};
  static unsigned char bytes[2 * FUZZ_BYTES];
  /* A page of nothing lies behind the edge: answers would overwrite the C library otherwise. */
  char *edge = mmap(NULL, 2 * FUZZ_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(edge, FUZZ_BYTES, PROT_READ | PROT_WRITE);
  for (int i = 0; i < count; i++) {
    for (int k = 0; k < 64; k += 8) {
      uint64_t word = chance() % 4 == 0 ? chance() : chance() % 64;
      memcpy(bytes + k, &word, 8);
    }
    if (chance() % 8 != 0) bytes[0] = (unsigned char)(16 + chance() % 64);
    void *const places[] = {bytes, bytes, bytes, bytes, edge + FUZZ_BYTES - chance() % 64, NULL, (void *)(uintptr_t)chance(), (void *)chance};
    void *const at = places[chance() % 8];
    const int fd = fds[chance() % 6];
    if (chance() % 4 != 0) {
      ioctl(fd, 0x3b00 | (100 + chance() % 40), at);
    } else if (chance() % 2 != 0) {
      if (pread(fd, at == (void *)chance ? bytes : at, chance() % 512, (off_t)(chance() % 12) << 40 | chance() % 512) < 0) continue;
    } else {
      if (pwrite(fd, at, chance() % 512, (off_t)(chance() % 12) << 40 | chance() % 512) < 0) continue;
    }
  }
  close(fds[3]);
  close(fds[4]);
  closed(&it);
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  group_path = argv[2];
  const int count = atoi(argv[3]);
  if (strcmp(argv[1], "kills") == 0) kills(count);
  if (strcmp(argv[1], "forks") == 0) forks(count);
  if (strcmp(argv[1], "passes") == 0) passes(count);
  if (strcmp(argv[1], "fuzz") == 0) fuzz(count);
  if (once()) puts("done");
  return 0;
}
