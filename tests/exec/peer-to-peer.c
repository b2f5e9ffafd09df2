/*
 * Two devices of edu, A in GROUP1 and B in GROUP2, in one container: A does DMA into B's registers,
 * which this program has mapped. Arguments: GROUP1 BDF1 GROUP2 BDF2. Prints what it gets.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { LIVENESS = 4, SOURCE = 0x80, DESTINATION = 0x88, COUNT = 0x90, COMMAND = 0x98, START = 1, TO_MEMORY = 2 };
enum { BUFFER = 0x40000, MEMORY_IOVA = 0x10000, REGISTERS_IOVA = 0x100000, PAGE = 4096 };

static int device[2];
static off_t config[2];

static void command(int i, uint16_t value) {
  if (pwrite(device[i], &value, 2, config[i] + 4) != 2) printf("no command\n");
}

static void set(off_t at, uint64_t value) {
  if (pwrite(device[0], &value, 8, at) != 8) printf("no register\n");
}

static void dma(uint64_t source, uint64_t destination, uint64_t flags) {
  set(SOURCE, source);
  set(DESTINATION, destination);
  set(COUNT, 4);
  set(COMMAND, START | flags);
  uint64_t left = START;
  for (int i = 0; i < 1000 && (left & START) != 0; i++) {
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    if (pread(device[0], &left, 8, COMMAND) != 8) printf("no register\n");
  }
}

static const char *result(int returned) {
  return returned == 0 ? "ok" : strerrorname_np(errno);
}

int main(int argc, char **argv) {
  if (argc < 5) return 2;
  setvbuf(stdout, NULL, _IOLBF, 0);
  int container = open("/dev/vfio/vfio", O_RDWR);
  for (int i = 0; i < 2; i++) {
    const int group = open(argv[1 + 2 * i], O_RDWR);
    if (ioctl(group, VFIO_GROUP_SET_CONTAINER, &container) != 0) return 3;
    if (i == 0 && ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0) return 3;
    device[i] = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[2 + 2 * i]);
    struct vfio_region_info info = {.argsz = sizeof info, .index = VFIO_PCI_CONFIG_REGION_INDEX};
    if (ioctl(device[i], VFIO_DEVICE_GET_REGION_INFO, &info) != 0) return 4;
    config[i] = info.offset;
    command(i, 6);
  }
  const int both = PROT_READ | PROT_WRITE;
  volatile uint32_t *memory = mmap(NULL, PAGE, both, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  volatile uint32_t *registers = mmap(NULL, PAGE, both, MAP_SHARED, device[1], 0);
  const uint32_t access = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE;
  struct vfio_iommu_type1_dma_map of_memory = {sizeof of_memory, access, (uintptr_t)memory, MEMORY_IOVA, PAGE};
  struct vfio_iommu_type1_dma_map of_registers = {sizeof of_registers, access, (uintptr_t)registers, REGISTERS_IOVA, PAGE};
  printf("memory %s\n", result(ioctl(container, VFIO_IOMMU_MAP_DMA, &of_memory)));
  printf("registers %s\n", result(ioctl(container, VFIO_IOMMU_MAP_DMA, &of_registers)));
  printf("identification %08x\n", registers[0]);

  memory[0] = 0x12345678;
  dma(MEMORY_IOVA, BUFFER, 0);
  dma(BUFFER, REGISTERS_IOVA + LIVENESS, TO_MEMORY);
  printf("written %08x\n", registers[LIVENESS / 4]);
  dma(REGISTERS_IOVA + LIVENESS, BUFFER, 0);
  dma(BUFFER, MEMORY_IOVA, TO_MEMORY);
  printf("read %08x\n", memory[0]);

  command(1, 0);
  memory[0] = 0;
  dma(MEMORY_IOVA, BUFFER, 0);
  dma(BUFFER, REGISTERS_IOVA + LIVENESS, TO_MEMORY);
  command(1, 6);
  printf("without memory decoding %08x\n", registers[LIVENESS / 4]);

  struct vfio_iommu_type1_dma_unmap unmap = {.argsz = sizeof unmap, .iova = REGISTERS_IOVA, .size = PAGE};
  printf("unmap %s\n", result(ioctl(container, VFIO_IOMMU_UNMAP_DMA, &unmap)));
  munmap((void *)registers, PAGE);
  struct vfio_device_info still = {.argsz = sizeof still};
  printf("device %s\n", result(ioctl(device[1], VFIO_DEVICE_GET_INFO, &still)));
  return 0;
}
