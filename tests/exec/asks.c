/*
 * A client of VFIO, on a machine with edu at 0000:00:04.0 in group GROUP: asks the way that every
 * client does, and prints what it gets.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MEMORY = 1 << 16, DMA_SOURCE = 0x80, DMA_TARGET = 0x88, DMA_COUNT = 0x90, DMA_COMMAND = 0x98, RAISE = 0x60, STATUS = 0x24, ACKNOWLEDGE = 0x64 };

static int device;
static unsigned long long bar, config;

static int said(const char *what, int result) {
  printf("%s %s\n", what, result < 0 ? strerrorname_np(errno) : "ok");
  return result;
}

static void store(unsigned offset, unsigned long long value, size_t size) {
  if (pwrite(device, &value, size, bar + offset) != (ssize_t)size) said("store", -1);
}

static void dma(unsigned long long from, unsigned long long to, unsigned count, int command) {
  store(DMA_SOURCE, from, 8);
  store(DMA_TARGET, to, 8);
  store(DMA_COUNT, count, 8);
  store(DMA_COMMAND, command, 8);
  for (unsigned long long busy = 1; busy != 0;) {
    if (pread(device, &busy, 8, bar + DMA_COMMAND) != 8) break;
    busy &= 1;
  }
}

/* Memory to the device's buffer and back, at another place. */
static void copies(const char *kind, int container, char *memory) {
  struct vfio_iommu_type1_dma_map map = {.argsz = sizeof map, .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE, .vaddr = (unsigned long)memory, .iova = 0x10000, .size = MEMORY};
  if (said("MAP_DMA", ioctl(container, VFIO_IOMMU_MAP_DMA, &map)) != 0) return;
  strcpy(memory + 100, "through the device");
  dma(0x10000 + 100, 0x40000, 32, 1);
  dma(0x40000, 0x10000 + 5000, 32, 3);
  printf("%s memory: %s\n", kind, memory + 5000);
  struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = 0x10000, .size = MEMORY};
  said("UNMAP_DMA", ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap));
  printf("unmapped %llu\n", (unsigned long long)unmap.size);
}

int main(int argc, char **argv) {
  if (argc < 2) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  const int container = said("container", open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
  printf("version %d\n", ioctl(container, VFIO_GET_API_VERSION));
  const int group = said("group", open(argv[1], O_RDWR));
  said("bad pointer", ioctl(group, VFIO_GROUP_GET_STATUS, (void *)16));
  struct vfio_group_status status = {.argsz = sizeof status};
  said("GET_STATUS", ioctl(group, VFIO_GROUP_GET_STATUS, &status));
  printf("viable %d\n", (int)status.flags);
  said("SET_CONTAINER", ioctl(group, VFIO_GROUP_SET_CONTAINER, &container));
  said("SET_IOMMU", ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU));
  device = said("GET_DEVICE_FD", ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argc > 2 ? argv[2] : "0000:00:04.0"));
  struct vfio_region_info info = {.argsz = sizeof info, .index = VFIO_PCI_BAR0_REGION_INDEX};
  said("REGION_INFO", ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info));
  bar = info.offset;
  info = (struct vfio_region_info){.argsz = sizeof info, .index = VFIO_PCI_CONFIG_REGION_INDEX};
  said("REGION_INFO", ioctl(device, VFIO_DEVICE_GET_REGION_INFO, &info));
  config = info.offset;
  unsigned id = 0;
  if (pread(device, &id, 4, config) == 4) printf("id %08x\n", id);
  unsigned short command = 6;
  if (pwrite(device, &command, 2, config + 4) == 2) printf("bus master\n");
  if (pread(device, &id, 4, bar) == 4) printf("edu %08x\n", id);
  said("read into nowhere", syscall(SYS_pread64, device, 16L, 4L, bar));

  copies("anonymous", container, mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const int file = memfd_create("memory", MFD_CLOEXEC);
  if (ftruncate(file, MEMORY) != 0) return 1;
  copies("shared", container, mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));

  const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  union {
    struct vfio_irq_set set;
    char room[sizeof(struct vfio_irq_set) + 4];
  } irq = {.set = {.argsz = sizeof irq, .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER, .index = VFIO_PCI_INTX_IRQ_INDEX, .count = 1}};
  memcpy(irq.set.data, &event, 4);
  said("SET_IRQS", ioctl(device, VFIO_DEVICE_SET_IRQS, &irq));
  store(RAISE, 5, 4);
  unsigned long long count = 0;
  if (read(event, &count, 8) == 8) printf("interrupts %llu\n", count);
  memcpy(irq.set.data, &container, 4);
  said("SET_IRQS of a container", ioctl(device, VFIO_DEVICE_SET_IRQS, &irq));

  said("a second open", open(argv[1], O_RDWR));
  const int copy = dup(device);
  close(device);
  close(group);
  printf("read by a copy %zd\n", pread(copy, &id, 4, config));
  said("an open device's group", open(argv[1], O_RDWR));
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", copy);
  said("by its descriptor", open(path, O_RDWR));
  printf("read by a copy %zd\n", pread(copy, &id, 4, config));
  close(copy);
  said("after the last close", open(argv[1], O_RDWR));
  return 7;
}
