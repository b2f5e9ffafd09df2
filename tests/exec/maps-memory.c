/*
 * A client of VFIO that maps plain memory: BAR 2 of a device. Its arguments are GROUP and BDF.
 * Prints what it gets.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static volatile int alarms;
static void on_alarm(int signal) {
  (void)signal;
  alarms++;
}

static int descriptors(void) {
  int count = 0;
  for (int fd = 0; fd < 1024; fd++) count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/* Whether /proc says that a tracer is there. */
static int traced(void) {
  char line[128];
  int tracer = -1;
  FILE *status = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, status) != NULL) sscanf(line, "TracerPid: %d", &tracer);
  fclose(status);
  return tracer > 0;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  int container = open("/dev/vfio/vfio", O_RDWR);
  const int group = open(argv[1], O_RDWR);
  if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) != 0 || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) return 3;
  const int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[2]);
  struct vfio_region_info info = {.argsz = sizeof info, .index = VFIO_PCI_BAR2_REGION_INDEX};
  struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) != 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) != 0) return 4;
  const unsigned short command = 2;
  pwrite(device, &command, 2, config.offset + 4);
  const int before = descriptors();
  char *memory = mmap(NULL, info.size, PROT_READ | PROT_WRITE, MAP_SHARED, device, info.offset);
  if (memory == MAP_FAILED) {
    perror("mmap");
    return 5;
  }
  char *part = mmap(NULL, 4096, PROT_READ, MAP_SHARED, device, info.offset + 4096);
  if (part == MAP_FAILED) return 6;
  printf("descriptors left %d\n", descriptors() - before);
  strcpy(memory + 4100, "stored through the mapping");
  char text[32] = "";
  if (pread(device, text, sizeof text, info.offset + 4100) != sizeof text) return 7;
  printf("read %s\n", text);
  if (pwrite(device, "written", 8, info.offset + 4096) != 8) return 8;
  printf("mapped %s, its second page %s\n", memory + 4096, part);
  /* A write to a mapping that is for reading only is the program's own fault, as ever. */
  printf("fixed %s\n", mmap(memory, 4096, PROT_READ, MAP_SHARED | MAP_FIXED, device, info.offset + 8192) == memory ? "ok" : "no");
  printf("past the end %s\n", mmap(NULL, info.size * 2, PROT_READ, MAP_SHARED, device, info.offset) == MAP_FAILED ? strerrorname_np(errno) : "ok");
  printf("nowhere %s\n", mmap((void *)(1UL << 60), 4096, PROT_READ, MAP_SHARED | MAP_FIXED, device, info.offset) == MAP_FAILED ? strerrorname_np(errno) : "ok");
  /* Signals in the middle of such calls. */
  signal(SIGALRM, on_alarm);
  struct itimerval often = {{0, 300}, {0, 300}}, never = {0};
  setitimer(ITIMER_REAL, &often, NULL);
  int wrong = 0;
  for (int i = 0; i < 200 || alarms == 0; i++) {
    char *again = mmap(NULL, 4096, PROT_READ, MAP_SHARED, device, info.offset + 4096);
    if (again == MAP_FAILED || strcmp(again, "written") != 0 || munmap(again, 4096) != 0) wrong++;
  }
  setitimer(ITIMER_REAL, &never, NULL);
  printf("wrong %d, descriptors left %d\n", wrong, descriptors() - before);
  for (int i = 0; i < 1000 && traced(); i++) usleep(1000);
  printf("traced %d\n", traced());
  munmap(part, 4096);
  close(device);
  printf("device still open %s\n", ioctl(group, VFIO_GROUP_UNSET_CONTAINER) == 0 ? "no" : strerrorname_np(errno));
  munmap(memory, info.size);
  printf("device closed %s\n", ioctl(group, VFIO_GROUP_UNSET_CONTAINER) == 0 ? "yes" : strerrorname_np(errno));
  return 0;
}
