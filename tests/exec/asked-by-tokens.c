// asked-by-tokens.c: asks about tokens of virtual functions. It runs unmodified on any VFIO.
// usage: asked-by-tokens GROUP-OF-PF PF GROUP-OF-VF VF
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ONE "52ac9bff-3a88-4fbd-901a-0d767c3b6c97"
#define TWO "88594674-90a0-47a9-aea8-9d9b352ac08a"

/** Both functions are in one container, as the PF's driver and a tenant of the same process. */
static int container = -1;
static int pfGroup = -1;
static int vfGroup = -1;

static int answered(int result, const char *question, ...) {
  const int error = errno;
  va_list words;
  va_start(words, question);
  vprintf(question, words);
  va_end(words);
  if (result < 0) printf(" -> -1 %s(%d)\n", strerrorname_np(error), error);
  else printf(" -> ok\n");
  return result;
}

static int opened(const char *group) {
  char path[64];
  snprintf(path, sizeof path, "/dev/vfio/%s", group);
  const int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0 || ioctl(fd, VFIO_GROUP_SET_CONTAINER, &container) < 0) {
    perror(path);
    exit(3);
  }
  return fd;
}

/** Opens a function by name, with words after it. */
static int device(const char *who, int group, const char *bdf, const char *words) {
  char name[128];
  snprintf(name, sizeof name, "%s%s", bdf, words);
  return answered(ioctl(group, VFIO_GROUP_GET_DEVICE_FD, name), "%s, name%s", who, words);
}

static void closed(int fd, const char *who) {
  if (fd >= 0) answered(close(fd), "  close of %s", who);
}

/** SET, GET or PROBE of the feature, with a token of 16 equal bytes. */
static void feature(int fd, const char *who, const char *how, uint32_t flags, int byte, size_t size) {
  struct {
    struct vfio_device_feature head;
    uint8_t token[16];
  } request;
  memset(&request, 0, sizeof request);
  request.head.argsz = sizeof request.head + size;
  request.head.flags = flags | VFIO_DEVICE_FEATURE_PCI_VF_TOKEN;
  memset(request.token, byte, sizeof request.token);
  answered(ioctl(fd, VFIO_DEVICE_FEATURE, &request), "%s, VF_TOKEN %s", who, how);
}

int main(int count, char **words) {
  if (count != 5) return 2;
  const char *pf = words[2], *vf = words[4];
  container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
  pfGroup = opened(words[1]);
  if (ioctl(container, VFIO_SET_IOMMU, (long)VFIO_TYPE1v2_IOMMU) < 0) return 3;
  vfGroup = opened(words[3]);

  printf("# the PF was not opened yet\n");
  closed(device("VF", vfGroup, vf, ""), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=" ONE), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=00000000-0000-0000-0000-000000000000"), "VF");

  printf("# the PF is opened with a token\n");
  int physical = device("PF", pfGroup, pf, " vf_token=" ONE);
  closed(device("VF", vfGroup, vf, ""), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=" TWO), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=" ONE), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=52AC9BFF-3A88-4FBD-901A-0D767C3B6C97"), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=52ac9bff3a884fbd901a0d767c3b6c97"), "VF");
  closed(device("VF", vfGroup, vf, " vf_token="), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=" ONE "0"), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=" ONE " "), "VF");
  closed(device("VF", vfGroup, vf, "  vf_token=" ONE), "VF");
  closed(device("VF", vfGroup, vf, " "), "VF");
  closed(device("VF", vfGroup, vf, " token=" ONE), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=" ONE " vf_token=" TWO), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=" ONE " x=1"), "VF");

  printf("# the feature\n");
  feature(physical, "PF", "PROBE SET", VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET, 0, 16);
  feature(physical, "PF", "PROBE GET", VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_GET, 0, 16);
  feature(physical, "PF", "PROBE", VFIO_DEVICE_FEATURE_PROBE, 0, 16);
  feature(physical, "PF", "GET", VFIO_DEVICE_FEATURE_GET, 0, 16);
  feature(physical, "PF", "SET of 15 bytes", VFIO_DEVICE_FEATURE_SET, 0x11, 15);
  feature(physical, "PF", "SET", VFIO_DEVICE_FEATURE_SET, 0x11, 16);
  closed(device("VF", vfGroup, vf, " vf_token=" ONE), "VF");
  int tenant = device("VF", vfGroup, vf, " vf_token=11111111-1111-1111-1111-111111111111");
  feature(tenant, "VF", "PROBE SET", VFIO_DEVICE_FEATURE_PROBE | VFIO_DEVICE_FEATURE_SET, 0, 16);
  feature(tenant, "VF", "SET", VFIO_DEVICE_FEATURE_SET, 0x22, 16);

  printf("# while the VF is open\n");
  feature(physical, "PF", "SET", VFIO_DEVICE_FEATURE_SET, 0x33, 16);
  closed(device("VF again", vfGroup, vf, " vf_token=11111111-1111-1111-1111-111111111111"), "VF");
  closed(device("VF again", vfGroup, vf, " vf_token=33333333-3333-3333-3333-333333333333"), "VF");
  closed(device("PF again", pfGroup, pf, ""), "PF");
  closed(device("PF again", pfGroup, pf, " vf_token=" TWO), "PF");
  closed(device("PF again", pfGroup, pf, " vf_token=33333333-3333-3333-3333-333333333333"), "PF");
  closed(physical, "PF");
  closed(device("PF", pfGroup, pf, ""), "PF");
  closed(device("PF", pfGroup, pf, " vf_token=" TWO), "PF");
  physical = device("PF", pfGroup, pf, " vf_token=33333333-3333-3333-3333-333333333333");
  closed(tenant, "VF");

  printf("# while no VF is open\n");
  closed(device("PF again", pfGroup, pf, ""), "PF");
  closed(physical, "PF");
  closed(device("VF", vfGroup, vf, " vf_token=33333333-3333-3333-3333-333333333333"), "VF");
  closed(device("PF", pfGroup, pf, ""), "PF");
  closed(device("VF", vfGroup, vf, " vf_token=33333333-3333-3333-3333-333333333333"), "VF");
  closed(device("PF", pfGroup, pf, " vf_token=" TWO), "PF");
  closed(device("VF", vfGroup, vf, " vf_token=33333333-3333-3333-3333-333333333333"), "VF");
  closed(device("VF", vfGroup, vf, " vf_token=" TWO), "VF");
  return 0;
}
