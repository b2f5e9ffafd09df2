/* Stores to each of the first COUNT registers of BAR 0, and prints the id then: pokes BDF COUNT */
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

int main(int argc, char **argv) {
  if (argc < 3) return 2;
  char path[128], link[128], group_path[64];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/iommu_group", argv[1]);
  const ssize_t length = readlink(path, link, sizeof link - 1);
  if (length < 0) return 1;
  link[length] = '\0';
  snprintf(group_path, sizeof group_path, "/dev/vfio/%.32s", strrchr(link, '/') + 1);
  const int container = open("/dev/vfio/vfio", O_RDWR), group = open(group_path, O_RDWR);
  ioctl(group, VFIO_GROUP_SET_CONTAINER, &container);
  ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU);
  const int device = ioctl(group, VFIO_GROUP_GET_DEVICE_FD, argv[1]);
  const off_t config = (off_t)VFIO_PCI_CONFIG_REGION_INDEX << 40;
  uint32_t word = 6;
  if (pwrite(device, &word, 2, config + 4) != 2) return 1;
  for (int i = 0; i < atoi(argv[2]); i++) {
    if (pwrite(device, &word, 4, 4 * i) != 4) perror("pwrite");
    /* The model fails a moment later. */
    usleep(20000);
  }
  if (pread(device, &word, 4, config) != 4) return 1;
  printf("id %08x\n", word);
  return 0;
}
