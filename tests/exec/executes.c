/*
 * Memory that was mapped for DMA, and the program that its process executes then: executes GROUP
 *
 * The second program maps memory at the addresses of the first one's. Its own memory must not
 * change by a DMA to the first one's mappings. Memory of a file stays reachable.
 */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { SIZE = 4096, DMA_SOURCE = 0x80, DMA_TARGET = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98 };
enum { PRIVATE_IOVA = 0x100000, SHARED_IOVA = 0x200000, OWN_BUFFER = 0x40000 };

static char *const place = (char *)0x200000000000;

static void store(int device, unsigned offset, uint64_t value) {
  if (pwrite(device, &value, 8, offset) != 8) perror("pwrite");
}

static void dma(int device, uint64_t from, uint64_t to, int command) {
  store(device, DMA_SOURCE, from);
  store(device, DMA_TARGET, to);
  store(device, DMA_COUNT, 16);
  store(device, DMA_COMMAND, command);
  for (uint64_t busy = 1; (busy & 1) != 0;) {
    if (pread(device, &busy, 8, DMA_COMMAND) != 8) return;
  }
}

static int second(int device, int file) {
  memset(mmap(place, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0), 'x', SIZE);
  dma(device, OWN_BUFFER, PRIVATE_IOVA, 3);
  puts(memcmp(place, "xxxxxxxxxxxxxxxx", 16) == 0 ? "the new program's memory is its own" : "the new program's memory has changed");
  dma(device, OWN_BUFFER, SHARED_IOVA, 3);
  char bytes[16] = "";
  if (pread(file, bytes, sizeof bytes, 0) > 0) printf("the file has: %s\n", bytes);
  return 0;
}

int main(int argc, char **argv) {
  if (argc == 3) return second(atoi(argv[1]), atoi(argv[2]));
  const int container = open("/dev/vfio/vfio", O_RDWR), group = open(argv[1], O_RDWR);
  ioctl(group, VFIO_GROUP_SET_CONTAINER, &container);
  ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  const int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, "0000:00:04.0");
  uint16_t command = 6;
  if (pwrite(device, &command, 2, ((off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40) + 4) != 2) return 1;
  fcntl(device, F_SETFD, 0);
  const int file = memfd_create("memory", 0);
  if (ftruncate(file, SIZE) != 0) return 1;
  mmap(place, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  char *shared = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  strcpy(place, "by the device");
  struct vfio_iommu_type1_dma_map map = {.argsz = sizeof map, .flags = 3, .vaddr = (uintptr_t)place, .iova = PRIVATE_IOVA, .size = SIZE};
  if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map) != 0) return 1;
  map.vaddr = (uintptr_t)shared;
  map.iova = SHARED_IOVA;
  if (ioctl(container, VFIO_IOMMU_MAP_DMA, &map) != 0) return 1;
  dma(device, PRIVATE_IOVA, OWN_BUFFER, 1);
  char numbers[2][16];
  snprintf(numbers[0], 16, "%d", device);
  snprintf(numbers[1], 16, "%d", file);
  execl("/proc/self/exe", argv[0], numbers[0], numbers[1], (char *)NULL);
  return 1;
}
