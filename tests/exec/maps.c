/*
 * A client of VFIO that maps the regions of a device: edu at 0000:00:04.0 in group GROUP. Prints
 * what it gets.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FACTORIAL = 2, LIVENESS = 1, COMPUTING = 8 };

static int device;
static sigjmp_buf back;
static siginfo_t seen;

static void on_fault(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)context;
  seen = *info;
  siglongjmp(back, 1);
}

static void *map(const char *what, size_t size, int prot, int flags, off_t offset) {
  void *at = mmap(NULL, size, prot, flags, device, offset);
  printf("%s %s\n", what, at == MAP_FAILED ? strerrorname_np(errno) : "ok");
  return at;
}

static void load(const char *what, volatile uint32_t *registers) {
  if (sigsetjmp(back, 1) == 0) {
    const uint32_t value = registers[0];
    printf("%s %08x\n", what, value);
  } else {
    printf("%s SIG%s code %d at %+ld\n", what, sigabbrev_np(seen.si_signo), seen.si_code, (long)((char *)seen.si_addr - (char *)registers));
  }
}

static void set_command(unsigned short command, off_t config) {
  if (pwrite(device, &command, 2, config + 4) != 2) printf("no command\n");
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGBUS, &fault, NULL);
  sigaction(SIGSEGV, &fault, NULL);
  int container = open("/dev/vfio/vfio", O_RDWR);
  const int group = open(argv[1], O_RDWR);
  if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) != 0 || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) return 3;
  device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:04.0");
  struct vfio_region_info info = {.argsz = sizeof info, .index = VFIO_PCI_BAR0_REGION_INDEX};
  struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) != 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) != 0) return 4;
  printf("mappable %d\n", (info.flags & VFIO_REGION_INFO_FLAG_MMAP) != 0);
  const int both = PROT_READ | PROT_WRITE;
  map("private", 4096, both, MAP_PRIVATE, info.offset);
  map("past the end", info.size + 4096, both, MAP_SHARED, info.offset);
  map("config space", 4096, both, MAP_SHARED, config.offset);
  volatile uint32_t *registers = map("BAR 0", 4096, both, MAP_SHARED, info.offset);
  if (registers == MAP_FAILED) return 5;
  set_command(2, config.offset);
  load("identification", registers);
  registers[LIVENESS] = 0x12345678;
  printf("liveness %08x\n", registers[LIVENESS]);
  registers[FACTORIAL] = 5;
  while (registers[COMPUTING] & 1) {
  }
  printf("factorial %u\n", registers[FACTORIAL]);
  set_command(0, config.offset);
  load("memory disabled", registers);
  set_command(2, config.offset);
  load("memory enabled", registers);
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    load("child", registers);
    _exit(0);
  }
  waitpid(child, NULL, 0);
  /* A copy with a low number, mapped at an offset of its own. */
  const int copy = dup(device);
  volatile uint32_t *second = mmap(NULL, 4096, PROT_READ, MAP_SHARED, copy, info.offset);
  load("by a copy", second);
  munmap((void *)second, 4096);
  load("unmapped", second);
  /* The mapping alone keeps the device open. */
  close(copy);
  close(device);
  device = -1;
  load("closed", registers);
  printf("device still open %s\n", ioctl(group, VFIO_GROUP_UNSET_CONTAINER) == 0 ? "no" : strerrorname_np(errno));
  munmap((void *)registers, 4096);
  printf("device closed %s\n", ioctl(group, VFIO_GROUP_UNSET_CONTAINER) == 0 ? "yes" : strerrorname_np(errno));
  return 0;
}
