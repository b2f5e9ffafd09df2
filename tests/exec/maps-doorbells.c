/*
 * A client of VFIO that maps BAR 0 of an NVMe controller: registers in the first page, doorbells in
 * the second. Its arguments are GROUP and BDF. Prints what it gets.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { VERSION = 2, CONFIGURATION = 5, STATUS = 7, DOORBELLS = 1024 };

/* Whether the address is in a file with bytes: memory, not the stand-in of the device. */
static const char *kind_of(const volatile void *address) {
  const char *kind = "not mapped";
  char line[512];
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps) != NULL) {
    unsigned long first, end;
    if (sscanf(line, "%lx-%lx", &first, &end) != 2 || (unsigned long)address < first || (unsigned long)address >= end) continue;
    kind = strstr(line, "memfd:vfio-device") != NULL ? "registers" : "memory";
  }
  fclose(maps);
  return kind;
}

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  int container = open("/dev/vfio/vfio", O_RDWR);
  const int group = open(argv[1], O_RDWR);
  if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) != 0 || ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) return 3;
  const int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[2]);
  struct vfio_region_info info = {.argsz = sizeof info, .index = VFIO_PCI_BAR0_REGION_INDEX};
  struct vfio_region_info config = {.argsz = sizeof config, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  if (ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info) != 0 || ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &config) != 0) return 4;
  printf("mappable %d\n", (info.flags & VFIO_REGION_INFO_FLAG_MMAP) != 0);
  const unsigned short command = 2;
  pwrite(device, &command, 2, config.offset + 4);
  volatile uint32_t *registers = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, device, info.offset);
  if (registers == MAP_FAILED) {
    printf("mmap %s\n", strerrorname_np(errno));
    return 0;
  }
  volatile uint32_t *doorbells = mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, device, info.offset + 4096);
  printf("%s, %s; %s\n", kind_of(registers), kind_of(registers + DOORBELLS), kind_of(doorbells));
  printf("version %x\n", registers[VERSION]);
  close(device);
  munmap((void *)registers, 4096);
  printf("device still open %s\n", ioctl(group, VFIO_GROUP_UNSET_CONTAINER) == 0 ? "no" : strerrorname_np(errno));
  munmap((void *)(registers + DOORBELLS), 4096);
  munmap((void *)doorbells, 4096);
  printf("device closed %s\n", ioctl(group, VFIO_GROUP_UNSET_CONTAINER) == 0 ? "yes" : strerrorname_np(errno));
  return 0;
}
